"""Laws that a merge tells beside its own: taken out of what is recorded, and held to be laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench import Method
from dncbench.errors import DrawsError
from dncbench.merging.run import run_method
from dncbench.method import Shard
from dncbench.space import Codes, Real

CODES = Codes(("number",), "codes", 3, lambda codes: codes[:, None].astype(float))
LAWS = np.array([[0.2, 0.3, 0.5], [0.1, 0.0, 0.9]])


class _Telling(Method):
    """Draws the first object, and tells what it is given."""

    told: dict

    spaces = frozenset({"codes", "real"})
    untraced = frozenset({"fit", "merge"})

    def fit(self, shard, key):
        return shard.values

    def merge(self, messages, key, num_draws):
        return messages[0, :num_draws], dict(self.told)


def merged(told, space=CODES, values=None):
    values = jnp.zeros((2, 5), int) if values is None else values
    shards = Shard(values=values, ess=jnp.full(2, 5.0), num_shards=2)
    return run_method(_Telling(told), "telling", shards, jax.random.key(0), 5, space)


def test_laws_are_not_recorded() -> None:
    with np.errstate(divide="ignore"):
        result = merged({"client_log_probs": np.log(LAWS), "laws": LAWS[:1], "kept": 1.0})
    assert result.client_log_probs is not None
    np.testing.assert_allclose(np.exp(result.client_log_probs), LAWS)
    np.testing.assert_array_equal(result.laws, LAWS[:1])
    assert result.info["kept"] == 1.0
    assert {"client_log_probs", "laws"}.isdisjoint(result.info)


def test_none_are_told_by_most() -> None:
    result = merged({})
    assert result.client_log_probs is None
    assert result.laws is None


def test_of_points_an_entry_of_that_name_is_like_any_other() -> None:
    values = jax.random.normal(jax.random.key(1), (2, 5, 1))
    result = merged({"laws": [1.0, 2.0]}, Real(("x",), "unconstrained"), values)
    assert result.info["laws"] == [1.0, 2.0]
    assert result.laws is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"laws": LAWS[0]}, r"'telling': laws has shape \(3,\), not \(1, 3\)"),
        ({"laws": LAWS[:, :2]}, r"laws has shape \(2, 2\), not \(2, 3\)"),
        ({"laws": 0.9 * LAWS}, "laws has a row that is no law"),
        ({"laws": LAWS + np.array([[0.2, -0.2, 0.0]])}, "laws has a row that is no law"),
        ({"laws": np.full((1, 3), np.nan)}, "laws has a row that is no law"),
        (
            {"client_log_probs": np.zeros((3, 3))},
            r"client_log_probs has shape \(3, 3\), not",
        ),
        ({"client_log_probs": np.zeros((2, 3))}, "client_log_probs has a row that is no law"),
    ],
)
def test_what_is_no_law_is_refused(told, message) -> None:
    with pytest.raises(DrawsError, match=message):
        merged(told)
