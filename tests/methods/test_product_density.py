"""Sampling from a product density, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma
from scipy.stats import norm

from dncbench.contracts.gaussian_shards import (
    FALSE_ALARM,
    assert_covariance,
    assert_mean,
    make_shards,
)
from dncbench.methods._gaussian import whitening
from dncbench.methods._product_density import (
    product_space,
    resampled,
    sample,
    sample_annealed,
    whitened_product,
)

KEY = jax.random.key(2)
NUM_DRAWS = 8000


# ---------------------------------------------------------------- coordinates


def test_product_whitened_coordinates_whiten_the_product() -> None:
    shards = make_shards(np.random.default_rng(0), 3, 4)
    space = product_space(jnp.asarray(shards.means), jnp.asarray(shards.covariances))
    np.testing.assert_allclose(space.root @ space.root.T, shards.covariance, rtol=1e-9)
    np.testing.assert_allclose(space.mean, shards.mean, rtol=1e-9)
    theta = jnp.asarray(shards.exact(np.random.default_rng(1), 5))
    np.testing.assert_allclose(space.original(space.whitened(theta)), theta, rtol=1e-10)


def test_shard_coordinates_are_composed_in_one_map() -> None:
    rng = np.random.default_rng(3)
    values = jnp.asarray(make_shards(rng, 3, 4).draws(rng, 200))
    shards = jax.vmap(whitening)(values)
    space = whitened_product(shards)
    z = jnp.asarray(rng.standard_normal(4))
    for s in range(3):
        own = jax.tree.map(lambda leaf, s=s: leaf[s], shards)
        matrix, shift = space.into(own)
        np.testing.assert_allclose(
            matrix @ z + shift, own.positions(space.original(z)), rtol=1e-9, atol=1e-12
        )


def test_scores_follow_their_positions() -> None:
    # d/dx of f(θ(x)), by differentiating through the map.
    rng = np.random.default_rng(4)
    values = jnp.asarray(make_shards(rng, 1, 3).draws(rng, 100)[0])
    own = whitening(values)
    f = lambda theta: jnp.sum(jnp.sin(theta)) + theta[0] * theta[2]  # noqa: E731
    x = jnp.asarray(rng.standard_normal(3))
    expected = jax.grad(lambda x: f(own.original(x)))(x)
    np.testing.assert_allclose(own.scores(jax.grad(f)(own.original(x))), expected, rtol=1e-10)


# ---------------------------------------------------------------- fixed density


def test_a_gaussian_is_sampled_with_its_moments() -> None:
    root = np.array([[2.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.3, 0.2, 0.1]])
    mean, covariance = np.array([1.0, -2.0, 0.5]), root @ root.T
    precision = jnp.asarray(np.linalg.inv(covariance), jnp.float32)

    def log_density(z):
        return -0.5 * (z - mean.astype(np.float32)) @ precision @ (z - mean.astype(np.float32))

    z, info = jax.jit(lambda: sample(log_density, KEY, NUM_DRAWS, 3))()
    assert z.shape == (NUM_DRAWS, 3)
    assert info["max_rhat"] < 1.01
    assert 0.7 < info["acceptance"] < 1.0
    size = float(jnp.minimum(info["ess"], NUM_DRAWS))
    assert_mean(np.asarray(z, float), mean, covariance / size)
    # Squares of the draws mix no worse than half as fast as the draws.
    assert_covariance(np.asarray(z, float), covariance, 2 / size)
    expected = jax.vmap(log_density)(z)
    np.testing.assert_allclose(info["log_density"], expected, rtol=1e-3, atol=1e-3)


def test_the_acceptance_decides_what_is_sampled() -> None:
    # log of a Gamma(a) variate: density exp(a z - e^z), mean ψ(a), variance ψ'(a). The
    # guide believes in other shapes.
    a = np.array([1.5, 6.0])
    mean, variance = digamma(a), polygamma(1, a)

    def guide(z):
        return jnp.sum((a + 0.5) * z - jnp.exp(z))

    def target(z):
        return jnp.sum(a * z - jnp.exp(z))

    z, info = jax.jit(lambda: sample(guide, KEY, NUM_DRAWS, 2, accept=target, dtype=jnp.float64))()
    size = float(jnp.minimum(info["ess"], NUM_DRAWS))
    z_score = (np.asarray(z).mean(0) - mean) / np.sqrt(variance / size)
    assert np.abs(z_score).max() < norm.isf(FALSE_ALARM / 4)
    np.testing.assert_allclose(info["log_density"], jax.vmap(target)(z), rtol=1e-10)
    # The guide's own mean would be far beyond that bound.
    shift = (digamma(a + 0.5) - mean) / np.sqrt(variance / size)
    assert shift.min() > 2 * norm.isf(FALSE_ALARM / 4)


def test_chains_that_stay_in_their_mode_show_in_rhat() -> None:
    def log_density(z):
        return jax.nn.logsumexp(
            -0.5 * jnp.sum((z[None] - jnp.array([[3.0], [-3.0]])) ** 2, 1) / 0.1
        )

    _, info = jax.jit(lambda: sample(log_density, KEY, 1000, 1))()
    assert info["max_rhat"] > 1.05


def test_where_the_density_is_not_a_number_no_chain_goes() -> None:
    def log_density(z):
        return jnp.sum(jnp.log(z + 1.0) * 3.0 - (z + 1.0))  # Gamma(4) - 1, on z > -1

    z, info = jax.jit(lambda: sample(log_density, KEY, 2000, 1))()
    inside = np.asarray(z)[np.asarray(jnp.isfinite(info["log_density"]))]
    # Chains that start below -1 have no gradient to leave by; they may not spread.
    assert np.all(inside > -1.0)
    assert np.isfinite(np.asarray(z)).all()


# ---------------------------------------------------------------- annealing


def mixture(weight: float, spread: float):
    """Two modes in two dimensions, at (2, 2) and (-2, -2), of known weights."""
    logs = jnp.log(jnp.array([weight, 1 - weight]))

    def log_density(z):
        centred = z[None] - jnp.array([[2.0], [-2.0]])
        return jax.nn.logsumexp(logs - 0.5 * jnp.sum(centred**2, axis=1) / spread**2)

    return log_density


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_annealing_keeps_the_weights_of_the_modes(offset: float) -> None:
    target = mixture(0.7, 0.2)

    def path(z, t):
        return (1 - t) * target(z) - t * 0.5 * jnp.sum((z - offset) ** 2)

    z, info = jax.jit(lambda: sample_annealed(path, KEY, NUM_DRAWS, 2))()
    weight = np.mean(np.asarray(z)[:, 0] > 0)
    # Binomial, with as many independent particles as the genealogy leaves.
    error = np.sqrt(0.7 * 0.3 / float(info["ess"]))
    assert abs(weight - 0.7) < norm.isf(FALSE_ALARM / 2) * error
    assert info["ess"] > 500
    # Within a mode the moves have forgotten the start.
    upper = np.asarray(z, float)[np.asarray(z)[:, 0] > 0]
    assert_mean(upper, np.array([2.0, 2.0]), 0.04 * np.eye(2) / float(info["ess"]))


def test_annealing_without_weights_keeps_those_of_the_densities_that_moves_could_cross() -> None:
    # The modes' heights change only after t = 0.1, when no particle can change sides any more.
    even, tilted = mixture(0.5, 0.2), mixture(0.9, 0.2)

    def path(z, t):
        late = jnp.clip(t / 0.1, 0.0, 1.0)
        target = late * even(z) + (1 - late) * tilted(z)
        return (1 - t) * target - t * 0.5 * jnp.sum(z**2)

    upper = {}
    for reweight in (True, False):
        z, info = jax.jit(lambda r=reweight: sample_annealed(path, KEY, NUM_DRAWS, 2, reweight=r))()
        upper[reweight] = np.mean(np.asarray(z)[:, 0] > 0), float(info["ess"])
    assert upper[False][1] == NUM_DRAWS  # every particle is its own
    for reweight, weight in ((True, 0.9), (False, 0.5)):
        share, ess = upper[reweight]
        error = np.sqrt(weight * (1 - weight) / ess)
        assert abs(share - weight) < norm.isf(FALSE_ALARM / 2) * error


def test_resampling_gives_each_its_share_to_within_one() -> None:
    rng = np.random.default_rng(7)
    log_weights = jnp.asarray(2.0 * rng.standard_normal(1000))
    counts = np.bincount(np.asarray(resampled(KEY, log_weights)), minlength=1000)
    expected = 1000 * np.asarray(jax.nn.softmax(log_weights))
    assert counts.sum() == 1000
    assert np.abs(counts - expected).max() < 1 + 1e-9
