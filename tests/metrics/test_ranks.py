"""Distance by ranks: closed forms, what monotone maps and moments do to it, a multimodal posterior.

That it agrees with its standard error, and with affine maps, test_metrics.py holds.
"""

import functools
import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from dncbench import registry
from dncbench.errors import DrawsError
from dncbench.metrics.discrepancy import integrated_absolute_distance
from dncbench.metrics.ranks import rank_distance
from dncbench.metrics.sample import Figure, Sample, read

NUM_DRAWS, BINS = 10_000, 41


def sample(values: np.ndarray) -> Sample:
    return Sample(values, float(len(values)))


def distance(a: np.ndarray, f: np.ndarray) -> Figure:
    return rank_distance(sample(a), sample(f))


# ---------------------------------------------------------------- values


def two_modes(rng: np.random.Generator, weight: float = 0.5, shift: float = 0.0) -> np.ndarray:
    """Two modes of sd 1, 100 apart."""
    centre = np.where(rng.random((NUM_DRAWS, 1)) < weight, -50.0, 50.0)
    return centre + shift + rng.standard_normal((NUM_DRAWS, 1))


def binned(exact_a, quantile_f, bins: int) -> float:
    """The distance of two laws, by the distribution function of one and quantiles of the other."""
    below = exact_a(quantile_f(np.arange(1, bins) / bins))
    return 0.5 * np.sum(np.abs(np.diff(below, prepend=0.0, append=1.0) - 1 / bins))


def test_two_narrow_modes_three_sds_off() -> None:
    # Bins of the law, not of draws: 41 of them lose half a bin at the gap, or 1/82, and less
    # than half a bin at the two points where the densities cross.
    rng, exact = np.random.default_rng(1), 2 * stats.norm.cdf(1.5) - 1

    def quantile(p: np.ndarray) -> np.ndarray:
        return np.where(p < 0.5, -50 + ndtri(2 * p), 50 + ndtri(2 * p - 1))

    def shifted(x: np.ndarray) -> np.ndarray:
        return 0.5 * stats.norm.cdf(x + 50 - 3) + 0.5 * stats.norm.cdf(x - 50 - 3)

    with np.errstate(invalid="ignore"):  # the quantile function's branch that is not taken
        expected = binned(shifted, quantile, BINS)
    assert exact - 1.5 / BINS < expected < exact
    a, f = two_modes(rng, shift=3.0), two_modes(rng)
    figure = distance(a, f)
    assert figure.value == pytest.approx(expected, abs=4 * figure.standard_error)
    assert figure.standard_error < 0.02
    # What one bandwidth for the whole makes of it.
    assert integrated_absolute_distance(sample(a), sample(f)).value < 0.25 * exact


def test_wrong_weights_of_two_modes() -> None:
    rng = np.random.default_rng(2)
    figure = distance(two_modes(rng, 0.7), two_modes(rng))
    assert figure.value == pytest.approx(0.2, abs=4 * figure.standard_error + 1 / BINS)
    assert figure.standard_error < 0.01


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.0), (0.0, 2.0), (0.0, 0.5), (3.0, 1.0)])
def test_two_gaussians(shift: float, scale: float) -> None:
    rng = np.random.default_rng(3)
    a, f = rng.standard_normal((2, NUM_DRAWS, 4))
    expected = binned(lambda x: stats.norm.cdf(x, shift, scale), ndtri, BINS)
    figure = distance(shift + scale * a, f)
    # Bins where the two agree still read their noise, in all less than the floor, 0.036.
    assert figure.value == pytest.approx(expected, abs=4 * figure.standard_error + 0.015)
    assert figure.standard_error < 0.01


def test_it_is_the_mean_over_coordinates() -> None:
    rng = np.random.default_rng(4)
    a, f = 0.5 + rng.gamma(2.0, 1.0, (1000, 3)), rng.standard_normal((1200, 3))
    each = [distance(a[:, [j]], f[:, [j]]).value for j in range(3)]
    assert distance(a, f).value == pytest.approx(np.mean(each), rel=1e-12)


def test_disjoint_samples_are_at_distance_one_but_for_the_outermost_bin() -> None:
    f = np.random.default_rng(5).standard_normal((NUM_DRAWS, 1))
    # Bins are equally probable to within one draw.
    assert distance(f + 100, f).value == pytest.approx(1 - 1 / BINS, abs=1 / NUM_DRAWS)


# ---------------------------------------------------------------- ranks


def test_perfect_draws_read_the_same_whatever_the_law() -> None:
    # The floor in the docstring, with the variance of a share, (1/K)(1 - 1/K)(1/n + 1/m).
    rng, num_draws, bins = np.random.default_rng(6), 2000, 19
    pairs = [rng.random((2, num_draws, 5)) for _ in range(60)]
    readings = [distance(ndtri(a), ndtri(f)).value for a, f in pairs]
    cauchy = [distance(*stats.cauchy.ppf(pair)).value for pair in pairs]
    assert readings == cauchy
    floor = 0.5 * bins * np.sqrt(2 / np.pi * (1 / bins) * (1 - 1 / bins) * 2 / num_draws)
    error = np.std(readings, ddof=1) / np.sqrt(len(readings))
    assert error < 0.015 * floor
    assert np.mean(readings) == pytest.approx(floor, abs=4 * error)


@pytest.mark.parametrize("into", [np.exp, np.cbrt, np.arctan, lambda x: 1e9 * x**3])
def test_increasing_maps_change_no_bit(into) -> None:
    rng = np.random.default_rng(7)
    a, f = 0.3 + rng.standard_normal((1500, 2)), rng.standard_normal((1000, 2))
    assert distance(into(a), into(f)) == distance(a, f)


def test_decreasing_maps_change_nothing_but_the_order_of_sums() -> None:
    rng = np.random.default_rng(8)
    a, f = 0.3 + rng.standard_normal((1500, 2)), rng.standard_normal((1000, 2))
    np.testing.assert_allclose(distance(np.exp(-a), np.exp(-f)), distance(a, f), rtol=1e-10)


@pytest.mark.parametrize("law", [[0.2, 0.3, 0.5], [0.05, 0.05, 0.9]])
def test_ties_are_harmless(law: list[float]) -> None:
    rng, other = np.random.default_rng(9), [0.5, 0.3, 0.2]
    a, f, same = (rng.choice(3, (NUM_DRAWS, 1), p=p).astype(float) for p in (other, law, law))
    exact = 0.5 * np.abs(np.subtract(law, other)).sum()
    figure = distance(a, f)
    # A bin that two numbers share takes off at most its probability.
    off, error = figure.value - exact, figure.standard_error
    assert -1 / BINS - 4 * error < off < 4 * error
    assert error < 0.01
    # Shares of at most three numbers, each with an error of sqrt(2/n)/2 at most.
    assert distance(same, f).value < 4 * 1.5 * np.sqrt(0.5 / NUM_DRAWS)


# ---------------------------------------------------------------- a multimodal posterior


@functools.cache
def labels() -> tuple[np.ndarray, np.ndarray]:
    """Centres and sds of three components in order: six modes by exchange, sds apart."""
    return np.array([-0.4, 0.0, 0.4]), np.array([0.05, 0.08, 0.04])


def exchanged(rng: np.random.Generator, orders: list, stretch: float = 1.0) -> np.ndarray:
    """Draws of a mixture with exchangeable labels, of which these orders occur."""
    centre, sd = labels()
    ordered = centre + stretch * sd * rng.standard_normal((NUM_DRAWS, 3))
    chosen = np.array(orders)[rng.integers(len(orders), size=NUM_DRAWS)]
    return np.take_along_axis(ordered, chosen, axis=1)


def marginal(orders: list, stretch: float = 1.0, shift: float = 0.0) -> tuple:
    """The exact marginal densities of all coordinates at points of a grid, and its spacing."""
    points = np.linspace(-1.5, 1.5, 6001)
    centre, sd = labels()
    parts = stats.norm.pdf(points[:, None], centre + shift, stretch * sd)
    return np.stack([parts[:, rank].mean(1) for rank in np.array(orders).T]), points[1] - points[0]


ORDERS = list(itertools.permutations(range(3)))
WRONG = {
    "shifted": (ORDERS, 1.0, 0.15),
    "one mode of six missing": (ORDERS[1:], 1.0, 0.0),
    "one mode alone": (ORDERS[:1], 1.0, 0.0),
    "modes twice as wide": (ORDERS, 2.0, 0.0),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_reads_the_marginal_total_variation_of_modes(wrong: tuple) -> None:
    orders, stretch, shift = wrong
    rng = np.random.default_rng(10)
    truth, spacing = marginal(ORDERS)
    exact = 0.5 * np.abs(marginal(orders, stretch, shift)[0] - truth).sum() * spacing / 3
    f = exchanged(rng, ORDERS)
    a = shift + exchanged(rng, orders, stretch)
    floor = distance(exchanged(rng, ORDERS), f).value
    figure = distance(a, f)
    # Bins that straddle a crossing or a gap take off, noise adds: in quadrature where it is
    # as large as what is read, less than the floor anyhow.
    assert exact - 3 / BINS < figure.value < exact + floor


# ---------------------------------------------------------------- reasons


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_draws_that_are_not_finite_are_said_to_be(value: float) -> None:
    rng = np.random.default_rng(11)
    good, bad = rng.standard_normal((2, 500, 2))
    bad[17, 1] = value
    for pair, whose in (((bad, good), "the merged"), ((good, bad), "the reference's")):
        with pytest.raises(DrawsError, match=f"'iad-rank' has no value: {whose} draws are not all"):
            read(registry.get("metric", "iad-rank"), *map(sample, pair))


def test_a_coordinate_that_stands_still_is_named() -> None:
    good = np.random.default_rng(12).standard_normal((500, 2))
    for pair, whose in (((good * [1, 0], good), "the merged"), ((good, good * [1, 0]), "the ref")):
        with pytest.raises(DrawsError, match=f"coordinate 1 of {whose}.* draws is constant"):
            read(registry.get("metric", "iad-rank"), *map(sample, pair))
