"""Floors and worth of blocks of pools that are no independent draws: AR(1) chains.

Antithetic ones, as NUTS makes them, have means closer to the truth than those of independent
draws; chains of positive correlation have means farther from it.
"""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import gammaln
from scipy.stats import f as f_law
from scipy.stats import norm
from scipy.stats import t as student

from dncbench.entry import Entry
from dncbench.metrics.sample import Figure, Sample
from dncbench.storage.cache import Cache
from dncbench.truth.certified import block_ess
from dncbench.truth.floors import RESOLUTION, noise_floor

BLOCKS, NUM_DRAWS, CHAINS, POOLS = 6, 300, 6, 40
ANTITHETIC, INDEPENDENT, CORRELATED = -0.5, 0.0, 0.4
every_slope = pytest.mark.parametrize("slope", [ANTITHETIC, INDEPENDENT, CORRELATED])


def pool(rng: np.random.Generator, slope: float, dim: int) -> np.ndarray:
    """Chains of an AR(1) process of mean 0 and variance 1, one after another."""
    length = BLOCKS * NUM_DRAWS // CHAINS
    noise = np.sqrt(1 - slope**2) * rng.standard_normal((CHAINS, 60 + length, dim))
    return lfilter([1.0], [1.0, -slope], noise, axis=1)[:, 60:].reshape(-1, dim)


def shuffled(rng: np.random.Generator, slope: float, dim: int) -> np.ndarray:
    return rng.permutation(pool(rng, slope, dim)).reshape(BLOCKS, NUM_DRAWS, dim)


def level(made: np.ndarray, entry: Entry, folder, ess: float = NUM_DRAWS) -> dict[str, float]:
    samples = [Sample(values, ess, values) for values in made]
    found = noise_floor(
        samples, samples[0], [entry], {"id": "ar@1"}, Cache(folder), headline=(entry.name,)
    )
    return found.levels[entry.id]


def apart(approximation: Sample, reference: Sample) -> Figure:
    """Distance of the means: Mah, of a posterior whose covariance I is known."""
    shift = approximation.values.mean(0) - reference.values.mean(0)
    return Figure(float(np.linalg.norm(shift)), 0.1)


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Floors by slope and dimension, over 40 pools each."""
    entry = Entry("metric", "apart", 1, "Distance of the means.", "test", apart)
    return {
        (slope, dim): [
            level(
                shuffled(np.random.default_rng(100 + i), slope, dim),
                entry,
                tmp_path_factory.mktemp("pool"),
            )
            for i in range(POOLS)
        ]
        for slope in (ANTITHETIC, INDEPENDENT, CORRELATED)
        for dim in (2, 20)
    }


def null(dim: int) -> tuple[float, float]:
    """Mean and sd of that distance between independent samples: sqrt(2/n) times a χ."""
    mean = np.sqrt(2) * np.exp(gammaln((dim + 1) / 2) - gammaln(dim / 2))
    unit = np.sqrt(2 / NUM_DRAWS)
    return unit * mean, unit * np.sqrt(dim - mean**2)


@every_slope
@pytest.mark.parametrize("dim", [2, 20])
def test_a_floor_is_that_of_independent_draws(levels: dict, slope: float, dim: int) -> None:
    found = levels[slope, dim]
    mean, sd = null(dim)
    # Each within its own stated error, of 15 readings or more; one chance in a thousand for all.
    furthest = max(abs(each["mean"] - mean) / each["standard_error"] for each in found)
    assert furthest < student.isf(1e-3 / (2 * POOLS), 14)
    errors = [each["standard_error"] for each in found]
    off = np.mean([each["mean"] for each in found]) - mean
    assert abs(off) < norm.isf(5e-4) * np.sqrt(np.mean(np.square(errors)) / POOLS)
    # Variances of at least 15 readings each.
    observed = np.mean([each["sd"] ** 2 for each in found])
    assert observed == pytest.approx(sd**2, rel=4 * np.sqrt(2 / (14 * POOLS)))


@every_slope
@pytest.mark.parametrize("dim", [2, 20])
def test_the_standard_error_of_a_floor_is_its_spread_over_pools(
    levels: dict, slope: float, dim: int
) -> None:
    found = levels[slope, dim]
    observed = np.var([each["mean"] for each in found], ddof=1)
    claimed = np.mean([each["standard_error"] ** 2 for each in found])
    law = f_law(POOLS - 1, 14 * POOLS)  # at least 15 readings behind each claim
    assert law.ppf(5e-4) < observed / claimed < law.isf(5e-4)
    assert claimed < (RESOLUTION * np.mean([each["mean"] for each in found])) ** 2


def worth_of(slope: float) -> float:
    """Of the mean of a whole pool."""
    return BLOCKS * NUM_DRAWS * (1 - slope) / (1 + slope)


@every_slope
def test_what_a_block_is_worth(slope: float) -> None:
    # Block means of 400 pools of 4 coordinates have a variance of 1/ESS; those of one pool are
    # correlated, so that one block of each counts.
    rng = np.random.default_rng(7)
    means = np.stack([shuffled(rng, slope, 4)[0].mean(0) for _ in range(400)])
    claimed = 1 / block_ess(worth_of(slope), BLOCKS, NUM_DRAWS)
    ratio = np.mean(means**2) / claimed
    # A χ² of 1600 degrees of freedom: 3.5 %. No block is said to be worth more than its draws.
    uncapped = (1 - 1 / BLOCKS) / NUM_DRAWS + 1 / worth_of(slope)
    assert ratio == pytest.approx(uncapped / claimed, rel=4 * 0.035)
    assert (claimed == 1 / NUM_DRAWS) == (slope <= 0)


@every_slope
def test_what_is_read_of_one_sample_has_the_error_of_the_pool(tmp_path, slope: float) -> None:
    # The mean of the first coordinate, as a logarithm would be: a figure with no second sample.
    def first(approximation: Sample, reference: Sample) -> Figure:
        return Figure(float(approximation.values[:, 0].mean()), 0.1)

    entry = Entry("metric", "first", 1, "Reads one sample.", "test", first, log=True)
    rng, found = np.random.default_rng(8), []
    worth = min(NUM_DRAWS, 1 / ((1 - 1 / BLOCKS) / NUM_DRAWS + 1 / worth_of(slope)))
    for i in range(200):
        found.append(level(shuffled(rng, slope, 1), entry, tmp_path / str(i), worth))
    # Sds of six readings: 5 degrees of freedom each.
    sds = np.sqrt(np.mean([each["sd"] ** 2 for each in found]))
    assert sds == pytest.approx(NUM_DRAWS**-0.5, rel=4 / np.sqrt(2 * 5 * 200))
    claimed = np.mean([each["standard_error"] ** 2 for each in found])
    observed = np.mean([each["mean"] ** 2 for each in found])
    expected = 1.0 if slope >= 0 else 1 / 3  # antithetic chains are worth three times their draws
    # 200 means squared, and the sds: relative errors of 10 and 4 %.
    assert observed / claimed == pytest.approx(expected, rel=4 * 0.11)
