"""Products of kernel estimates against enumeration of all their components, and closed forms."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chi2, norm
from scipy.stats import multivariate_normal as mvn

import dncbench
from dncbench.contracts.gaussian_shards import FALSE_ALARM, make_shards
from dncbench.errors import UnknownNameError
from dncbench.methods._index_gibbs import (
    Chains,
    Mixture,
    effective_size,
    num_distinct,
    spatial_order,
    sweep,
)
from dncbench.methods.semiparametric import Nonparametric, Semiparametric, _mixture

KEY = jax.random.key(0)
SHARDS, DRAWS = 4, 4000
"""Of the merges of one dimension, whose programs are so compiled once."""

in_order = jax.jit(spatial_order)
log_weight = jax.jit(Mixture.log_weight)


def moments(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return draws.mean(1), np.stack([np.cov(shard.T).reshape(draws.shape[2], -1) for shard in draws])


def prepared(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, Mixture]:
    """Centre, root and mixture, all of NumPy's arrays."""
    return jax.tree.map(np.asarray, jax.jit(_mixture)(*map(jnp.asarray, (draws, *moments(draws)))))


def chosen(mixture: Mixture, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The draws (S, C, d) of index vectors, and the sum of their own log densities (C,)."""
    shards = np.arange(len(indices))[:, None]
    return mixture.points[shards, indices], mixture.log_gaussian[shards, indices].sum(0)


def weights_of_the_paper(points: np.ndarray, own: np.ndarray, variance, h: float, full: bool):
    """W or w of index vectors in z by Neiswanger et al.'s formulas; points (S, C, d), own (C,)."""
    identity = np.eye(points.shape[2])
    result = []
    for column in range(points.shape[1]):
        rows = points[:, column]
        mean = rows.mean(0)
        log_weight = sum(mvn.logpdf(row, mean, h**2 * identity) for row in rows)
        if full:
            widened = np.diag(variance) + h**2 / len(rows) * identity
            log_weight += mvn.logpdf(mean, np.zeros(len(mean)), widened) - own[column]
        result.append(log_weight)
    return np.array(result)


def every_vector(num_shards: int, num_draws: int) -> np.ndarray:
    """All T^S index vectors, (S, T^S), the first shard's index changing slowest."""
    return np.array(list(itertools.product(range(num_draws), repeat=num_shards))).T


# ---------------------------------------------------------------- the mixture


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("rotated", [False, True], ids=["whitened", "own units"])
def test_weights_are_the_papers(full: bool, rotated: bool) -> None:
    rng = np.random.default_rng(1)
    _, _, mixture = prepared(make_shards(rng, 3, 2).draws(rng, 20))
    if rotated:
        mixture = mixture._replace(variance=np.array([0.4, 7.0]))
    points, own = chosen(mixture, rng.integers(0, 20, (3, 30)))
    ours = np.asarray(log_weight(mixture, points, own, np.array(0.7), np.array(float(full))))
    theirs = weights_of_the_paper(points, own, mixture.variance, 0.7, full)
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_a_proposal_by_running_sums_is_the_direct_formula(power: float) -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(40.0, 3.0, (5, 50, 3))
    mixture = Mixture(points, np.zeros((5, 50)), np.array([0.3, 1.0, 4.0]))
    moved, h, none = points.copy(), np.array(0.5), np.zeros(50)
    moved[2] = rng.normal(40.0, 3.0, (50, 3))
    after, before = (
        np.asarray(log_weight(mixture, each, none, h, np.array(power))) for each in (moved, points)
    )
    direct = after - before
    running = jax.jit(Mixture.log_ratio)(
        mixture, points[2], moved[2], points.sum(0), h, np.array(power)
    )
    np.testing.assert_allclose(running, direct, rtol=1e-9)


@pytest.mark.parametrize("full", [True, False], ids=["semiparametric", "nonparametric"])
def test_components_make_up_the_product_of_the_estimates(full: bool) -> None:
    # Σ W N(θ given component) ∝ Π_s (1/T) Σ_t N(θ given θ_t, h² I) q_s(θ) / q_s(θ_t), in z.
    rng = np.random.default_rng(3)
    draws = make_shards(rng, 3, 2).draws(rng, 20)
    centre, root, mixture = prepared(draws)
    points, h = mixture.points, 0.6
    to_z = np.linalg.inv(root)
    places = rng.standard_normal((8, 2))
    product = np.zeros(len(places))
    for shard, (mean, covariance) in enumerate(zip(*moments(draws), strict=True)):
        gauss = mvn(to_z @ (mean - centre), to_z @ covariance @ to_z.T)
        kernels = np.array([mvn.pdf(places, point, h**2 * np.eye(2)) for point in points[shard]])
        if full:
            kernels *= gauss.pdf(places) / gauss.pdf(points[shard])[:, None]
        product += np.log(kernels.mean(0))
    vectors, own = chosen(mixture, every_vector(3, 20))
    weights = softmax(log_weight(mixture, vectors, own, np.array(h), np.array(float(full))))
    method = Semiparametric() if full else Nonparametric()
    means, variance = jax.jit(method.component, static_argnums=3)(
        vectors.mean(0), np.array(h), mixture.variance[None], 3
    )
    total = [weights @ norm.pdf(place, means, np.sqrt(variance)).prod(1) for place in places]
    np.testing.assert_allclose(np.diff(np.log(total)), np.diff(product), rtol=1e-8)


# ---------------------------------------------------------------- the chains


@functools.partial(jax.jit, static_argnames="local")
def settled(mixture: Mixture, chains: Chains, local: bool) -> Chains:
    """The chains after 200 sweeps with the full weights at h = 0.4."""

    def again(number: jax.Array, chains: Chains) -> Chains:
        key = jax.random.fold_in(KEY, number)
        return sweep(mixture, chains, jnp.array(0.4), jnp.array(1.0), key, local)[0]

    return jax.lax.fori_loop(0, 200, again, chains)


@pytest.mark.parametrize(("num_draws", "local"), [(4, False), (20, True), (20, False)])
def test_chains_settle_on_the_exact_weights(num_draws: int, local: bool) -> None:
    rng = np.random.default_rng(4)
    draws = rng.normal([[0.0]], 1.0, (2, num_draws, 1)) + np.array([-0.3, 0.3])[:, None, None]
    draws = np.stack([shard[np.asarray(in_order(shard))] for shard in draws])
    _, _, mixture = prepared(draws)
    points, own = chosen(mixture, every_vector(2, num_draws))
    exact = softmax(weights_of_the_paper(points, own, mixture.variance, 0.4, True))
    num_chains = 40_000
    start = np.zeros((2, num_chains), np.int32)
    chains = settled(mixture, Chains(start, chosen(mixture, start)[0]), local)
    indices = np.asarray(chains.indices)
    np.testing.assert_array_equal(chains.points, chosen(mixture, indices)[0])
    counts = np.bincount(indices[0] * num_draws + indices[1], minlength=num_draws**2)
    # Chains are independent, so counts are multinomial; cells below five are put together.
    expected = num_chains * exact
    large = expected >= 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = np.sum((observed - expected) ** 2 / expected)
    assert statistic < chi2.isf(FALSE_ALARM, len(expected) - 1)


@pytest.mark.parametrize("num_draws", [5, 8, 64, 100])
def test_spatial_order_splits_boxes(num_draws: int) -> None:
    positions = np.random.default_rng(5).standard_normal((num_draws, 2))
    rows = np.asarray(in_order(positions))
    assert sorted(rows) == list(range(num_draws))
    ordered = positions[rows]
    size, axis = 2 ** max((num_draws - 1).bit_length(), 3), 0
    while size > 8:
        for first in range(0, num_draws, size):
            lower, upper = ordered[first : first + size // 2], ordered[first + size // 2 :]
            upper = upper[: size // 2]
            if len(upper):
                assert lower[:, axis].max() <= upper[:, axis].min()
        size, axis = size // 2, 1 - axis


def test_distinct_index_vectors_are_counted() -> None:
    indices = np.random.default_rng(6).integers(0, 5, (4, 3000))
    found = jax.jit(num_distinct)(np.asarray(indices, np.int32))
    assert found == len(np.unique(indices.T, axis=0))


# ---------------------------------------------------------------- effective size


def size_of(draws: np.ndarray, indices: np.ndarray, families: np.ndarray, shard_size=1e6) -> float:
    sizes = np.full(len(indices), shard_size)
    return float(jax.jit(effective_size, static_argnums=3)(draws, indices, families, 4000, sizes))


def test_effective_size_counts_copies_once() -> None:
    num = 4000
    draws = np.random.default_rng(7).standard_normal((num, 1))
    own = np.arange(num)
    tenfold, groups = draws[own // 10 * 10], own // 10
    assert size_of(draws, own[None], own) == pytest.approx(num, rel=1e-3)
    # The sum over 400 clusters of squares of normals: relative standard error sqrt(2 / 400).
    assert size_of(tenfold, own[None], groups) == pytest.approx(400, rel=0.3)
    assert size_of(tenfold, groups[None], own) == pytest.approx(
        num / (1 + 9 * 4000 / 1e6), rel=0.02
    )
    # Three families of one value each: their variance is 2/3 too small, so 2. One alone: 1.
    thirds = own % 3
    assert size_of(np.array([[0.0], [1.0], [-1.0]])[thirds], own[None], thirds) == pytest.approx(
        2, rel=1e-3
    )
    assert size_of(draws, own[None], 0 * own) == pytest.approx(1)
    # Draws that only share a family and have forgotten it are worth what they were.
    assert size_of(draws, own[None], groups) == pytest.approx(num, rel=0.3)


def test_effective_size_is_no_larger_than_a_shards() -> None:
    draws = np.random.default_rng(8).standard_normal((4000, 1))
    own = np.arange(4000)
    assert size_of(draws, own[None], own, 150.0) <= 150.0


# ---------------------------------------------------------------- merges


def assert_moments(draws: np.ndarray, ess: float, mean: float, sd: float) -> None:
    """Mean and sd within the errors of ``ess`` independent draws."""
    kurtosis = np.mean(((draws - draws.mean()) / draws.std()) ** 4)
    errors = np.array([1.0, np.sqrt((kurtosis - 1) / 4)]) * draws.std() / np.sqrt(ess)
    z = np.array([draws.mean() - mean, draws.std() - sd]) / errors
    assert np.abs(z).max() < norm.isf(FALSE_ALARM / 4)


@pytest.mark.parametrize("method", ["semiparametric", "nonparametric"])
def test_gamma_shards_merge_to_their_product(method: str) -> None:
    # Π Gamma(a_s, b_s) ∝ Gamma(Σ a_s - S + 1, Σ b_s); skewnesses 0.8 to 1.2 in the shards.
    rng = np.random.default_rng(9)
    shapes, rates = np.array([3.0, 4.0, 6.0, 5.0]), np.array([1.0, 2.0, 1.5, 2.0])
    scales = 1 / rates[:, None, None]
    values = rng.gamma(shapes[:, None, None], scales, (SHARDS, DRAWS, 1))
    shape, rate = shapes.sum() - SHARDS + 1, rates.sum()
    result = dncbench.merge(values, method, num_draws=DRAWS)
    assert_moments(result.draws, result.info["ess"], shape / rate, np.sqrt(shape) / rate)
    # The product of Gaussians is far off, 11 to 14 such errors over twelve seeds, so this is not
    # for want of power.
    gauss = np.average(values.mean(1), weights=1 / values.var(1, ddof=1))
    assert abs(gauss - shape / rate) > 5 * np.sqrt(shape) / rate / np.sqrt(result.info["ess"])
    assert result.info["ess"] > 200
    assert result.info["warnings"] == []


@pytest.mark.parametrize("method", ["semiparametric", "nonparametric"])
@pytest.mark.parametrize("share", [0.5, 0.45])
def test_modes_keep_their_weights(method: str, share: float) -> None:
    # Shards share N(-1, 0.09) + (1 - share) N(1, 0.09): modes do not meet (exp(-44) between
    # them), so the product's weights are share^S : (1 - share)^S.
    rng = np.random.default_rng(10)
    sign = np.where(rng.random((SHARDS, DRAWS, 1)) < share, -1.0, 1.0)
    values = sign + 0.3 * rng.standard_normal(sign.shape)
    result = dncbench.merge(values, method, num_draws=DRAWS)
    left = np.mean(result.draws < 0)
    weight = share**4 / (share**4 + (1 - share) ** 4)
    error = np.sqrt(weight * (1 - weight) / result.info["ess"])
    # Each shard holds a binomial number of draws on the left, which no merge can know better.
    error = np.hypot(error, weight * (1 - weight) * np.sqrt(4 / (share * (1 - share) * 4000)))
    assert abs(left - weight) < norm.isf(FALSE_ALARM / 2) * error
    assert np.mean(np.abs(result.draws) < 0.4) < 0.01


def test_semiparametric_is_exact_for_gaussians_at_any_bandwidth() -> None:
    # At h = 1.5 posterior sds the reduced weights are far too narrow; the full are not.
    rng = np.random.default_rng(11)
    values = rng.standard_normal((SHARDS, DRAWS, 1)) * 2.0
    full = dncbench.merge(values, "semiparametric[end=1.5]", num_draws=DRAWS)
    assert_moments(full.draws, full.info["ess"], 0.0, 1.0)
    reduced = dncbench.merge(values, "semiparametric[weights=reduced,end=1.5]", num_draws=DRAWS)
    share = 1.5**2 / 4
    expected = np.sqrt(1 + share + share**2) / (1 + share)
    assert_moments(reduced.draws, reduced.info["ess"], 0.0, expected)
    assert full.info["bandwidth"] == pytest.approx(1.5, rel=1e-4)


def test_too_many_dimensions_are_told() -> None:
    rng = np.random.default_rng(12)
    values = make_shards(rng, 4, 15).draws(rng, 300)
    chosen = dncbench.merge(values, "semiparametric[sweeps=60]", num_draws=2000)
    assert np.isfinite(chosen.draws).all()
    assert any("the bandwidth stopped above 1 sd" in text for text in chosen.info["warnings"])
    forced = dncbench.merge(values, "nonparametric[sweeps=60,end=0.25]", num_draws=2000)
    assert any("fewer than 1 in 500" in text for text in forced.info["warnings"])
    assert any("collapsed" in text for text in forced.info["warnings"])
    assert forced.info["ess"] < 100


# ---------------------------------------------------------------- as published


def unit(values: np.ndarray) -> Any:
    return dncbench.merge(values, "semiparametric[bandwidth=unit]", num_draws=4000)


def test_one_chain_in_own_units() -> None:
    rng = np.random.default_rng(13)
    values = np.array([-0.3, 0.3])[:, None, None] + rng.standard_normal((2, 4000, 1))
    result = unit(values)
    assert result.info["bandwidth"] == pytest.approx(4000 ** (-1 / 5))
    assert result.info["chains"] == 1
    # One chain moves slowly: over eight seeds max_rhat was 1.04 to 1.09, and the ESS 40 to 113.
    assert result.info["max_rhat"] < 1.2
    assert 20 < result.info["ess"] < 200
    assert_moments(result.draws, result.info["ess"], 0.0, 0.5**0.5)


def test_own_units_fail_on_another_scale() -> None:
    # In units fifty times smaller the kernels are a fiftieth as wide, and the chain hardly
    # moves: over sixteen seeds max_rhat was 1.26 to 3.1, and the ESS at most 11.
    rng = np.random.default_rng(14)
    result = unit(50.0 * rng.standard_normal((2, 4000, 1)))
    assert result.info["max_rhat"] > 1.1
    assert result.info["ess"] < 100
    assert len(result.info["warnings"]) >= 1


def test_whitened_units_do_not_matter() -> None:
    values = 1000.0 * np.random.default_rng(14).standard_normal((SHARDS, DRAWS, 1))
    draws, again = (
        dncbench.merge(each, "semiparametric", num_draws=DRAWS).draws
        for each in (values, values / 1000.0)
    )
    np.testing.assert_allclose(draws, 1000.0 * again, rtol=1e-3, atol=1.0)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("semiparametric[bandwidth=units]", "did you mean unit"),
        ("semiparametric[weights=fuller]", "known: full, reduced"),
        ("semiparametric[end=-1]", "end=-1"),
        ("semiparametric[bandwidth=unit,end=0.5]", "end has no meaning"),
        ("nonparametric[sweeps=1]", "nonparametric: end=0.0, sweeps=1"),
    ],
)
def test_unknown_settings_are_named(method: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        dncbench.merge(np.zeros((2, 10, 1)), method)
