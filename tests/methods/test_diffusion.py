"""Diffusion models against densities whose noised versions are known, and their two merges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import digamma, polygamma
from scipy.stats import norm

import dncbench
from dncbench.contracts.gaussian_shards import make_shards, product_of_gaussians
from dncbench.errors import UnknownNameError
from dncbench.method import Shard
from dncbench.methods._diffusion_model import (
    SHORTENED,
    Energy,
    Training,
    bounded_scores,
    integrated_rate,
    noise,
    scaled,
    signal,
    target,
    time_of,
    train,
)
from dncbench.methods.diffusion import Diffusion
from dncbench.methods.score_sum_sde import NoisedShard, ScoreSumSde, reverse_sde, summed_score

KEY = jax.random.key(0)
BRIEF = Training(3000, 64, 5e-3, 0.995)


def energy(dim: int, spread: float = 0.3) -> Energy:
    """A network with a last layer that is not zero."""
    rng = np.random.default_rng(1)
    noise = lambda leaf: leaf + np.float32(spread) * rng.standard_normal(leaf.shape, np.float32)  # noqa: E731
    return jax.tree.map(noise, untrained(dim))


@functools.cache
def untrained(dim: int) -> Energy:
    return jax.jit(lambda: Energy(dim, KEY))()


# ---------------------------------------------------------------- the SDE and the network


def test_the_noise_is_that_of_the_variance_preserving_sde() -> None:
    t = np.linspace(0.0, 1.0, 101)

    @jax.jit
    def at(t):
        return signal(t), noise(t), jax.vmap(jax.grad(signal))(t), time_of(integrated_rate(t))

    m, s, slope, again = map(np.asarray, at(t))
    np.testing.assert_allclose(m**2 + s**2, 1.0, rtol=1e-12)
    # dm/dt = -β m / 2 with β from 0.1 to 20, equation 3.
    np.testing.assert_allclose(slope, -0.5 * (0.1 + 19.9 * t) * m, rtol=1e-12)
    np.testing.assert_allclose(again, t, atol=1e-12)
    assert float(noise(jnp.float32(1e-5))) == pytest.approx(1e-3, rel=1e-3)


@jax.jit
def densities_and_scores(network: Energy, x: np.ndarray) -> tuple[jax.Array, ...]:
    """Log densities, scores and gradients of the log densities at x (n, d), at three noises."""

    def at(x: jax.Array, s: jax.Array) -> tuple[jax.Array, ...]:
        return network.log_density(x, s), network.score(x, s), jax.grad(network.log_density)(x, s)

    noises = jnp.array([0.0, 0.4, 1.0], jnp.float32)
    return jax.vmap(jax.vmap(at, (0, None)), (None, 0))(x.astype(jnp.float32), noises)


def test_an_untrained_network_is_the_gaussian() -> None:
    x = np.random.default_rng(9).standard_normal((20, 3))
    log_density, score, _ = densities_and_scores(untrained(3), x)
    np.testing.assert_allclose(log_density, np.tile(-0.5 * np.sum(x**2, 1), (3, 1)), rtol=1e-5)
    np.testing.assert_allclose(score, np.tile(-x, (3, 1, 1)), rtol=1e-5)


def test_the_score_is_the_gradient_of_the_log_density() -> None:
    x = np.random.default_rng(9).standard_normal((20, 3))
    _, score, gradient = map(np.asarray, densities_and_scores(energy(3), x))
    np.testing.assert_allclose(score, gradient, rtol=1e-4, atol=1e-4)
    assert np.abs(score + x).max() > 0.5


def mixture(num_draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of 0.4 N(-1.1, 0.5²) + 0.6 N(0.9, 0.6²), and (weights, means, sds)."""
    parts = np.array([[0.4, 0.6], [-1.1, 0.9], [0.5, 0.6]])
    rng = np.random.default_rng(0)
    which = rng.choice(2, num_draws, p=parts[0])
    draws = parts[1, which] + parts[2, which] * rng.standard_normal(num_draws)
    return draws[:, None], mixture_score(draws, parts)[:, None], parts


def mixture_score(x: np.ndarray, parts: np.ndarray, t: float | None = None) -> np.ndarray:
    """∇ log p_t of the mixture: noise makes N(μ, σ²) into N(m μ, m² σ² + s²)."""
    m, s = (1.0, 0.0) if t is None else (float(signal(jnp.array(t))), float(noise(jnp.array(t))))
    weights, means, sds = parts[:, :, None]
    means, sds = m * means, np.hypot(m * sds, s)
    densities = weights * norm.pdf(x, means, sds)
    return (densities * (means - x) / sds**2).sum(0) / densities.sum(0)


@pytest.mark.parametrize("objective", ["combined", "dsm", "tsm"])
@pytest.mark.parametrize("t", [0.05, 0.3])
def test_targets_are_the_noised_score_on_average(objective: str, t: float) -> None:
    # E[target f(X_t)] = E[∇ log p_t(X_t) f(X_t)] for every f (Vincent 2011, De Bortoli et
    # al. 2024); the mean of independent products within 4.4 standard errors, 1e-5.
    draws, score, parts = mixture(100_000)
    epsilon = np.random.default_rng(2).standard_normal(draws.shape)
    a, c = scaled(jnp.array(t))
    noised = np.asarray(a * draws + c * epsilon)[:, 0]
    targets = target(objective, jnp.asarray(score), jnp.asarray(epsilon), a, c)
    targets = np.asarray(targets)[:, 0]
    excess = targets - mixture_score(noised, parts, t)
    for products in (excess, excess * noised, excess * np.sin(3 * noised)):
        error = products.std() / np.sqrt(len(products))
        assert np.abs(products.mean()) < norm.isf(5e-6) * error


def test_the_combined_target_has_no_noise_for_a_whitened_gaussian() -> None:
    rng = np.random.default_rng(3)
    x, epsilon = rng.standard_normal((2, 50, 2))
    for variances in (None, jnp.array([1e-4, 1e4])):
        for t in (1e-5, 0.3, 1 - 1e-5):
            a, c = scaled(jnp.array(t), variances)
            np.testing.assert_allclose(a**2 + c**2, 1.0, rtol=1e-12)
            of_one = lambda x, epsilon: target("combined", -x, epsilon, a, c)  # noqa: B023, E731
            found = jax.vmap(of_one)(jnp.asarray(x), jnp.asarray(epsilon))
            expected = -(np.asarray(a) * x + np.asarray(c) * epsilon)
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_training_finds_the_noised_scores() -> None:
    draws, score, parts = mixture(5000)
    network, losses = jax.jit(lambda x, g: train(x, g, KEY, BRIEF))(draws, score)
    # What is left is the noise of the target, of which no training is rid.
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    # Root mean square over x ~ p_t: at most 0.16, 0.07, 0.02 for four keys; the score's own
    # is 1 to 2, and that of x - ∇ log p_t, with which training starts, 0.9, 0.7 and 0.1.
    scores = jax.jit(jax.vmap(network.score, (0, None)))
    for t, bound in ((0.0, 0.3), (0.1, 0.15), (0.5, 0.06)):
        m, s = float(signal(jnp.array(t))), float(noise(jnp.array(t)))
        x = m * draws + s * np.random.default_rng(1).normal(size=draws.shape)
        found = scores(x.astype(np.float32), np.float32(s))
        exact = mixture_score(x[:, 0], parts, t)
        assert np.sqrt(np.mean((np.asarray(found)[:, 0] - exact) ** 2)) < bound


def test_scores_out_of_all_proportion_are_shortened() -> None:
    score = np.random.default_rng(4).standard_normal((1001, 3))
    bounded = jax.jit(bounded_scores)
    same, none = bounded(score)
    np.testing.assert_array_equal(same, score)
    assert none == 0
    score[7] *= 1e6
    limit = 20 * np.median(np.linalg.norm(score, axis=1))
    shortened, share = bounded(score)
    np.testing.assert_allclose(np.linalg.norm(shortened[7]), limit, rtol=1e-9)
    np.testing.assert_array_equal(np.delete(shortened, 7, 0), np.delete(score, 7, 0))
    assert share == pytest.approx(1 / 1001)


# ---------------------------------------------------------------- diffusion


class LogGammas:
    """θ = log x for Gamma subposteriors x: p_s ∝ exp(a_s θ - b_s e^θ), whose product is one."""

    def __init__(self, num_draws: int) -> None:
        self.shapes, self.rates = np.array([1.0, 1.0, 0.6]), np.array([0.1, 4.0, 0.1])
        rng = np.random.default_rng(5)
        gammas = rng.gamma(self.shapes[:, None], 1 / self.rates[:, None], (3, num_draws))
        self.values = np.log(gammas)[:, :, None]
        self.score = (self.shapes[:, None] - self.rates[:, None] * gammas)[:, :, None]
        self.mean = digamma(self.shapes.sum()) - np.log(self.rates.sum())
        self.sd = np.sqrt(polygamma(1, self.shapes.sum()))
        self.skewness = polygamma(2, self.shapes.sum()) / self.sd**3

    def errors(self, draws: np.ndarray) -> np.ndarray:
        """Of mean, log sd and skewness, the first in posterior sds."""
        centred = (draws - draws.mean()) / draws.std()
        shift, scale = (draws.mean() - self.mean) / self.sd, np.log(draws.std() / self.sd)
        return np.array([shift, scale, np.mean(centred**3) - self.skewness])


def test_skewed_shards_merge_to_their_product() -> None:
    shards = LogGammas(4000)
    result = dncbench.merge(shards.values, "diffusion", score=shards.score, num_draws=4000)
    # Standard errors of 4000 independent draws: 0.016, 0.013, 0.05. Errors for four keys:
    # up to 0.03, 0.04 and 0.04.
    assert (np.abs(shards.errors(result.draws)) < [0.1, 0.1, 0.25]).all()
    assert result.info["warnings"] == []
    gaussian = product_of_gaussians(np.random.default_rng(6), shards.values, 4000)
    assert (np.abs(shards.errors(gaussian)) > [0.9, 0.15, 0.5]).all()


def test_one_corrupted_score_is_reported_and_does_little() -> None:
    shards = LogGammas(4000)
    score = shards.score.copy()
    score[1, 17] = 1e3
    result = dncbench.merge(shards.values, "diffusion", score=score, num_draws=4000)
    # It is cut to 20 times the median length, a pull of 0.005 on the mean score of its shard.
    assert (np.abs(shards.errors(result.draws)) < [0.1, 0.1, 0.25]).all()
    assert any(SHORTENED in warning for warning in result.info["warnings"])


def test_annealed_sampling_of_networks_that_saw_raw_draws() -> None:
    # Errors for five keys: up to 0.13, 0.06 and 0.16.
    shards = LogGammas(4000)
    settings = {"normalise": False, "sampler": "annealed"}
    result = dncbench.merge(
        shards.values, "diffusion", score=shards.score, num_draws=2000, **settings
    )
    assert (np.abs(shards.errors(result.draws)) < [0.25, 0.2, 0.5]).all()


def test_scores_are_asked_for_only_where_they_are_used() -> None:
    assert "score" in Diffusion().needs
    assert "score" in Diffusion(objective="tsm").needs
    for method in (Diffusion(objective="dsm"), Diffusion(stored_scores=False)):
        assert "score" not in method.needs
        jax.eval_shape(method.fit, Shard(values=jnp.zeros((50, 2))), KEY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": "quick"}, "training='quick'"),
        ({"objective": "dms"}, "did you mean dsm"),
        ({"sampler": "nuts"}, "known: fixed, annealed, annealed-smc, annealed-published"),
        ({"objective": "tsm", "stored_scores": False}, "fits nothing but stored scores"),
    ],
)
def test_unknown_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        Diffusion(**settings)


# ---------------------------------------------------------------- the negative control


def test_the_negative_control_refuses_unknown_settings() -> None:
    with pytest.raises(UnknownNameError, match="training='quick'"):
        ScoreSumSde(training="quick")


def noised_product(means: np.ndarray, covariances: np.ndarray, t: float) -> tuple:
    """Mean and covariance of Π_s N(m μ_s, m² V_s + s² I), equation 20."""
    m, s = float(signal(jnp.array(t))), float(noise(jnp.array(t)))
    precisions = [np.linalg.inv(m**2 * v + s**2 * np.eye(len(v))) for v in covariances]
    covariance = np.linalg.inv(sum(precisions))
    weighted = sum(p @ (m * mean) for p, mean in zip(precisions, means, strict=True))
    return covariance @ weighted, covariance


@pytest.mark.parametrize("t", [0.0, 0.03, 0.4, 1.0])
def test_the_sum_of_gaussian_scores_is_that_of_equation_20(t: float) -> None:
    shards = make_shards(np.random.default_rng(6), 3, 2)
    variances, basis = np.linalg.eigh(shards.covariances)
    networks = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), untrained(2))
    arrays = shards.means, basis, variances, np.zeros(3), np.zeros((3, 1))
    stacked = NoisedShard(networks, *map(jnp.asarray, arrays))
    mean, covariance = noised_product(shards.means, shards.covariances, t)
    root = np.linalg.cholesky(covariance)
    for offset in np.random.default_rng(7).standard_normal((5, 2)):
        theta = mean + root @ offset
        found = jax.jit(summed_score)(stacked, theta, jnp.array(t))
        # In whitened units; float32 in the networks.
        np.testing.assert_allclose(root.T @ np.asarray(found), -offset, atol=1e-4)


def test_the_reverse_sde_of_summed_gaussian_scores_has_its_closed_form() -> None:
    # With b(t) = ∫β and the score -Ṽ⁻¹ (θ - μ̃) of equation 20, back in time
    # dm/db = m/2 + Ṽ⁻¹ (μ̃ - m), dV/db = V + I - Ṽ⁻¹ V - V Ṽ⁻¹.
    means = np.array([[0.5, -1.0], [2.0, 0.3], [-0.4, 0.2]])
    covariances = np.array([[[0.5, 0.2], [0.2, 0.4]], [[1.5, -0.4], [-0.4, 1.0]], np.eye(2)])
    first = float(integrated_rate(jnp.array(1.0)))

    def slope(clock: float, state: np.ndarray) -> np.ndarray:
        t = float(time_of(jnp.array(max(first - clock, 1e-6))))
        centre, product = noised_product(means, covariances, t)
        precision = np.linalg.inv(product)
        mean, covariance = state[:2], state[2:].reshape(2, 2)
        pulled = precision @ covariance
        change = covariance + np.eye(2) - pulled - pulled.T
        return np.concatenate([mean / 2 + precision @ (centre - mean), change.ravel()])

    start = np.concatenate([np.zeros(2), np.eye(2).ravel()])
    solved = solve_ivp(slope, (0.0, first), start, method="LSODA", rtol=1e-6, atol=1e-8).y[:, -1]
    mean, covariance = solved[:2], solved[2:].reshape(2, 2)

    def score(theta: jax.Array, t: jax.Array) -> jax.Array:
        m, s = signal(t), noise(t)
        precisions = jnp.linalg.inv(m**2 * covariances + s**2 * jnp.eye(2)[None])
        pulls = jnp.einsum("sij,sj->si", precisions, m * means - theta[None])
        return jnp.sum(pulls, axis=0)

    noise_start = jax.random.normal(KEY, (4000, 2))
    run = jax.jit(lambda start: reverse_sde(score, start, jax.random.key(1), 2000))
    draws = np.asarray(run(noise_start))
    # Steps of 0.012 in log s²/m² times three shards: the scheme's variance is up to 2 % off.
    root = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(root, (draws - mean).T)
    assert np.abs(whitened.mean(1)).max() < norm.isf(1e-5) / np.sqrt(4000)
    excess = np.cov(whitened) - np.eye(2)
    assert np.abs(excess).max() < 0.02 + norm.isf(1e-5) * np.sqrt(2 / 4000)
    # And that is not the product: it is too narrow in every direction.
    _, product = noised_product(means, covariances, 0.0)
    assert np.linalg.eigvals(np.linalg.solve(product, covariance)).real.max() < 0.85


def test_equal_gaussian_shards_end_at_variance_one_over_twice_their_number_less_one() -> None:
    rng = np.random.default_rng(8)
    values = rng.standard_normal((3, 4000, 1))
    values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    # Brief training: an untrained network has their scores already, and nothing to learn.
    result = dncbench.merge(values, "score-sum-sde[training=brief]", score=-values, num_draws=4000)
    # The stationary variance of dX = (1/2 - 3) X db + dW is 1/5, that of the product 1/3.
    # Standard error of 4000 draws 2.2 %; steps h = 0.048 add h (S² - 2S + 1/2) / (2S - 1) = 3.4 %.
    assert result.draws.var() == pytest.approx(0.2, rel=0.12)
