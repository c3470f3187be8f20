"""The Gaussian-process merge against GPJax's posterior and against products in closed form."""

import functools
from typing import Any

import gpjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import polygamma, psi
from scipy.stats import norm

import dncbench
from dncbench.contracts.gaussian_shards import FALSE_ALARM
from dncbench.errors import DrawsError, UnknownNameError
from dncbench.methods._gp_surrogate import (
    Hyperparameters,
    Observations,
    basis,
    condition,
    fit,
    fit_as_published,
    matern52,
    restricted_log_likelihood,
)
from dncbench.methods.gaussian_process import GaussianProcesses

NUM, DIM = 60, 2
WIDE = 1e7  # prior variance of b that stands for a flat prior


@pytest.fixture(scope="module")
def data() -> Observations:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((NUM, DIM))
    y = 3.0 - 0.5 * (x**2).sum(1) + 0.4 * np.sin(2 * x[:, 0]) * x[:, 1] + x @ [0.3, -0.2]
    return Observations(jnp.asarray(x), jnp.asarray(y), jnp.ones(NUM, bool))


@pytest.fixture(scope="module")
def hyperparameters() -> Hyperparameters:
    return Hyperparameters(*map(jnp.asarray, (1.5, 2.0, 0.01, 0.6)))


@pytest.fixture(scope="module")
def points() -> jax.Array:
    # Among the observations and far from all of them.
    points = np.asarray(jax.random.normal(jax.random.key(1), (40, DIM)))
    return jnp.asarray(points * np.linspace(0.2, 4.0, 40)[:, None])


class Mean(gpjax.mean_functions.AbstractMeanFunction):
    """h(x)ᵀ b - β₂|x|²."""

    beta2: Any
    b: Any

    def __call__(self, x):
        return (basis(x) @ self.b - self.beta2 * jnp.sum(x**2, axis=1))[:, None]


def gpjax_model(h: Hyperparameters, b: jax.Array, wide: float | None = None) -> Any:
    """GPJax's model with b fixed, or with N(b, wide I) on it by way of two more kernels."""
    kernel = gpjax.kernels.Matern52(lengthscale=h.lengthscale, variance=h.variance)
    if wide is not None:
        kernel = kernel + gpjax.kernels.Linear(variance=wide)
        kernel = kernel + gpjax.kernels.Constant(constant=jnp.asarray(wide))
    prior = gpjax.Prior(mean_function=Mean(h.beta2, b), kernel=kernel, jitter=0.0)
    return prior * gpjax.likelihoods.Gaussian(obs_stddev=jnp.sqrt(h.noise))


def given(data: Observations) -> gpjax.Dataset:
    """Of data without repeats."""
    return gpjax.Dataset(X=data.x, y=data.y[:, None])


@jax.jit
def predicted(
    hyperparameters: Hyperparameters, data: Observations, points: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means, variances, and the posterior mean of b."""
    process = condition(hyperparameters, data)
    means, variances = jax.vmap(lambda x: (process.mean(x), process.variance(x)))(points)
    return means, variances, process.coefficients


fitted_to = jax.jit(fit)


def gram_of(data: Observations, lengthscale: jax.Array, variance: jax.Array) -> jax.Array:
    squared = jnp.sum((data.x[:, None] - data.x[None]) ** 2, axis=-1)
    return variance * matern52(squared / lengthscale**2)


# ---------------------------------------------------------------- the process


def test_the_kernel_is_gpjaxs(points: jax.Array) -> None:
    kernel = gpjax.kernels.Matern52(lengthscale=1.3, variance=1.0)
    at = np.array([0.0, 0.1, 1.0, 7.0])

    @jax.jit
    def computed(points: jax.Array) -> tuple[jax.Array, ...]:
        squared = jnp.sum((points[:, None] - points[None]) ** 2, axis=-1) / 1.3**2
        numeric = (matern52(at[1:] + 1e-5) - matern52(at[1:] - 1e-5)) / 2e-5
        theirs = kernel.cross_covariance(points, points)
        return matern52(squared), theirs, jax.vmap(jax.grad(matern52))(jnp.asarray(at)), numeric

    ours, theirs, slopes, numeric = computed(points)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    # Against finite differences, and at r = 0, where the root has no derivative.
    np.testing.assert_allclose(slopes[1:], numeric, rtol=1e-8)
    assert slopes[0] == pytest.approx(-5 / 6)


def test_predictions_are_gpjaxs(
    data: Observations, hyperparameters: Hyperparameters, points: jax.Array
) -> None:
    means, variances, coefficients = predicted(hyperparameters, data, points)

    @functools.partial(jax.jit, static_argnames="wide")
    def gpjaxs(b: jax.Array, wide: float | None = None) -> tuple[jax.Array, jax.Array]:
        model = gpjax_model(hyperparameters, b, wide).condition(given(data))
        found = model(points, covariance="diagonal")
        return found.mean, found.variance

    # The mean is that of the process whose b is fixed at its posterior mean ...
    fixed_means, fixed_variances = gpjaxs(coefficients)
    np.testing.assert_allclose(means, fixed_means, rtol=1e-9, atol=1e-9)
    # ... mean and variance are the limit of ever wider priors on b: the error is O(1/WIDE),
    # and rounding costs up to WIDE ε |x|² n beside it.
    wide_means, wide_variances = gpjaxs(np.zeros(DIM + 1), WIDE)
    np.testing.assert_allclose(means, wide_means, atol=2e-5)
    np.testing.assert_allclose(variances, wide_variances, atol=2e-5)
    # ... and b's uncertainty is a part of it that shows far out.
    assert np.all(variances > np.asarray(fixed_variances) - 1e-12)
    assert variances.max() > hyperparameters.variance


def test_restricted_likelihood_is_the_limit_of_wide_priors(
    data: Observations, hyperparameters: Hyperparameters
) -> None:
    @jax.jit
    def both(h: Hyperparameters) -> tuple[jax.Array, jax.Array]:
        model = gpjax_model(h, jnp.zeros(DIM + 1), WIDE)
        proper = gpjax.objectives.conjugate_mll(model, given(data))
        gram = gram_of(data, h.lengthscale, h.variance)
        return restricted_log_likelihood(gram, h.noise, h.beta2, data), proper

    constants = 0.5 * (DIM + 1) * np.log(WIDE) + 0.5 * NUM * np.log(2 * np.pi)
    h = hyperparameters
    for beta2, noise in ((0.6, 0.01), (0.3, 0.2)):
        given_h = Hyperparameters(h.lengthscale, h.variance, jnp.asarray(noise), jnp.asarray(beta2))
        ours, proper = both(given_h)
        assert ours == pytest.approx(float(proper) + constants, abs=1e-3)


def test_repeated_draws_are_as_if_they_were_not_there(
    data: Observations, hyperparameters: Hyperparameters, points: jax.Array
) -> None:
    rows = np.r_[np.arange(NUM), np.arange(0, NUM, 2)]
    first = np.arange(len(rows)) < NUM
    x, y = np.asarray(data.x), np.asarray(data.y)
    repeated = Observations(*map(jnp.asarray, (x[rows], y[rows], first)))
    plain, padded = (predicted(hyperparameters, each, points) for each in (data, repeated))
    for a, b in zip(plain, padded, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    fitted, again = fitted_to(data), fitted_to(repeated)
    for a, b in zip(jax.tree.leaves(fitted), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_the_fit_climbs_the_restricted_likelihood(data: Observations) -> None:
    fitted = fitted_to(data)

    def likelihood(logarithms: jax.Array) -> jax.Array:
        lengthscale, variance, noise, beta2 = jnp.exp(logarithms)
        return restricted_log_likelihood(gram_of(data, lengthscale, variance), noise, beta2, data)

    found = [fitted.lengthscale, fitted.variance, fitted.noise, fitted.beta2]
    found = np.log([float(each) for each in found])
    climb = jax.jit(jax.value_and_grad(lambda logarithms: -likelihood(logarithms)))
    free = [(None, None), (None, None), (found[2], None), (None, None)]
    best = minimize(climb, found, jac=True, bounds=free, method="L-BFGS-B")
    # The steps of Adam stop a few units short of the maximum.
    assert best.fun - float(climb(found)[0]) > -5.0
    start = np.log([2.0 * np.sqrt(DIM), 1.0, 0.01, 0.5])
    assert float(climb(found)[0]) < float(climb(start)[0]) - 10.0


# ---------------------------------------------------------------- as the published code


@pytest.fixture(scope="module")
def raw() -> tuple[np.ndarray, Observations]:
    """Draws θ of unlike scales, and the same as a Gaussian process sees them."""
    rng = np.random.default_rng(7)
    theta = rng.standard_normal((NUM, DIM)) @ np.array([[3.0, 0.4], [0.0, 0.2]]) + [5.0, -1.0]
    values, vectors = np.linalg.eigh(np.cov(theta.T))
    root = (vectors * np.sqrt(values)) @ vectors.T
    x = (theta - theta.mean(0)) @ np.linalg.inv(root)
    y = -0.5 * (x**2).sum(1) + 0.3 * np.sin(2 * x[:, 0])
    return theta, Observations(*map(jnp.asarray, (x, y, np.ones(NUM, bool), root)))


def test_published_predictions_are_in_the_parameters_own_units(
    raw: tuple[np.ndarray, Observations], hyperparameters: Hyperparameters
) -> None:
    theta, data = raw
    h = [float(each) for each in jax.tree.leaves(hyperparameters)]
    lengthscale, variance, noise, beta2 = h
    at = theta.mean(0) + np.random.default_rng(8).standard_normal((20, DIM)) * [3.0, 0.4]
    x = (at - theta.mean(0)) @ np.linalg.inv(np.asarray(data.root))
    means, variances, _ = predicted(hyperparameters, data, jnp.asarray(x))

    # Written again for θ: mean -β₂ θᵀ V⁻¹ θ + b₀ + b₁ᵀθ, kernel e^(-r) of θ, V their covariance.
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
        return variance * np.exp(-distance / lengthscale)

    inverse = np.linalg.inv(np.cov(theta.T))
    inverse_gram = np.linalg.inv(kernel(theta, theta) + noise * np.eye(NUM))
    left = np.asarray(data.y) + beta2 * np.einsum("ni,ij,nj->n", theta, inverse, theta)
    design, there = (np.column_stack([np.ones(len(t)), t]) for t in (theta, at))
    a = design.T @ inverse_gram @ design
    b = np.linalg.solve(a, design.T @ inverse_gram @ left)
    cross = kernel(theta, at)
    quadratic = beta2 * np.einsum("ni,ij,nj->n", at, inverse, at)
    wanted = there @ b - quadratic + cross.T @ inverse_gram @ (left - design @ b)
    rest = there - cross.T @ inverse_gram @ design
    explained = np.einsum("nm,nk,km->m", cross, inverse_gram, cross)
    uncertain = variance - explained + np.einsum("mi,im->m", rest, np.linalg.solve(a, rest.T))
    np.testing.assert_allclose(means, wanted, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(variances, uncertain, rtol=1e-7, atol=1e-7)


def test_the_published_training_fits_next_to_nothing(raw: tuple[np.ndarray, Observations]) -> None:
    _, data = raw
    h = jax.jit(fit_as_published)(data)
    before = np.log(np.expm1([float(h.lengthscale), float(h.variance), float(h.noise) ** 0.5]))
    moved = np.append(before - np.log(np.expm1(1.0)), float(h.beta2) - 1.0)
    # Adam of 1e-3 goes 1e-3 a step where a gradient stays as it is, a little more where it grows.
    assert 0.15 < np.abs(moved).max() < 0.25
    assert moved[2] < -0.15  # there is no noise in these log densities ...
    assert h.noise > 0.85**2  # ... and much is left of it
    assert moved[3] < -0.15  # a Gaussian shard has β₂ = 1/2

    def likelihood(h: Hyperparameters) -> jax.Array:
        gram = h.variance * data.gram(h.lengthscale)
        return restricted_log_likelihood(gram, h.noise, h.beta2, data)

    ones = Hyperparameters(*map(jnp.asarray, (1.0, 1.0, 1.0, 1.0)))
    assert jax.jit(likelihood)(h) > jax.jit(likelihood)(ones)


def test_the_published_merge_is_narrower_than_gaussian_shards_make_it() -> None:
    # Kernels of lengthscale 1 do not reach from draw to draw, and β₂ > 0.8 instead of 1/2.
    rng = np.random.default_rng(9)
    draws = 20.0 * rng.standard_normal((3, 1500, 2))
    log_density = -0.5 * np.sum((draws / 20.0) ** 2, axis=-1)
    full, published = (
        merged(draws, log_density, training=training).draws.std()
        for training in ("full", "published")
    )
    assert full == pytest.approx(20.0 / np.sqrt(3), rel=0.05)
    assert published < 0.85 * full


# ---------------------------------------------------------------- the merge


def log_gamma_shards(seed: int, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws of θ = log g, g ~ Gamma(a_s, rate b_s), in each of two coordinates, log densities."""
    rng = np.random.default_rng(seed)
    rates = np.array([[1.0, 2.0], [1.5, 1.0], [0.7, 1.4]])
    draws = np.log(rng.gamma(SHAPE, 1.0, (3, num_draws, 2)) / rates[:, None])
    log_density = np.sum(SHAPE * draws - rates[:, None] * np.exp(draws), axis=-1)
    return draws, log_density


SHAPE, TOTAL_RATES = 2.0, np.array([3.2, 4.4])
CENTRE = psi(3 * SHAPE) - np.log(TOTAL_RATES)


def merged(draws: np.ndarray, log_density: np.ndarray, **settings: Any) -> Any:
    """All merges are of one shape, so that they are compiled once.

    A hundred inducing draws, since the chains' every step costs their square. Errors of the
    skewed product's moments are those of 250, to a fifth of their standard errors.
    """
    assert draws.shape == (3, 1500, 2)
    return dncbench.merge(
        draws, "gp", log_density=log_density, num_draws=4000, inducing=100, subset=60, **settings
    )


@pytest.mark.parametrize("target", ["lognormal", "mean"])
def test_product_of_skewed_gammas(target: str) -> None:
    # The product is Gamma(Σ a, Σ b) in g: the cumulants of log g are polygammas of Σ a.
    draws, log_density = log_gamma_shards(1, 1500)
    log_density += np.array([[100.0], [-5.0], [0.0]])  # constants do not matter
    result = merged(draws, log_density, target=target)
    ess, variance = result.info["ess"], polygamma(1, 3 * SHAPE)
    skewness = polygamma(2, 3 * SHAPE) / variance**1.5
    kurtosis = polygamma(3, 3 * SHAPE) / variance**2 + 3.0
    centred = result.draws - result.draws.mean(0)
    found = (centred**3).mean(0) / (centred**2).mean(0) ** 1.5
    # Standard errors of ess independent draws; sqrt(15/n) bounds the skewness's, which is
    # sqrt(6/n) of Gaussian draws and 2.2 times as much of exponential ones.
    worst = norm.isf(FALSE_ALARM / 4)
    assert np.abs(result.draws.mean(0) - CENTRE).max() < worst * np.sqrt(variance / ess)
    spread = np.sqrt((kurtosis - 1) / ess)
    assert np.abs((centred**2).mean(0) / variance - 1).max() < worst * spread
    assert np.abs(found - skewness).max() < worst * np.sqrt(15 / ess)
    assert result.info["max_rhat"] < 1.05
    assert result.info["extrapolation"] < 0.1
    assert result.info["warnings"] == []


@pytest.mark.parametrize("target", ["lognormal", "mean"])
def test_chains_that_do_not_mix_are_told(target: str) -> None:
    # In the first coordinate every shard has two modes eight standard deviations apart.
    rng = np.random.default_rng(3)
    signs = np.where(rng.random((3, 1500)) < 0.5, -1.0, 1.0)
    draws = np.stack(
        [signs + 0.25 * rng.standard_normal((3, 1500)), rng.standard_normal((3, 1500))], 2
    )
    x = draws[:, :, 0]
    log_density = np.logaddexp(-8.0 * (x + 1.0) ** 2, -8.0 * (x - 1.0) ** 2)
    log_density = log_density - 0.5 * draws[:, :, 1] ** 2
    result = merged(draws, log_density, target=target)
    assert result.info["max_rhat"] > 1.05
    if target == "mean":  # no mode but those two was found
        assert np.median(np.abs(result.draws[:, 0])) == pytest.approx(1.0, abs=0.05)
    else:  # so rough a density leaves much unknown, and exp(v/2) draws chains out there
        assert any("beyond the reach" in warning for warning in result.info["warnings"])


def test_repeated_states_of_a_chain_do_no_harm() -> None:
    draws, log_density = log_gamma_shards(4, 300)
    rows = np.repeat(np.arange(300), 5)
    rows = np.minimum(rows, 149)  # half of the chain is one state
    result = merged(draws[:, rows], log_density[:, rows])
    # As if the distinct states were all: the density is smooth, and its values exact.
    scale = np.sqrt(polygamma(1, 3 * SHAPE) / result.info["ess"])
    assert np.abs(result.draws.mean(0) - CENTRE).max() < norm.isf(FALSE_ALARM / 4) * scale
    assert result.info["max_rhat"] < 1.05


def test_extrapolation_is_told() -> None:
    # Shards some seven of their standard deviations apart: the product lies between them.
    draws, log_density = log_gamma_shards(5, 1500)
    result = merged(draws + np.array([-5.0, 0.0, 5.0])[:, None, None], log_density)
    assert result.info["extrapolation"] > 0.5
    assert result.info["log_density_sd"] > 1.0
    assert any("uncertain by more than 1" in warning for warning in result.info["warnings"])
    assert any("beyond the reach" in warning for warning in result.info["warnings"])


def test_constant_log_densities_are_an_error() -> None:
    draws, log_density = log_gamma_shards(6, 1500)
    log_density[1] = 3.0
    with pytest.raises(DrawsError, match=r"shard 1: the log densities are constant.*'gp'"):
        merged(draws, log_density)


def test_an_unknown_training_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"training='paper'.*known: full, published"):
        GaussianProcesses(training="paper")


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"target='means'.*did you mean.*mean"):
        GaussianProcesses(target="means")
