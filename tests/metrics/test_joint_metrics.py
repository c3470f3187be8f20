"""Joint metrics against closed forms of Gaussians, and what each of them must and must not see."""

import functools
import itertools

import numpy as np
import pytest

from dncbench import registry
from dncbench.metrics import transport
from dncbench.metrics.sample import Sample, read

NUM_DRAWS = 4000
DIM = 3
PERMUTATIONS = np.array(list(itertools.permutations(range(DIM))))


def metric(name: str):
    return registry.get("metric", name).target


def sample(values: np.ndarray) -> Sample:
    return Sample(values, float(len(values)), values, lambda eta: -eta, PERMUTATIONS)


def normal(seed: int, mean: float = 0.0, scale: float = 1.0) -> Sample:
    rng = np.random.default_rng(seed)
    return sample(mean + scale * rng.standard_normal((NUM_DRAWS, DIM)))


@functools.cache
def floor(name: str) -> tuple[float, float]:
    """Mean and sd of ten readings of perfect samples."""
    readings = [metric(name)(normal(10 + i), normal(40 + i)).value for i in range(10)]
    return float(np.mean(readings)), float(np.std(readings, ddof=1))


@pytest.mark.parametrize(
    ("name", "mean", "scale", "expected"),
    [
        # |mean difference| of √3 sds along a fixed direction projects to 1 on average (rms).
        ("sw2", 1.0, 1.0, 1.0),
        ("sw2", 0.0, 1.5, 0.5),  # W2 of N(0, 1.5²) and N(0, 1)
        ("cov", 0.0, 1.5, 1.25),  # 1.5² - 1 in every direction
        ("eig-max", 0.0, 1.5, np.log(2.25)),
        ("eig-min", 0.0, 1.5, np.log(2.25)),
        ("eig-min", 0.0, 0.5, np.log(4.0)),
        # Coverage of central 50, 80 and 95% intervals of N(0, 2²) by N(0, 1).
        ("coverage", 0.0, 2.0, np.mean([0.8226 - 0.5, 0.9896 - 0.8, 0.99991 - 0.95])),
    ],
)
def test_reads_the_closed_form(name: str, mean: float, scale: float, expected: float) -> None:
    figure = metric(name)(normal(1, mean, scale), normal(2))
    # Five jackknife standard errors, and the noise floor that a distance adds to its value.
    assert abs(figure.value - expected) < 5 * figure.standard_error + floor(name)[0] ** 2


def test_mmd_is_that_of_two_gaussians() -> None:
    # E exp(-|x - y|²/2h²) of N(m, C) - N(0, I) is |I + C'/h²|^(-1/2) exp(-mᵀ(h² I + C')⁻¹m/2).
    a, f = normal(1, mean=0.5), normal(2)
    figure = metric("mmd")(a, f)
    between = np.linalg.norm(f.values[:1000, None] - f.values[None, :1000], axis=-1)
    width = np.median(between[np.triu_indices(1000, 1)]) ** 2
    same = (1 + 2 / width) ** (-DIM / 2)
    apart = same * np.exp(-0.5 * 3 * 0.25 / (width + 2))
    assert figure.value == pytest.approx(
        np.sqrt(2 * same - 2 * apart), abs=5 * figure.standard_error
    )


SEEN = {
    "wider": ["sw2", "mmd", "energy", "ksd", "c2st", "cov", "coverage"],
    "shifted": ["sw2", "mmd", "energy", "ksd", "c2st", "coverage"],  # no shift in second moments
}


@pytest.mark.parametrize(
    ("wrong", "name"), [(w, name) for w, names in SEEN.items() for name in names]
)
def test_sees_a_wrong_merge(wrong: str, name: str) -> None:
    merge = normal(1, scale=1.3) if wrong == "wider" else normal(1, mean=0.3)
    figure = metric(name)(merge, normal(2))
    mean, spread = floor(name)
    assert figure.value > mean + 5 * spread


@pytest.mark.parametrize("name", ["sw2", "mmd", "energy", "cov", "c2st"])
def test_does_not_depend_on_units(name: str) -> None:
    rng = np.random.default_rng(5)
    mix, shift = rng.normal(size=(DIM, DIM)), np.array([500.0, -3.0, 0.0])
    a, f = normal(1, mean=0.3), normal(2)
    moved = [sample(s.values @ mix.T * np.array([1.0, 1e-3, 1e3]) + shift) for s in (a, f)]
    if name in ("sw2", "energy", "mmd", "cov"):
        # Another whitening is a rotation; sliced directions are then others. The mean of
        # cos² over 100 of them has a relative sd of 0.09, its root one of 0.045.
        tolerance = 0.1 if name == "sw2" else 1e-3
    else:
        tolerance = 1e-9
    before, after = metric(name)(a, f).value, metric(name)(*moved).value
    assert after == pytest.approx(before, rel=tolerance)


def test_sliced_and_kernel_metrics_see_a_correlation_that_marginals_hide() -> None:
    rng = np.random.default_rng(6)
    covariance = np.full((DIM, DIM), 0.6) + 0.4 * np.eye(DIM)
    a = sample(rng.multivariate_normal(np.zeros(DIM), covariance, NUM_DRAWS))
    for name in ("sw2", "mmd", "energy", "ksd", "cov", "c2st"):
        mean, spread = floor(name)
        assert metric(name)(a, normal(2)).value > mean + 5 * spread, name
    iad = metric("iad")
    assert iad(a, normal(2)).value < 2 * iad(normal(3), normal(2)).value


def test_mode_weights_count_the_orders() -> None:
    f = normal(1)
    one_mode = sample(np.sort(normal(2).values, axis=1))
    assert metric("modes")(one_mode, f).value == pytest.approx(5 / 6, abs=0.02)
    swapped = sample(f.values[:, [1, 0, 2]])
    assert metric("modes")(swapped, f).value < 0.03


@pytest.mark.parametrize(("dim", "shift"), [(2, 0.3), (20, 0.3), (20, 0.0)])
def test_the_error_of_sw2_counts_its_directions(dim: int, shift: float) -> None:
    # The same two samples, read along many sets of directions: the jackknife sees none of it.
    rng, sets, directions = np.random.default_rng(8), 60, 100
    a, f = rng.standard_normal((2, 2000, dim))
    a[:, 0] += shift
    values, errors = [], []
    for _ in range(sets):
        along = rng.standard_normal((dim, directions))
        along /= np.linalg.norm(along, axis=0)
        gaps = np.sort(a @ along, axis=0) - np.sort(f @ along, axis=0)
        squared = np.mean(gaps**2, axis=0)
        values.append(np.sqrt(squared.mean()))
        errors.append(transport.error_of_directions(squared))
    # The sd over the sets has a relative error of 1/sqrt(2 (sets - 1)), 9 %.
    claimed = np.sqrt(np.mean(np.square(errors)))
    assert np.std(values, ddof=1) / claimed == pytest.approx(1.0, abs=4 * 0.092)
    assert claimed > 0.01 * np.mean(values)


def test_the_error_of_sw2_holds_that_of_its_directions() -> None:
    a, f = normal(1, mean=0.3), normal(2)
    alike = metric("sw2")(a, f).standard_error
    pair = tuple(Sample(s.values, 1e12) for s in (a, f))  # draws without an error
    of_directions = metric("sw2")(*pair).standard_error
    assert 0.01 * metric("sw2")(a, f).value < of_directions < alike
    # One coordinate has one direction.
    line = tuple(Sample(s.values[:, :1], 1e12) for s in (a, f))
    assert metric("sw2")(*line).standard_error < 1e-4 * metric("sw2")(*line).value


@pytest.mark.parametrize("name", ["ksd", "modes"])
def test_says_nothing_where_it_does_not_apply(name: str) -> None:
    entry = registry.get("metric", name)
    plain = Sample(normal(1).values, float(NUM_DRAWS))
    for pair in ((plain, normal(2)), (normal(2), plain)):
        assert read(entry, *pair) is None


def test_the_two_integrated_distances_agree_but_for_the_grid() -> None:
    a, f = normal(1, mean=0.3), normal(2)
    assert metric("iad-128")(a, f).value == pytest.approx(metric("iad")(a, f).value, abs=2e-3)
    wide = normal(3, scale=60.0)
    assert abs(metric("iad-128")(wide, f).value - metric("iad")(wide, f).value) > 0.01
