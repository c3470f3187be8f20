"""Sampling from a product density, against closed forms."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma, softmax
from scipy.stats import norm

from dncbench.contracts.gaussian_shards import (
    FALSE_ALARM,
    assert_covariance,
    assert_mean,
    make_shards,
)
from dncbench.methods._gaussian import whitening
from dncbench.methods._product_density import (
    Schedule,
    convergence,
    product_space,
    resampled,
    sample,
    sample_annealed,
    whitened_product,
)
from dncbench.running.status import MAX_MERGE_RHAT, status

KEY = jax.random.key(2)
NUM_DRAWS = 8000


# ---------------------------------------------------------------- coordinates


def test_product_whitened_coordinates_whiten_the_product() -> None:
    shards = make_shards(np.random.default_rng(0), 3, 4)
    theta = shards.exact(np.random.default_rng(1), 5)

    @jax.jit
    def there_and_back(means, covariances, theta):
        space = product_space(means, covariances)
        return space, space.original(space.whitened(theta))

    space, back = there_and_back(shards.means, shards.covariances, theta)
    root = np.asarray(space.root)
    np.testing.assert_allclose(root @ root.T, shards.covariance, rtol=1e-9)
    np.testing.assert_allclose(space.mean, shards.mean, rtol=1e-9)
    np.testing.assert_allclose(back, theta, rtol=1e-10)


def test_shard_coordinates_are_composed_in_one_map() -> None:
    rng = np.random.default_rng(3)
    values = make_shards(rng, 3, 4).draws(rng, 200)

    @jax.jit
    def both_ways(values, z):
        shards = jax.vmap(whitening)(values)
        space = whitened_product(shards)
        matrices, shifts = jax.vmap(space.into)(shards)
        return matrices @ z + shifts, jax.vmap(lambda own: own.positions(space.original(z)))(shards)

    composed, in_turn = both_ways(values, rng.standard_normal(4))
    np.testing.assert_allclose(composed, in_turn, rtol=1e-9, atol=1e-12)


def test_scores_follow_their_positions() -> None:
    # d/dx of f(θ(x)), by differentiating through the map.
    rng = np.random.default_rng(4)
    values = make_shards(rng, 1, 3).draws(rng, 100)[0]
    f = lambda theta: jnp.sum(jnp.sin(theta)) + theta[0] * theta[2]  # noqa: E731

    @jax.jit
    def both(values, x):
        own = whitening(values)
        expected = jax.grad(lambda x: f(own.original(x)))(x)
        return own.scores(jax.grad(f)(own.original(x))), expected

    found, expected = both(values, rng.standard_normal(3))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# ---------------------------------------------------------------- fixed density


ROOT = np.array([[2.0, 0.0, 0.0], [0.9, 0.4, 0.0], [-0.3, 0.2, 0.1]])
MEAN, COVARIANCE = np.array([1.0, -2.0, 0.5]), ROOT @ ROOT.T


def gaussian(z):
    centred = z - MEAN.astype(np.float32)
    return -0.5 * centred @ jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32) @ centred


def two_modes(z):
    centred = z[None] - jnp.array([[3.0], [-3.0]], jnp.float32)
    return jax.nn.logsumexp(-0.5 * jnp.sum(centred**2, axis=1) / 0.1)


def gammas(z):
    return jnp.sum(jnp.log(z + 1.0) * 3.0 - (z + 1.0))  # Gamma(4) - 1, on z > -1


DENSITIES = (gaussian, two_modes, gammas)


@functools.cache
def _sampler():
    # One program for all of them: most of the time would go into compiling each its own.
    chosen = lambda which: lambda z: jax.lax.switch(which, DENSITIES, z)  # noqa: E731
    return jax.jit(lambda which: sample(chosen(which), KEY, NUM_DRAWS, 3))


def sampled(density):
    """Draws (NUM_DRAWS, 3) of one of DENSITIES, and info."""
    return _sampler()(DENSITIES.index(density))


def test_a_gaussian_is_sampled_with_its_moments() -> None:
    z, info = sampled(gaussian)
    assert z.shape == (NUM_DRAWS, 3)
    assert info["max_rhat"] < 1.01
    assert 0.7 < info["acceptance"] < 1.0
    size = min(float(info["ess"]), NUM_DRAWS)
    draws = np.asarray(z, float)
    assert_mean(draws, MEAN, COVARIANCE / size)
    # Squares of the draws mix no worse than half as fast as the draws.
    assert_covariance(draws, COVARIANCE, 2 / size)
    centred = draws - MEAN
    expected = -0.5 * np.sum(centred @ np.linalg.inv(COVARIANCE) * centred, axis=1)
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
    size = min(float(info["ess"]), NUM_DRAWS)
    z_score = (np.asarray(z).mean(0) - mean) / np.sqrt(variance / size)
    assert np.abs(z_score).max() < norm.isf(FALSE_ALARM / 4)
    expected = np.sum(a * np.asarray(z) - np.exp(z), axis=1)
    np.testing.assert_allclose(info["log_density"], expected, rtol=1e-10)
    # The guide's own mean would be far beyond that bound.
    shift = (digamma(a + 0.5) - mean) / np.sqrt(variance / size)
    assert shift.min() > 2 * norm.isf(FALSE_ALARM / 4)


def test_chains_that_stay_in_their_mode_show_in_rhat() -> None:
    _, info = sampled(two_modes)
    assert info["max_rhat"] > 1.05
    assert info["persistence"] > 0.9
    told = {name: float(info[name]) for name in ("ess", "max_rhat", "persistence")}
    assert status(told)["status"] == "unreliable"


def told_of(by_chain: np.ndarray) -> dict[str, float]:
    return {name: float(one) for name, one in convergence(jnp.asarray(by_chain)).items()}


@pytest.mark.parametrize(
    ("correlation", "rhat"), [(0.0, 1.0), (0.33, 1.055), (0.5, 1.11), (0.7, 1.25)]
)
def test_short_chains_at_rest_are_no_alarm(correlation: float, rhat: float) -> None:
    """AR(1) chains from their stationary law: nothing is wrong with them."""
    rng = np.random.default_rng(12)
    path = rng.standard_normal((20, 500, 2))
    for before, now in itertools.pairwise(path):
        now[:] = correlation * before + np.sqrt(1 - correlation**2) * now
    found = told_of(path.swapaxes(0, 1))
    assert status(found) == {"status": "ok"}
    # R-hat alone would be one, from a correlation of a half on. Over five seeds it was 1.00,
    # 1.05 to 1.06, 1.10 to 1.12, and 1.23 to 1.27.
    assert found["max_rhat"] == pytest.approx(rhat, abs=0.03)
    assert found["max_rhat"] > MAX_MERGE_RHAT or correlation < 0.5


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_short_chains_of_which_some_are_stuck_are_unreliable(share: float) -> None:
    rng = np.random.default_rng(13)
    path = rng.standard_normal((500, 20, 2))
    path[: int(500 * share)] += 6.0
    found = told_of(path)
    assert found["persistence"] > 0.5
    assert status(found)["status"] == "unreliable"


def test_where_the_density_is_not_a_number_no_chain_goes() -> None:
    z, info = sampled(gammas)
    z = np.asarray(z)
    inside = z[np.isfinite(info["log_density"])]
    # Chains that start below -1 have no gradient to leave by; they may not spread.
    assert len(inside) > NUM_DRAWS / 4
    assert np.all(inside > -1.0)
    assert np.isfinite(z).all()


# ---------------------------------------------------------------- annealing


def mixture(z, weight):
    """Two modes in two dimensions, at (2, 2) and (-2, -2), of known weights."""
    centred = z[None] - jnp.array([[2.0], [-2.0]])
    logs = jnp.log(jnp.array([weight, 1 - weight]))
    return jax.nn.logsumexp(logs - 0.5 * jnp.sum(centred**2, axis=1) / 0.2**2)


@functools.cache
def _annealer(reweight: bool):
    @jax.jit
    def run(before, weight, offset):
        def path(z, t):
            late = jnp.clip(t / 0.1, 0.0, 1.0)
            target = late * mixture(z, before) + (1 - late) * mixture(z, weight)
            return (1 - t) * target - t * 0.5 * jnp.sum((z - offset) ** 2)

        return sample_annealed(path, KEY, NUM_DRAWS, 2, reweight=reweight)

    return run


def annealed(weight: float, before: float, offset: float = 0.0, reweight: bool = True):
    """Draws of a mixture as float64, and info.

    Args:
        weight: of the upper mode, in the end.
        before: of the same while t > 0.1.
        offset: of the density at t = 1 from what the particles start from.
        reweight: as for sample_annealed.
    """
    z, info = _annealer(reweight)(before, weight, offset)
    return np.asarray(z, float), info


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_annealing_keeps_the_weights_of_the_modes(offset: float) -> None:
    z, info = annealed(0.7, 0.7, offset)
    weight = np.mean(z[:, 0] > 0)
    # Binomial, with as many independent particles as the genealogy leaves.
    error = np.sqrt(0.7 * 0.3 / float(info["ess"]))
    assert abs(weight - 0.7) < norm.isf(FALSE_ALARM / 2) * error
    assert info["ess"] > 500
    # Within a mode the moves have forgotten the start.
    upper = z[z[:, 0] > 0]
    assert_mean(upper, np.array([2.0, 2.0]), 0.04 * np.eye(2) / float(info["ess"]))


def test_annealing_without_weights_keeps_those_of_the_densities_that_moves_could_cross() -> None:
    # The modes' heights change only after t = 0.1, when no particle can change sides any more.
    upper = {}
    for reweight in (True, False):
        z, info = annealed(0.9, 0.5, reweight=reweight)
        upper[reweight] = np.mean(z[:, 0] > 0), float(info["ess"])
    assert upper[False][1] == NUM_DRAWS  # every particle is its own
    for reweight, weight in ((True, 0.9), (False, 0.5)):
        share, ess = upper[reweight]
        error = np.sqrt(weight * (1 - weight) / ess)
        assert abs(share - weight) < norm.isf(FALSE_ALARM / 2) * error


def test_a_schedule_says_how_far_moves_go() -> None:
    # From N(0, I) to a Gaussian of sd 0.3 about 0.7, in coordinates 2 z: steps of 0.2 there are of
    # 0.1 in z, and so long a schedule gets there; with steps of 0.002 it hardly moves.
    def path(z, t):
        return -(1 - t) * 0.5 * jnp.sum(((z - 0.7) / 0.3) ** 2) - t * 0.5 * jnp.sum(z**2)

    def reached(step_size: float) -> tuple[np.ndarray, float]:
        schedule = Schedule(300, 1, 0, step_size, 2.0 * jnp.eye(2))
        run = jax.jit(
            lambda: sample_annealed(path, KEY, NUM_DRAWS, 2, reweight=False, schedule=schedule)
        )
        z, info = run()
        return np.asarray(z, float), float(info["acceptance"])

    z, acceptance = reached(0.2)
    assert_mean(z, np.array([0.7, 0.7]), 0.3**2 * np.eye(2) / NUM_DRAWS)
    assert 0.9 < acceptance < 0.9999  # steps of 0.2 in z itself would have 0.97 of them
    still, acceptance = reached(0.002)
    assert np.abs(still.mean(0) - 0.7).max() > 0.3
    assert acceptance > 0.9999


def test_resampling_gives_each_its_share_to_within_one() -> None:
    rng = np.random.default_rng(7)
    log_weights = 2.0 * rng.standard_normal(1000)
    counts = np.bincount(np.asarray(jax.jit(resampled)(KEY, log_weights)), minlength=1000)
    expected = 1000 * softmax(log_weights)
    assert counts.sum() == 1000
    assert np.abs(counts - expected).max() < 1 + 1e-9
