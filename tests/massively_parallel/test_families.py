"""Exponential families: densities against scipy, moments of draws, the M-step and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dncbench.methods.massively_parallel._families import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Exponential,
    Gamma,
    HalfNormal,
    MultivariateNormal,
    Normal,
    Poisson,
)

FACTOR = np.array([[1.3, 0.0], [-0.4, 0.6]])
COVARIANCE = FACTOR @ FACTOR.T
PROBABILITIES = np.array([0.2, 0.5, 0.3])

LAWS = {
    "normal": (Normal(1.5, 0.4), stats.norm(1.5, 0.4).logpdf),
    "half-normal": (HalfNormal(0.7), stats.halfnorm(scale=0.7).logpdf),
    "gamma": (Gamma(2.5, 3.0), stats.gamma(2.5, scale=1 / 3).logpdf),
    "exponential": (Exponential(3.0), stats.expon(scale=1 / 3).logpdf),
    "beta": (Beta(0.8, 2.0), stats.beta(0.8, 2.0).logpdf),
    "bernoulli": (Bernoulli(0.4), stats.bernoulli(1 / (1 + np.exp(-0.4))).logpmf),
    "binomial": (Binomial(7, -0.5), stats.binom(7, 1 / (1 + np.exp(0.5))).logpmf),
    "poisson": (Poisson(3.2), stats.poisson(3.2).logpmf),
    "categorical": (
        Categorical(np.log(4 * PROBABILITIES)),
        lambda x: np.log(PROBABILITIES[np.asarray(x)]),
    ),
    "multivariate-normal": (
        MultivariateNormal(np.array([1.0, -2.0]), FACTOR),
        stats.multivariate_normal([1.0, -2.0], COVARIANCE).logpdf,
    ),
    "dirichlet": (
        Dirichlet(np.array([0.7, 2.0, 4.0])),
        lambda x: stats.dirichlet([0.7, 2.0, 4.0]).logpdf(np.asarray(x).T),
    ),
}
SIZES = {"multivariate-normal": (2,), "dirichlet": (3,)}

NUM = 20_000

every_law = pytest.mark.parametrize("name", LAWS)


def many(name, plates=()):
    law, _ = LAWS[name]
    return law.expand(plates + SIZES.get(name, ()))


def leaves(law):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(law)]


@functools.cache
def draws_of(name):
    """Of two plate elements with the same law, and their log densities."""
    event = SIZES.get(name, ())
    return jax.jit(lambda law: law.draw(jax.random.key(0), NUM, (2,), event))(many(name, (2,)))


@every_law
def test_densities_are_those_of_scipy(name: str) -> None:
    (law, log_density), draws = LAWS[name], draws_of(name)[0][:20, 0]
    found = np.asarray(jax.vmap(law.log_prob)(draws))
    np.testing.assert_allclose(found, log_density(np.asarray(draws)), rtol=1e-9, atol=1e-9)


@every_law
def test_draws_come_with_their_log_densities(name: str) -> None:
    draws, log_q = draws_of(name)
    assert draws.shape == (NUM, 2, *SIZES.get(name, ()))
    for plate in range(2):
        expected = LAWS[name][1](np.asarray(draws[:20, plate]))
        np.testing.assert_allclose(log_q[:20, plate], expected, rtol=1e-9, atol=1e-9)


@every_law
def test_moments_of_many_draws_are_the_mean_parameters(name: str) -> None:
    """Within five standard errors of each."""
    law, (draws, _) = many(name, (2,)), draws_of(name)
    found = leaves(law.moments(draws, jnp.full((NUM, 2), 1 / NUM)))
    for value, expected, statistic in zip(
        found, leaves(law.mean()), leaves(law.statistics(draws)), strict=True
    ):
        error = statistic.std(axis=0) / np.sqrt(NUM)
        assert np.all(np.abs(value - expected) <= 5 * error + 1e-12)


@every_law
def test_the_m_step_inverts_the_mean_parameters(name: str) -> None:
    law = many(name, (2,))
    back = jax.jit(lambda law: type(law).from_mean(law.mean()))(law)
    if name == "categorical":  # of which only differences of logits mean something
        np.testing.assert_allclose(back.mean(), law.mean(), rtol=1e-12)
    else:
        for found, expected in zip(leaves(back), leaves(law), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_newtons_method_holds_over_nine_decades_of_a_gamma() -> None:
    law = Gamma(np.logspace(-3, 6, 19), np.full(19, 2.0))
    back = jax.jit(lambda law: Gamma.from_mean(law.mean()))(law)
    # E log x and log E x differ by 1 / (2 a): at a = 1e6 their difference has nine digits.
    np.testing.assert_allclose(back.concentration, law.concentration, rtol=1e-8)


@pytest.mark.parametrize(
    "concentration",
    [[0.01, 0.02, 0.05], [100.0, 20.0, 3.0], [1e5, 2e4, 3e5], [1e-3, 1e3, 1.0], [0.1, 5.0, 0.3]],
)
def test_newtons_method_holds_for_sparse_and_concentrated_dirichlets(concentration) -> None:
    law = Dirichlet(np.array(concentration))
    back = jax.jit(lambda law: Dirichlet.from_mean(law.mean()))(law)
    np.testing.assert_allclose(back.concentration, concentration, rtol=1e-7)


@pytest.mark.parametrize("name", ["normal", "multivariate-normal"])
def test_centred_averages_are_averages_of_raw_moments(name: str) -> None:
    family = type(LAWS[name][0])
    size = SIZES.get(name, ())
    rng = np.random.default_rng(0)
    draws, weights = rng.normal(size=(2, 6, *size)), rng.dirichlet(np.ones(6), 2)
    law = many(name)
    old, new = (
        law.moments(jnp.asarray(x), jnp.asarray(w)) for x, w in zip(draws, weights, strict=True)
    )
    blended = family.blend(old, new, 0.3)

    def outer(x):
        return x[..., None] * x[..., None, :] if size else x * x

    raw = [(np.einsum("k,k...->...", w, x), np.einsum("k,k...->...", w, outer(x)))
           for x, w in zip(draws, weights, strict=True)]  # fmt: skip
    mean, second = (0.7 * a + 0.3 * b for a, b in zip(*raw, strict=True))
    np.testing.assert_allclose(blended.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(blended.spread, second - outer(mean), rtol=1e-10, atol=1e-12)


def test_the_variance_of_a_tight_posterior_far_from_zero_does_not_cancel() -> None:
    """E x² - (E x)² would have no correct digit here."""
    rng = np.random.default_rng(1)
    offsets, weights = rng.normal(size=8) * 1e-9, rng.dirichlet(np.ones(8))
    found = Normal(0.0, 1.0).moments(jnp.asarray(10.0 + offsets), jnp.asarray(weights)).spread
    expected = weights @ (offsets - weights @ offsets) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_trials_of_a_binomial_stay_whole() -> None:
    law = Binomial(7, 0.2).expand((3,))
    weights = np.random.default_rng(2).dirichlet(np.ones(5), 3).T
    moments = law.moments(law.sample(jax.random.key(3), (5, 3)), jnp.asarray(weights))
    np.testing.assert_array_equal(Binomial.blend(law.mean(), moments, 0.1).total, 7.0)


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_probabilities_that_rounded_to_certainty_keep_finite_densities(mean: float) -> None:
    law = Bernoulli.from_mean(jnp.array([mean]))
    assert np.all(np.isfinite(law.log_density(jnp.array([0.0]))))
    assert np.all(np.isfinite(law.log_density(jnp.array([1.0]))))


def test_means_that_decayed_to_zero_keep_finite_densities() -> None:
    for law in (
        Poisson.from_mean(jnp.zeros(1)),
        Normal.from_mean(Normal(0.0, 0.0).mean()),
        HalfNormal.from_mean(jnp.zeros(1)),
    ):
        assert np.all(np.isfinite(law.log_density(jnp.zeros(1))))
