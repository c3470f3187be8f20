"""Each merge against its closed form on Gaussian subposteriors, and its formulas against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, skew

import dncbench
from dncbench.contracts.gaussian_shards import (
    FALSE_ALARM,
    GaussianShards,
    assert_covariance,
    assert_mean,
    gaussian,
    make_shards,
)
from dncbench.errors import DrawsError
from dncbench.method import Shard
from dncbench.methods._gaussian import pooled, shuffled, thinned
from dncbench.methods.consensus import Consensus
from dncbench.methods.parametric import Parametric
from dncbench.methods.swiss import transformation
from dncbench.metrics.discrepancy import (
    integrated_absolute_distance,
    mahalanobis,
    skew_deviation,
)
from dncbench.metrics.sample import Sample

NUM_SHARDS, NUM_DRAWS = 4, 10_000
SIZE = float(NUM_DRAWS)  # of independent draws
FEW, DIM = 500, 3  # where no law asks for more: of one shape, so that they are compiled once
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Case:
    shards: GaussianShards
    values: np.ndarray
    inflated: np.ndarray
    reference: np.ndarray
    floors: dict[str, tuple[float, float]]


METRICS = {
    "mah": mahalanobis,
    "iad": integrated_absolute_distance,
    "skew": skew_deviation,
}


@pytest.fixture(scope="module", params=[1, 3, 20], ids=lambda dim: f"d={dim}")
def case(request: pytest.FixtureRequest) -> Case:
    rng = np.random.default_rng(request.param)
    shards = make_shards(rng, NUM_SHARDS, request.param)
    blocks = [Sample(shards.exact(rng, NUM_DRAWS), SIZE) for _ in range(9)]
    floors = {}
    for name, metric in METRICS.items():
        readings = [metric(block, blocks[0]).value for block in blocks[1:]]
        floors[name] = float(np.mean(readings)), float(np.std(readings, ddof=1))
    return Case(
        shards,
        shards.draws(rng, NUM_DRAWS),
        shards.inflated(rng, NUM_DRAWS),
        blocks[0].values,
        floors,
    )


# Sampling error of the merged mean in units of V / T, beside that of the weights. Of the
# merged covariance nothing is claimed but that it is no worse than of T plus N draws.
#   consensus: every draw is used once. parametric: moments, then as many fresh draws.
#   swiss: moments of S T draws for m, then the mean of the N that are kept; together 1.
FIRST_ORDER = {"consensus": 1.0, "parametric": 2.0, "swiss-product": None, "swiss": None}


@pytest.mark.parametrize("method", FIRST_ORDER)
def test_gaussian_shards_merge_to_their_product(case: Case, method: str) -> None:
    inflated = case.inflated if method == "swiss" else None
    result = dncbench.merge(case.values, method, inflated=inflated, num_draws=NUM_DRAWS)
    factor = FIRST_ORDER[method]
    if factor is None:
        # m has V/T (plain) or V/(S T) (inflated: S times the precision, so V/(S T));
        # keeping N/S of each shard's T centred draws adds V (1/N - 1/(S T)).
        of_mean = 1.0 if method == "swiss-product" else 1.0 / NUM_SHARDS
        factor = of_mean + 1.0 - 1.0 / NUM_SHARDS
    error = (factor * case.shards.covariance + case.shards.weight_error()) / NUM_DRAWS
    assert_mean(result.draws, case.shards.mean, error)
    assert_covariance(result.draws, case.shards.covariance, 2 / NUM_DRAWS)


@pytest.mark.parametrize("method", FIRST_ORDER)
@pytest.mark.parametrize("metric", METRICS)
def test_gaussian_shards_reach_the_noise_floor(case: Case, method: str, metric: str) -> None:
    inflated = case.inflated if method == "swiss" else None
    result = dncbench.merge(case.values, method, inflated=inflated, num_draws=NUM_DRAWS)
    figure = METRICS[metric](Sample(result.draws, result.info["ess"]), Sample(case.reference, SIZE))
    floor, spread = case.floors[metric]
    # The figure's own standard error and the floor's spread over eight readings.
    assert figure.value - floor < 3.5 * np.hypot(figure.standard_error, spread)


@pytest.mark.parametrize("method", ["average", "pooled"])
def test_the_floor_is_out_of_reach_for_the_strawmen(case: Case, method: str) -> None:
    # Both have about S or more times the product's variance, so the IAD sees them.
    result = dncbench.merge(case.values, method)
    figure = integrated_absolute_distance(Sample(result.draws, SIZE), Sample(case.reference, SIZE))
    floor, spread = case.floors["iad"]
    assert figure.value - floor > 3.5 * np.hypot(figure.standard_error, spread)


# What a merge of shards in another order has in common with the first, to rounding: the whole
# of a law in closed form, the draws themselves where each shard's are mapped, and where draws of
# different shards meet at random, each used once, their mean.
IN_COMMON = {
    "parametric": lambda draws: draws,  # the same noise through the same moments
    "swiss-product": lambda draws: draws[np.argsort(draws[:, 0])],
    "pooled": lambda draws: draws[np.argsort(draws[:, 0])],
    "consensus": lambda draws: draws.mean(0),
    "consensus[weights=coordinate]": lambda draws: draws.mean(0),
    "consensus[weights=shard]": lambda draws: draws.mean(0),
    "average": lambda draws: draws.mean(0),
}


@pytest.mark.parametrize("method", IN_COMMON)
def test_the_order_of_shards_changes_roundings_alone(method: str) -> None:
    rng = np.random.default_rng(29)
    values = make_shards(rng, NUM_SHARDS, DIM).draws(rng, FEW)
    # Pooling takes every draw of every shard, the others as many as one shard has.
    num_draws = FEW * (NUM_SHARDS if method in ("pooled", "swiss-product") else 1)
    first, second = (
        IN_COMMON[method](dncbench.merge(given, method, num_draws=num_draws).draws)
        for given in (values, values[[2, 0, 3, 1]])
    )
    scale = np.abs(first).max(0)
    np.testing.assert_allclose(first / scale, second / scale, rtol=0, atol=1e-11)


# ---------------------------------------------------------------- consensus


@pytest.mark.parametrize("weights", ["matrix", "coordinate", "shard"])
def test_consensus_is_the_weighted_average_of_shuffled_draws(weights: str) -> None:
    rng = np.random.default_rng(30)
    values = make_shards(rng, 3, 4).draws(rng, 200)
    draws = np.asarray(shuffled(KEY, jnp.asarray(values), 150))
    covariances = [np.cov(shard.T) for shard in values]
    w = {
        "matrix": [np.linalg.inv(c) for c in covariances],
        "coordinate": [np.diag(1 / np.diag(c)) for c in covariances],
        "shard": [np.eye(4) / np.trace(c) for c in covariances],
    }[weights]
    expected = np.linalg.solve(sum(w), sum(w[s] @ draws[s].T for s in range(3))).T
    method = Consensus(weights=weights)
    messages = jax.vmap(lambda v: method.fit(Shard(values=v), KEY))(jnp.asarray(values))
    merged, _ = method.merge(messages, KEY, 150)
    np.testing.assert_allclose(merged, expected, rtol=1e-9)


def test_consensus_weights_agree_where_covariances_are_equal() -> None:
    # Moved copies of one shard have one sample covariance: every W_s cancels, and what is
    # left is the average of shuffled draws.
    shard = make_shards(np.random.default_rng(31), 1, DIM).draws(np.random.default_rng(32), FEW)[0]
    values = np.stack([shard, shard + 1.0, shard - 2.0, shard + 3.0])
    plain = dncbench.merge(values, "consensus", num_draws=FEW).draws
    for weights in ("coordinate", "shard"):
        other = dncbench.merge(values, f"consensus[weights={weights}]", num_draws=FEW).draws
        np.testing.assert_allclose(other, plain, rtol=1e-7)
    np.testing.assert_allclose(plain.mean(0), values.mean((0, 1)), rtol=1e-7)


@pytest.mark.parametrize("num_draws", [40, 100, 250])
def test_shuffling_uses_every_draw_equally_often(num_draws: int) -> None:
    rows = np.arange(100.0)[None, :, None].repeat(3, axis=0)
    order = np.asarray(shuffled(KEY, jnp.asarray(rows), num_draws))[:, :, 0].astype(int)
    assert order.shape == (3, num_draws)
    for shard in order:
        used = np.bincount(shard, minlength=100)
        assert used.max() == -(-num_draws // 100)
        assert used.min() == num_draws // 100
    assert not np.array_equal(order[0], order[1])
    assert not np.array_equal(order[0], np.sort(order[0]))


# ---------------------------------------------------------------- swiss


@pytest.mark.parametrize("dim", [1, 3, 20])
def test_the_swiss_map_carries_one_covariance_to_the_other(dim: int) -> None:
    rng = np.random.default_rng(40 + dim)
    root_a, root_b = rng.standard_normal((2, dim, 2 * dim + 3))
    target, covariance = root_a @ root_a.T, root_b @ root_b.T
    map_ = np.asarray(transformation(jnp.asarray(target), jnp.asarray(covariance)))
    np.testing.assert_allclose(map_ @ covariance @ map_.T, target, atol=1e-10 * target.max())


def test_the_swiss_map_is_its_authors() -> None:
    rng = np.random.default_rng(44)
    root_a, root_b = rng.standard_normal((2, 3, 7))
    target, covariance = root_a @ root_a.T, root_b @ root_b.T

    def power(matrix: np.ndarray, exponent: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values**exponent) @ vectors.T

    root, inverse = power(target, 0.5), power(target, -0.5)
    expected = root @ power(inverse @ covariance @ inverse, -0.5) @ inverse
    map_ = np.asarray(transformation(jnp.asarray(target), jnp.asarray(covariance)))
    np.testing.assert_allclose(map_, expected, rtol=1e-9)
    # The symmetric optimal-transport map also carries one to the other, and is another map.
    half = power(covariance, 0.5)
    transport = power(covariance, -0.5) @ power(half @ target @ half, 0.5)
    transport = transport @ power(covariance, -0.5)
    np.testing.assert_allclose(transport @ covariance @ transport.T, target, rtol=1e-9)
    assert np.abs(map_ - transport).max() > 1e-3


@pytest.mark.parametrize("method", ["swiss", "swiss-product"])
def test_swiss_maps_each_shard_and_takes_them_in_turn(method: str) -> None:
    # One dimension: A_s = sqrt(C / C_s) exactly, and shapes are kept.
    rng = np.random.default_rng(45)
    shards = np.stack([rng.gamma(shape, 1.0, (500, 1)) for shape in (1.0, 3.0, 9.0)])
    means, variances = shards.mean(1), shards.var(1, ddof=1)
    share = 1.0 if method == "swiss-product" else 1 / 3
    target = 1 / (share * np.sum(1 / variances))
    centre = np.sum(means / variances) / np.sum(1 / variances)
    expected = centre + np.sqrt(target / variances)[:, None] * (shards - means[:, None])
    given = {"inflated": shards} if method == "swiss" else {}
    draws = dncbench.merge(shards, method, num_draws=1500, **given).draws
    np.testing.assert_allclose(draws, np.swapaxes(expected, 0, 1).reshape(-1, 1), rtol=1e-10)
    for shard in range(3):
        np.testing.assert_allclose(skew(draws[shard::3]), skew(shards[shard]), rtol=1e-9)


def test_swiss_needs_no_plain_draws() -> None:
    rng = np.random.default_rng(46)
    inflated = make_shards(rng, 3, 2).inflated(rng, 100)
    alone = dncbench.merge(None, "swiss", inflated=inflated, num_draws=90)
    beside = dncbench.merge(inflated + 1.0, "swiss", inflated=inflated, num_draws=90)
    np.testing.assert_array_equal(alone.draws, beside.draws)


# ---------------------------------------------------------------- parametric


def _precisions(debias: bool, dim: int, num_draws: int, replicates: int) -> np.ndarray:
    draws = jax.random.normal(jax.random.key(5), (replicates, num_draws, dim))
    ess = jnp.full(replicates, float(num_draws))
    fit = lambda v, n: Parametric(debias=debias).fit(Shard(values=v, ess=n), KEY)[1]  # noqa: E731
    return np.asarray(jax.vmap(fit)(draws, ess))


@pytest.mark.parametrize("debias", [True, False])
def test_precision_of_few_draws(debias: bool) -> None:
    dim, num_draws, replicates = 10, 30, 4000
    precisions = _precisions(debias, dim, num_draws, replicates)
    expected = np.eye(dim) * (1.0 if debias else (num_draws - 1) / (num_draws - dim - 2))
    # Standard errors over replicates; Bonferroni over the 55 entries.
    z = (precisions.mean(0) - expected) / (precisions.std(0, ddof=1) / np.sqrt(replicates))
    assert np.abs(z).max() < norm.isf(FALSE_ALARM / (dim * (dim + 1)))


@pytest.mark.parametrize(("ess", "size"), [(200, 200), (60, 60), (1, 6), (900, 200)])
def test_debiasing_counts_effective_draws(ess: int, size: int) -> None:
    values = jnp.asarray(gaussian(np.random.default_rng(51), np.zeros(3), np.eye(3), 200))
    mean, precision, _ = Parametric().fit(Shard(values=values, ess=jnp.array(float(ess))), KEY)
    plain = np.linalg.inv(np.cov(np.asarray(values).T))
    np.testing.assert_allclose(precision, plain * (size - 5) / (size - 1), rtol=1e-10)
    np.testing.assert_allclose(mean, np.asarray(values).mean(0), rtol=1e-12)


def test_debiasing_needs_two_more_draws_than_a_covariance() -> None:
    rng = np.random.default_rng(52)
    values = gaussian(rng, np.zeros(3), np.eye(3), 10).reshape(2, 5, 3)
    with pytest.raises(DrawsError, match=r"5 draws in 3 dimensions.*at least 6.*debias=false"):
        dncbench.merge(values, "parametric")
    result = dncbench.merge(values, "parametric[debias=false]", num_draws=10)
    assert result.info["method"] == "parametric[debias=False]"


def test_parametric_draws_have_the_products_moments() -> None:
    rng = np.random.default_rng(53)
    values = make_shards(rng, 3, 3).draws(rng, 50)
    precisions = [np.linalg.inv(np.cov(shard.T)) * 45 / 49 for shard in values]
    covariance = np.linalg.inv(sum(precisions))
    mean = covariance @ sum(p @ v.mean(0) for p, v in zip(precisions, values, strict=True))
    result = dncbench.merge(values, "parametric", num_draws=20_000)
    # Given the moments, 20 000 independent draws; the moments' own error is what the ESS counts.
    assert_mean(result.draws, mean, covariance / 20_000)
    assert_covariance(result.draws, covariance, 1 / 20_000)
    assert 20 < result.info["ess"] <= 1 / (1 / 20_000 + 1 / 50)


# ---------------------------------------------------------------- strawmen


def test_average_is_the_plain_average() -> None:
    rng = np.random.default_rng(60)
    values = make_shards(rng, NUM_SHARDS, DIM).draws(rng, NUM_DRAWS)
    draws = dncbench.merge(values, "average").draws
    np.testing.assert_allclose(draws.mean(0), values.mean((0, 1)), rtol=1e-10)
    covariance = sum(np.cov(shard.T) for shard in values) / 16
    # Given the shards, only their random pairing varies: less than 1/T.
    assert_covariance(draws, covariance, 1 / NUM_DRAWS)


def test_pooled_is_the_draws_themselves() -> None:
    rng = np.random.default_rng(61)
    values = make_shards(rng, 4, 2).draws(rng, 300)
    draws = dncbench.merge(values, "pooled", num_draws=1200).draws
    np.testing.assert_array_equal(draws, np.swapaxes(values, 0, 1).reshape(-1, 2))
    half = dncbench.merge(values, "pooled", num_draws=600).draws
    np.testing.assert_array_equal(half, np.swapaxes(values[:, ::2], 0, 1).reshape(-1, 2))


@pytest.mark.parametrize("num_draws", [1, 7, 30, 31, 200])
def test_pooling_represents_every_shard(num_draws: int) -> None:
    shard_of = jnp.arange(3.0)[:, None, None] * jnp.ones((3, 10, 1))
    taken = np.asarray(pooled(thinned(shard_of, num_draws), num_draws))[:, 0].astype(int)
    counts = np.bincount(taken, minlength=3)
    assert counts.sum() == num_draws
    assert counts.max() - counts.min() <= 1
