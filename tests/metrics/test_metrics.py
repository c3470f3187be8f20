"""Discrepancies of location and marginals against closed forms, SciPy, null laws and replicates."""

import numpy as np
import pytest
from scipy import stats

from dncbench.metrics.discrepancy import (
    integrated_absolute_distance,
    mahalanobis,
    skew_deviation,
)
from dncbench.metrics.ranks import rank_distance
from dncbench.metrics.sample import Sample

METRICS = {
    "mah": mahalanobis,
    "iad": integrated_absolute_distance,
    "iad-rank": rank_distance,
    "skew": skew_deviation,
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


def sample(values: np.ndarray, ess: float | None = None) -> Sample:
    return Sample(values, float(len(values) if ess is None else ess))


def correlated(rng: np.random.Generator, num_draws: int, dim: int) -> np.ndarray:
    root = np.tril(np.ones((dim, dim))) + np.eye(dim)
    return rng.standard_normal((num_draws, dim)) @ root.T


def skewed_pair(rng: np.random.Generator, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """A sample that every metric finds far from its reference, so that none is at its kink."""
    approximation = 1.0 + rng.gamma(4.0, 0.5, (num_draws, 2))
    return approximation, correlated(rng, num_draws, 2)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_mah_is_its_formula(dim: int) -> None:
    rng = np.random.default_rng(1)
    a, f = 0.3 + correlated(rng, 900, dim), correlated(rng, 700, dim)
    shift = a.mean(0) - f.mean(0)
    inverse = np.linalg.inv(np.cov(f.T).reshape(dim, dim))
    expected = np.sqrt(shift @ inverse @ shift)
    assert mahalanobis(sample(a), sample(f)).value == pytest.approx(expected, rel=1e-10)


def test_mah_of_a_known_shift() -> None:
    # A sample and a copy of it moved by v: the distance is sqrt(vᵀ V⁻¹ v), no noise.
    values = correlated(np.random.default_rng(2), 500, 3)
    covariance = np.cov(values.T)
    shift = 2.5 * np.linalg.cholesky(covariance)[:, 0]
    assert mahalanobis(sample(values + shift), sample(values)).value == pytest.approx(
        2.5, rel=1e-10
    )


def test_skew_is_scipys() -> None:
    rng = np.random.default_rng(3)
    a, f = rng.gamma(2.0, 1.0, (900, 4)), rng.standard_normal((700, 4))
    expected = np.mean(np.abs(stats.skew(a, axis=0) - stats.skew(f, axis=0)))
    assert skew_deviation(sample(a), sample(f)).value == pytest.approx(expected, rel=1e-10)


def exact_iad(a: np.ndarray, f: np.ndarray) -> float:
    """Trapezoid of SciPy's kernel density estimates on 4001 points of the hull."""
    low = min(a.mean() - 5 * a.std(), f.mean() - 5 * f.std())
    high = max(a.mean() + 5 * a.std(), f.mean() + 5 * f.std())
    grid = np.linspace(low, high, 4001)
    gap = np.abs(stats.gaussian_kde(a)(grid) - stats.gaussian_kde(f)(grid))
    return 0.5 * np.trapezoid(gap, grid)


def bimodal(rng: np.random.Generator, num_draws: int) -> np.ndarray:
    return rng.choice([-3.0, 3.0], num_draws) + 0.3 * rng.standard_normal(num_draws)


SHAPES = {
    "same law": lambda rng, n: rng.standard_normal(n),
    "shifted": lambda rng, n: 0.7 + rng.standard_normal(n),
    "bimodal": bimodal,
    "skewed": lambda rng, n: rng.gamma(1.5, 1.0, n),
    "50 times wider": lambda rng, n: 50 * rng.standard_normal(n),
    "50 times narrower": lambda rng, n: 0.02 * rng.standard_normal(n),
    "far apart": lambda rng, n: 60 + rng.standard_normal(n),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_iad_is_the_exact_sum_within_a_thousandth(shape) -> None:
    rng = np.random.default_rng(4)
    a, f = shape(rng, 1500), rng.standard_normal(1500)
    value = integrated_absolute_distance(sample(a[:, None]), sample(f[:, None])).value
    assert value == pytest.approx(exact_iad(a, f), abs=1e-3)


def test_iad_is_the_mean_over_coordinates() -> None:
    # Coordinates share one grid size, so a wide one must not blur its narrow neighbours.
    rng = np.random.default_rng(5)
    a = np.stack([shape(rng, 800) for shape in SHAPES.values()], axis=1)
    f = rng.standard_normal(a.shape)
    expected = np.mean([exact_iad(x, y) for x, y in zip(a.T, f.T, strict=True)])
    assert integrated_absolute_distance(sample(a), sample(f)).value == pytest.approx(
        expected, abs=1e-3
    )


def test_iad_of_disjoint_samples_is_one() -> None:
    rng = np.random.default_rng(6)
    a, f = 100 + rng.standard_normal((1000, 2)), rng.standard_normal((1000, 2))
    # The mass of either estimate beyond five of its standard deviations is about 1e-6.
    assert integrated_absolute_distance(sample(a), sample(f)).value == pytest.approx(1, abs=1e-5)


@every_metric
@pytest.mark.parametrize(("scale", "offset"), [(0.05, 454.0), (1e6, -3.0), (1e-8, 1e-6)])
def test_affine_maps_of_coordinates_change_nothing(metric, scale: float, offset: float) -> None:
    a, f = skewed_pair(np.random.default_rng(7), 1000)
    scales, offsets = np.array([scale, -2.0]), np.array([offset, 1.0])
    plain = metric(sample(a), sample(f))
    mapped = metric(sample(a * scales + offsets), sample(f * scales + offsets))
    # 454 has rounding errors of 1e-12 standard deviations of 0.05.
    assert mapped.value == pytest.approx(plain.value, rel=1e-8)
    assert mapped.standard_error == pytest.approx(plain.standard_error, rel=1e-6)


@every_metric
def test_identical_samples_are_at_distance_zero(metric) -> None:
    values = sample(correlated(np.random.default_rng(8), 1000, 3))
    assert metric(values, values).value == pytest.approx(0.0, abs=1e-12)


# ---------------------------------------------------------------- null laws


def test_mah_of_perfect_samples() -> None:
    # Mah² is (1/n_a + 1/n_f) χ²_d but for 1/n: over R replicates its mean has
    # relative standard error sqrt(2 / (d R)).
    rng, dim, replicates = np.random.default_rng(9), 4, 400
    squares = [
        mahalanobis(
            sample(rng.standard_normal((1500, dim))), sample(rng.standard_normal((1000, dim)))
        ).value
        ** 2
        for _ in range(replicates)
    ]
    z = (np.mean(squares) / (dim / 1500 + dim / 1000) - 1) / np.sqrt(2 / (dim * replicates))
    assert abs(z) < stats.norm.isf(5e-4)


def test_skew_of_perfect_gaussian_samples() -> None:
    # Each coordinate gives |N(0, σ²)|, of mean sqrt(2/π) σ and sd sqrt(1 - 2/π) σ.
    rng, dim, replicates = np.random.default_rng(10), 5, 300
    values = [
        skew_deviation(
            sample(rng.standard_normal((2000, dim))), sample(rng.standard_normal((1000, dim)))
        ).value
        for _ in range(replicates)
    ]
    sigma = np.sqrt(6 / 2000 + 6 / 1000)
    error = sigma * np.sqrt((1 - 2 / np.pi) / (dim * replicates))
    assert abs(np.mean(values) - np.sqrt(2 / np.pi) * sigma) < stats.norm.isf(5e-4) * error


# ---------------------------------------------------------------- standard errors


def assert_honest_error(figures: list) -> None:
    """The jackknife variances, averaged, are the variance over replicates.

    Over R replicates their ratio is F-distributed: R - 1 degrees of freedom above, and
    at least the 19 of one sample's 20 groups for each replicate below.
    """
    observed = np.var([figure.value for figure in figures], ddof=1)
    claimed = np.mean([figure.standard_error**2 for figure in figures])
    law = stats.f(len(figures) - 1, 19 * len(figures))
    assert law.ppf(5e-4) < observed / claimed < law.isf(5e-4)


@every_metric
def test_standard_error_is_the_spread_over_replicates(metric) -> None:
    rng = np.random.default_rng(11)
    pairs = [skewed_pair(rng, 2000) for _ in range(60)]
    assert_honest_error([metric(sample(a), sample(f)) for a, f in pairs])


@pytest.mark.parametrize("sizes", [(4000, 500), (500, 4000)])
def test_standard_error_counts_both_samples(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(12)
    figures = [
        mahalanobis(
            sample(0.5 + rng.standard_normal((sizes[0], 3))),
            sample(rng.standard_normal((sizes[1], 3))),
        )
        for _ in range(100)
    ]
    assert_honest_error(figures)


def autoregressive(rng: np.random.Generator, num_draws: int, slope: float) -> np.ndarray:
    """A stationary AR(1) path of variance 1; its mean is worth n (1 - φ)/(1 + φ) draws."""
    path = rng.standard_normal(num_draws)
    for t in range(1, num_draws):
        path[t] = slope * path[t - 1] + np.sqrt(1 - slope**2) * path[t]
    return path[:, None]


@pytest.mark.parametrize("slope", [0.3, 0.9])
def test_the_right_ess_gives_autocorrelated_draws_their_error(slope: float) -> None:
    rng, num_draws = np.random.default_rng(13), 3000
    ess = num_draws * (1 - slope) / (1 + slope)
    figures = [
        mahalanobis(
            sample(1.0 + autoregressive(rng, num_draws, slope), ess),
            sample(rng.standard_normal((num_draws, 1))),
        )
        for _ in range(100)
    ]
    assert_honest_error(figures)


@pytest.mark.parametrize("num_shards", [4, 15, 20])
def test_draws_that_take_turns_among_shards_keep_their_error(num_shards: int) -> None:
    # Pooling methods put one draw of each shard in turn. Where shards differ, the error
    # is at least that of stratified draws and at most that of the same draws in any order.
    rng, centres = np.random.default_rng(14), np.linspace(-6, 6, num_shards)
    in_turn, mixed = [], []
    for _ in range(60):
        f = sample(rng.standard_normal((3000, 1)))
        a = (1.0 + rng.standard_normal((3000 // num_shards, num_shards)) + centres).reshape(-1, 1)
        in_turn.append(mahalanobis(sample(a), f))
        mixed.append(mahalanobis(sample(rng.permutation(a)), f))
    observed = np.var([figure.value for figure in in_turn], ddof=1)
    claimed, most = (
        np.mean([figure.standard_error**2 for figure in figures]) for figures in (in_turn, mixed)
    )
    # As in assert_honest_error, but `claimed` has 19 degrees in all: the shards' centres, most
    # of its variance, fall into the same groups every time.
    assert observed / claimed < stats.f(59, 19).isf(5e-4)
    assert claimed / most < stats.f(19, 19 * 60).isf(5e-4)


@every_metric
def test_a_quarter_of_the_ess_doubles_a_samples_contribution(metric) -> None:
    a, f = skewed_pair(np.random.default_rng(15), 1000)

    def variance(ess_a: float, ess_f: float) -> float:
        return metric(sample(a, ess_a), sample(f, ess_f)).standard_error ** 2

    both = variance(1000, 1000)
    of_a = (variance(250, 1000) - both) / 3
    of_f = (variance(1000, 250) - both) / 3
    assert of_a > 0
    assert of_f > 0
    assert of_a + of_f == pytest.approx(both, rel=1e-9)
    assert variance(250, 250) == pytest.approx(4 * both, rel=1e-9)
