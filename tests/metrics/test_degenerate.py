"""Draws that are nearly, or quite, degenerate: a figure where there is one, else a reason."""

import numpy as np
import pytest

from dncbench import registry
from dncbench.errors import DrawsError
from dncbench.metrics.sample import Figure, Sample, read

NUM_DRAWS = 1000
METRICS = [entry.name for entry in registry.entries("metric") if entry.reads == ("values",)]
every_metric = pytest.mark.parametrize("name", METRICS)


def sample(values: np.ndarray) -> Sample:
    return Sample(values, float(len(values)), values, lambda eta: -eta)


def correlated(rng: np.random.Generator, gap: float, num_draws: int = NUM_DRAWS) -> np.ndarray:
    """Two coordinates of correlation 1 - gap²/2, to first order."""
    z = rng.standard_normal((num_draws, 2))
    return np.column_stack([z[:, 0], z[:, 0] + gap * z[:, 1]])


def unlike(rng: np.random.Generator) -> tuple[Sample, Sample]:
    """A merge that every metric sees, and a reference."""
    skewed = rng.gamma(2.0, 1.0, (NUM_DRAWS, 2))
    return sample(skewed), sample(rng.standard_normal((NUM_DRAWS, 2)))


def figure(name: str, *samples: Sample) -> Figure:
    found = read(registry.get("metric", name), *samples)
    assert found is not None
    assert np.all(np.isfinite(found))
    return found


# ---------------------------------------------------------------- figures


@every_metric
@pytest.mark.parametrize("gap", [0.0141, 1e-4])  # correlations of .9999 and 1 - 5e-9
def test_strong_correlation_is_no_obstacle(name: str, gap: float) -> None:
    rng = np.random.default_rng(1)
    figure(name, sample(correlated(rng, gap)), sample(correlated(rng, gap)))


@pytest.mark.parametrize("gap", [1.0, 0.0141, 1e-4, 1e-7])
def test_c2st_is_that_of_the_whitened_draws(gap: float) -> None:
    rng = np.random.default_rng(2)
    a, f = 0.3 + rng.standard_normal((NUM_DRAWS, 2)), rng.standard_normal((NUM_DRAWS, 2))
    into = np.array([[1.0, 1.0], [0.0, gap]])
    # Draws near the boundary may change sides by rounding: one in a thousand or two.
    plain = figure("c2st", sample(a), sample(f)).value
    assert figure("c2st", sample(a @ into), sample(f @ into)).value == pytest.approx(
        plain, abs=2 / NUM_DRAWS
    )


@pytest.mark.parametrize("far", [0.0, 1e9], ids=["", "offset"])
def test_c2st_passes_over_a_coordinate_that_is_a_function_of_another(far: float) -> None:
    rng = np.random.default_rng(3)
    a, f = 0.3 + rng.standard_normal((NUM_DRAWS, 1)), rng.standard_normal((NUM_DRAWS, 1))
    twice = [sample(far + np.column_stack([values, 3 * values])) for values in (a, f)]
    plain = figure("c2st", sample(far + a), sample(far + f)).value
    # What rounding at 1e9 leaves of the second coordinate is noise, alike in both samples: a
    # further feature of no use, and its shares move by their own standard error at most.
    slack = 1 / NUM_DRAWS if far == 0.0 else 2 * np.sqrt(0.5 / NUM_DRAWS)
    assert figure("c2st", *twice).value == pytest.approx(plain, abs=slack)


@pytest.mark.parametrize("width", [1e-3, 1e-9, 0.0])
def test_c2st_tells_a_merge_that_has_shrunk_to_a_line(width: float) -> None:
    rng = np.random.default_rng(4)
    found = figure("c2st", sample(correlated(rng, width)), sample(correlated(rng, 1.0)))
    # True draws fall into a slit of a thousandth of their sd one time in 500.
    assert found.value > 0.98


@every_metric
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1e9), (1e100, 0.0), (1e-100, 0.0)])
def test_units_do_not_matter(name: str, scale: float, offset: float) -> None:
    a, f = unlike(np.random.default_rng(5))
    plain = figure(name, a, f)
    moved = [sample(offset + scale * each.values) for each in (a, f)]
    # At 1e9 a draw is rounded to 1e-7 sds.
    assert figure(name, *moved).value == pytest.approx(plain.value, rel=1e-4, abs=2 / NUM_DRAWS)


@every_metric
def test_draws_that_repeat_are_draws(name: str) -> None:
    a, f = unlike(np.random.default_rng(6))
    once = figure(name, a, f).value
    repeated = figure(name, sample(np.repeat(a.values, 3, axis=0)), f).value
    # Three times the number narrows the kernel of the IAD to 3^(-1/5) of its width.
    assert repeated == pytest.approx(once, rel=0.25)


# ---------------------------------------------------------------- reasons


NEED_A_COVARIANCE = ["mah", "sw2", "mmd", "energy", "cov", "eig-min", "eig-max"]


@pytest.mark.parametrize("name", [*NEED_A_COVARIANCE, "ksd"])
def test_a_reference_without_a_covariance_is_named_as_the_reason(name: str) -> None:
    rng = np.random.default_rng(7)
    flat, round_ = sample(correlated(rng, 0.0)), sample(correlated(rng, 1.0))
    with pytest.raises(DrawsError, match=rf"metric '{name}' has no value: the reference's draws"):
        read(registry.get("metric", name), round_, flat)


@pytest.mark.parametrize("name", ["mah", "cov", "sw2"])
def test_a_coordinate_that_stands_still_is_named(name: str) -> None:
    values = np.random.default_rng(8).standard_normal((NUM_DRAWS, 2))
    stuck = sample(values * [1.0, 0.0])
    with pytest.raises(DrawsError, match="coordinate 1 of the reference's draws is constant"):
        read(registry.get("metric", name), sample(values), stuck)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "c2st"])
@pytest.mark.parametrize("num_draws", [1, 2, 19])
def test_too_few_draws_for_a_jackknife_are_said_to_be(name: str, num_draws: int) -> None:
    rng = np.random.default_rng(9)
    few = sample(rng.standard_normal((num_draws, 2)))
    for samples in (few, unlike(rng)[1]), (unlike(rng)[0], few):
        with pytest.raises(DrawsError, match=f"{num_draws} draws are too few"):
            read(registry.get("metric", name), *samples)


def test_numbers_too_large_to_be_squared_are_said_to_be() -> None:
    samples = [sample(1e200 * each.values) for each in unlike(np.random.default_rng(10))]
    with pytest.raises(DrawsError, match="not all finite, or too large to be squared"):
        read(registry.get("metric", "mah"), *samples)
