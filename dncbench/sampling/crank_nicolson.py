"""Gradient-free moves of many points: t-preconditioned Crank-Nicolson steps.

Grumitt, Karamanis & Seljak (2024), arXiv:2407.07781. A step is reversible for a multivariate
t; the density's remainder, density over t, decides on acceptance. The t is fitted to the
points. Its random scale follows a point's own distance from the centre, so that in any
dimension neither a radius that is a little off nor a tail heavier than a Gaussian's costs
acceptance.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, PRNGKeyArray

BATCH = 64
"""Points whose densities are evaluated at once: what is in between stays in the cache."""

_ACCEPTANCE = 0.3
_FULL_LENGTH = 0.75  # share of the steps
_SHORTEST = 2.0  # decades below the full length of a step
_FREEDOM = 5.0  # degrees of freedom of the t


class Geometry(NamedTuple):
    """Location and scale of the t that moves are reversible for; the scale's Cholesky factor."""

    mean: Float[Array, " d"]
    factor: Float[Array, "d d"]


class State(NamedTuple):
    """Points, the posterior's log density there, and the length of their next step, in (0, 1]."""

    eta: Float[Array, "N d"]
    value: Float[Array, " N"]
    step: Float[Array, ""]


def fitted(eta: Float[Array, "N d"]) -> Geometry:
    """The points' own mean and covariance."""
    mean = jnp.mean(eta, axis=0)
    sd = jnp.maximum(jnp.std(eta, axis=0), 1e-300)
    scaled = (eta - mean[None, :]) / sd[None, :]
    # Copies of few points have no covariance of full rank.
    correlation = scaled.T @ scaled / len(eta) + 1e-9 * jnp.eye(len(mean))
    return Geometry(mean, sd[:, None] * jnp.linalg.cholesky(correlation))


def finite(density: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The log density as a function of many points; -inf wherever it is not a finite number."""

    def at(eta: Float[Array, "N d"]) -> Float[Array, " N"]:
        values = jax.lax.map(density, eta, batch_size=BATCH)
        return jnp.where(jnp.isfinite(values), values, -jnp.inf)

    return at


def proposals(
    posterior: Callable[[Array], Array], geometry: Geometry, key: PRNGKeyArray, number: int
) -> Float[Array, " number"]:
    """Log ratios of the density to the normalised t, at draws of the t."""
    key_normal, key_gamma = jax.random.split(key)
    dim = len(geometry.mean)
    scale = 0.5 * _FREEDOM / jax.random.gamma(key_gamma, 0.5 * _FREEDOM, (number,))
    z = jnp.sqrt(scale)[:, None] * jax.random.normal(key_normal, (number, dim))
    eta = geometry.mean[None, :] + z @ geometry.factor.T
    return posterior(eta) - log_t(geometry, eta)


def log_t(geometry: Geometry, eta: Float[Array, "*N d"]) -> Float[Array, " *N"]:
    """Log density of the t, normalised."""
    dim = eta.shape[-1]
    shape = 0.5 * (_FREEDOM + dim)
    centred = (eta - jnp.broadcast_to(geometry.mean, eta.shape)).reshape(-1, dim)
    z = jax.scipy.linalg.solve_triangular(geometry.factor, centred.T, lower=True)
    squared = jnp.sum(z**2, axis=0).reshape(eta.shape[:-1])
    constant = gammaln(shape) - gammaln(0.5 * _FREEDOM) - 0.5 * dim * jnp.log(_FREEDOM * jnp.pi)
    log_det = jnp.sum(jnp.log(jnp.diag(geometry.factor)))
    return constant - log_det - shape * jnp.log1p(squared / _FREEDOM)


def move(
    posterior: Callable[[Array], Array],
    path: Callable[[Array, Array], Array],
    geometry: Geometry,
    state: State,
    key: PRNGKeyArray,
) -> tuple[State, Float[Array, ""]]:
    """Move every point once.

    Args:
        posterior: log densities (N,) of points (N, d).
        path: log densities of what the moves leave invariant, from points and their log
            densities under the posterior.
        geometry: of the t.
        state: where the points are.
        key: random key.

    Returns:
        Where they are then, and the mean probability of accepting a step of full length.
    """
    key_normal, key_gamma, key_length, key_accept = jax.random.split(key, 4)
    number, dim = state.eta.shape
    shape = 0.5 * (_FREEDOM + dim)
    centred = state.eta - geometry.mean[None, :]
    z = jax.scipy.linalg.solve_triangular(geometry.factor, centred.T, lower=True).T
    squared = jnp.sum(z**2, axis=1)
    # A t is a Gaussian of random scale, drawn here given where the point is.
    scale = 0.5 * (_FREEDOM + squared) / jax.random.gamma(key_gamma, shape, (number,))
    noise = jnp.sqrt(scale)[:, None] * jax.random.normal(key_normal, (number, dim))
    length = _lengths(key_length, number)
    step = state.step * length[:, None]
    proposed = jnp.sqrt(1.0 - step**2) * z + step * noise
    eta = geometry.mean[None, :] + proposed @ geometry.factor.T
    value = posterior(eta)
    gain = path(eta, value) - path(state.eta, state.value)
    log_ratio = gain - log_t(geometry, eta) + log_t(geometry, state.eta)
    accepted = jnp.log(jax.random.uniform(key_accept, (number,))) < log_ratio
    moved = State(
        jnp.where(accepted[:, None], eta, state.eta),
        jnp.where(accepted, value, state.value),
        state.step,
    )
    full = length == 1.0
    acceptance = jnp.sum(jnp.exp(jnp.minimum(0.0, log_ratio)) * full)
    return moved, acceptance / jnp.maximum(1, jnp.sum(full))


def _lengths(key: PRNGKeyArray, number: int) -> Float[Array, " number"]:
    """Most steps at full length, some shorter by up to two orders of magnitude.

    The short ones move points in parts of the density that are narrower than the whole of it.
    """
    key_which, key_length = jax.random.split(key)
    shorter = 10.0 ** -jax.random.uniform(key_length, (number,), maxval=_SHORTEST)
    return jnp.where(jax.random.bernoulli(key_which, _FULL_LENGTH, (number,)), 1.0, shorter)


def tuned(step: Float[Array, ""], acceptance: Float[Array, ""]) -> Float[Array, ""]:
    """The next step's length: longer where more proposals were accepted than is wanted."""
    return jnp.clip(step * jnp.exp(acceptance - _ACCEPTANCE), 1e-4, 1.0)
