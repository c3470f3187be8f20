"""The authors' own data, regenerated from their seeds."""

import numpy as np
import pytest

from dncbench import registry
from dncbench.errors import DataError, UnknownNameError
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.problems._published import checked, checksum
from dncbench.running.plan import published
from dncbench.splits import assign


def data_of(name: str, **settings):
    return load_data(
        registry.get("problem", name).target(published=True, **settings), derive_key(0)
    )


def test_toy_logistic_has_ninety_positives_in_990() -> None:
    # Counted in the authors' data; JAX's present stream gives 104.
    y = np.asarray(data_of("toy-logistic").train["y"])
    assert (len(y), y.sum()) == (990, 90)


def test_logistic_100d_has_the_published_rate_in_every_shard() -> None:
    data = data_of("logistic-100d")
    y = np.asarray(data.train["y"])
    assert y.mean() == pytest.approx(0.328)
    shard_of = assign("in-order", derive_key(0), len(y), 4)
    rates = [y[shard_of == shard].mean() for shard in range(4)]
    np.testing.assert_allclose(rates, [0.344, 0.304, 0.332, 0.332])


def test_data_sets_differ() -> None:
    rates = [float(np.mean(data_of("logistic-100d", dataset=k).train["y"])) for k in range(5)]
    assert len(set(rates)) == 5
    with pytest.raises(UnknownNameError, match="data sets 0 to 4"):
        data_of("logistic-100d", dataset=5)


def test_other_data_are_refused() -> None:
    x = np.linspace(0, 1, 50)
    assert checked("made", {"x": x}, {"x": checksum(x)})["x"].dtype == np.float64
    with pytest.raises(DataError, match="does not regenerate the published data"):
        checked("made", {"x": x[::-1]}, {"x": checksum(x)})


def test_published_cases_are_split_in_order() -> None:
    case = published("toy-logistic")
    assert (case.problem, case.splits, case.scheme) == (
        "toy-logistic[published=True]",
        1,
        "in-order",
    )
    with pytest.raises(UnknownNameError, match="no published simulation"):
        published("spambase-twin")
