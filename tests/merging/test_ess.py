"""What merged draws are worth: Mah² · ess / d is 1 where the claim is right."""

import jax.numpy as jnp
import numpy as np
import pytest

import dncbench
from dncbench.contracts.gaussian_shards import GaussianShards, make_shards
from dncbench.errors import DrawsError
from dncbench.merging.chains import ess_of_chains
from dncbench.sampling.diagnostics import ess_bulk

DIM, NUM_SHARDS, NUM_DRAWS, REPEATS = 10, 12, 1000, 20
CLOSED_FORMS = ["consensus", "swiss", "swiss-product", "parametric"]


def unlike_shards(rng: np.random.Generator) -> GaussianShards:
    """Covariances of many shapes, and means as far apart as the shards are wide.

    The error of the estimated weights is then several times that of the means.
    """
    roots = rng.standard_normal((NUM_SHARDS, DIM, DIM)) / np.sqrt(DIM)
    covariances = roots @ roots.transpose(0, 2, 1) + 0.01 * np.eye(DIM)
    precisions = np.linalg.inv(covariances)
    means = np.stack([rng.multivariate_normal(np.zeros(DIM), one) for one in covariances])
    covariance = np.linalg.inv(precisions.sum(0))
    mean = covariance @ np.einsum("sij,sj->i", precisions, means)
    return GaussianShards(means, covariances, mean, covariance)


SHARDS = {
    "alike": lambda rng: make_shards(rng, NUM_SHARDS, DIM),
    "unlike": unlike_shards,
}


def merged(
    method: str, rng: np.random.Generator, num_draws: int = NUM_DRAWS, which: str = "alike"
) -> tuple:
    """Squared Mahalanobis distance of the mean from the truth, and the result."""
    shards = SHARDS[which](rng)
    draws = (shards.inflated if method == "swiss" else shards.draws)(rng, NUM_DRAWS)
    given = {"inflated" if method == "swiss" else "values": draws}
    result = dncbench.merge(**given, method=method, num_draws=num_draws)
    missed = result.draws.mean(0) - shards.mean
    return missed @ np.linalg.solve(shards.covariance, missed), result


# Claiming the shards' ESS, merges read 0.9 to 2.0 where shards are alike, and 7 to 14 where not.
@pytest.mark.parametrize(("which", "most"), [("alike", 0.9), ("unlike", 0.3)])
@pytest.mark.parametrize("method", CLOSED_FORMS)
def test_the_error_of_what_a_merge_estimates_is_counted(
    method: str, which: str, most: float
) -> None:
    rng = np.random.default_rng(3)
    ratios, claimed = [], []
    for _ in range(REPEATS):
        squared, result = merged(method, rng, which=which)
        ratios.append(squared * result.info["ess"] / DIM)
        claimed.append(result.info["ess"])
    # Of χ² with 200 degrees of freedom the mean has a standard error of 0.1.
    assert 0.6 < np.mean(ratios) < 1.6
    assert np.mean(claimed) < most * NUM_DRAWS


def test_more_draws_are_worth_no_more() -> None:
    rng = np.random.default_rng(4)
    worth = [merged("consensus", rng, number)[1].info["ess"] for number in (NUM_DRAWS, 20_000)]
    assert worth[1] < NUM_DRAWS
    assert 0.5 < worth[1] / worth[0] < 2.0


def autoregressive(rng: np.random.Generator, shape: tuple, correlation: float) -> np.ndarray:
    """Stationary chains of unit variance along the second last axis."""
    noise = rng.standard_normal(shape)
    found = np.empty(shape)
    found[..., 0, :] = noise[..., 0, :]
    for t in range(1, shape[-2]):
        kept = correlation * found[..., t - 1, :]
        found[..., t, :] = kept + np.sqrt(1 - correlation**2) * noise[..., t, :]
    return found


@pytest.mark.parametrize("method", ["consensus", "parametric", "pooled"])
def test_draws_that_depend_on_one_another_are_worth_less(method: str) -> None:
    # 4000 steps of correlation 0.95 are worth 4000 (1 - 0.95) / (1 + 0.95) = 103.
    values = autoregressive(np.random.default_rng(5), (3, 4000, 2), 0.95)
    result = dncbench.merge(values, method, num_draws=2000)
    assert 40 < result.info["ess"] < 160


@pytest.mark.parametrize("num_draws", [30, 60, 400, 4000])
def test_independent_draws_are_worth_their_number(num_draws: int) -> None:
    """An estimate of an ESS, the smallest of some coordinates', would be far below it."""
    rng = np.random.default_rng(10)
    worth = np.array([ess_of_chains(rng.standard_t(3, (1, num_draws, 8))) for _ in range(80)])
    # Of 80 shards two are taken for chains once in 30 000 such tests.
    assert np.sum(worth < num_draws) <= 1


def test_repeated_states_are_worth_their_number() -> None:
    """Metropolis: some 25 states, each of which stays for 80 steps."""
    rng = np.random.default_rng(6)
    values = np.repeat(rng.standard_normal((4, 25, 2)), 80, axis=1)
    result = dncbench.merge(values, "consensus", num_draws=2000)
    assert 3 < result.info["ess"] < 40


def test_chains_that_are_told_apart_are_joined() -> None:
    rng = np.random.default_rng(7)
    chains = autoregressive(rng, (3, 4, 500, 2), 0.9)
    apart = dncbench.merge(chains, "parametric", num_draws=500)
    joined = dncbench.merge(chains.reshape(3, 2000, 2), "parametric", num_draws=500)
    # Their ESS is estimated by chain, and is about 2000 / 19 = 105 either way.
    for result in (apart, joined):
        assert 30 < result.info["ess"] < 200
    listed = dncbench.merge([shard[:, : 500 - s] for s, shard in enumerate(chains)], num_draws=500)
    assert listed.draws.shape == (500, 2)


def test_chains_are_known_by_what_is_told_of_them() -> None:
    """The same rows in the same order are worth another number where chains are told apart."""
    chains = autoregressive(np.random.default_rng(8), (4, 500, 2), 0.9)
    joined = chains.reshape(1, 2000, 2)
    for rows in (chains, joined):
        assert ess_of_chains(rows) == ess_bulk(rows).min()
    assert ess_of_chains(chains) != ess_of_chains(joined)


def test_chains_that_disagree_are_worth_little() -> None:
    rng = np.random.default_rng(8)
    values = rng.standard_normal((3, 4, 500, 1)) + np.arange(4)[:, None, None] * 10.0
    assert dncbench.merge(values, "consensus", num_draws=500).info["ess"] < 20


@pytest.mark.parametrize("shape", [(3, 2, 40, 0), (3, 0, 40, 2), (3, 2, 0, 2), (3, 40, 0)])
def test_nothing_is_worth_nothing(shape: tuple) -> None:
    with pytest.raises(DrawsError, match="values of shard 0 has shape"):
        dncbench.merge(np.zeros(shape), "average")


def test_draws_too_large_to_be_squared_keep_the_shards_worth(capfd) -> None:
    values = 1e300 * np.random.default_rng(11).standard_normal((2, 50, 2))
    result = dncbench.merge(values, "average", num_draws=50)
    assert result.info["ess"] == 50
    assert "homogeneity" not in result.info
    assert capfd.readouterr() == ("", "")


def test_log_densities_of_chains_are_joined_with_them() -> None:
    rng = np.random.default_rng(9)
    values = rng.standard_normal((3, 2, 400, 2))
    log_density = -0.5 * np.sum(values**2, -1)
    result = dncbench.merge(values, "local-polynomial", log_density=log_density, score=-values)
    assert jnp.all(jnp.isfinite(result.draws))
