"""The banana's model: Gaussian observations of a bent pair of parameters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

PRIOR_SD = 2.0
NOISE = (10.0, 5.0)
TRUE = (0.5, 0.25)


def simulate(key: PRNGKeyArray, num_observations: int) -> Float[Array, "n 2"]:
    """Observations y ~ N(TRUE, diag(NOISE²))."""
    noise = jax.random.normal(key, (num_observations, 2)) * jnp.array(NOISE)[None, :]
    return jnp.array(TRUE)[None, :] + noise


def straight(theta: Float[Array, " 2"], curvature: float) -> Float[Array, " 2"]:
    """(u, v) = (θ1, θ2 + curvature θ1²), in which everything is Gaussian."""
    return jnp.array([theta[0], theta[1] + curvature * theta[0] ** 2])


def log_prior(theta: Float[Array, " 2"], curvature: float) -> Float[Array, ""]:
    """Log density of N(0, PRIOR_SD²) on u and v, up to a constant."""
    return -0.5 * jnp.sum((straight(theta, curvature) / PRIOR_SD) ** 2)


def log_likelihood(
    theta: Float[Array, " 2"], y: Float[Array, " 2"], curvature: float
) -> Float[Array, ""]:
    """Log density of one pair, up to a constant."""
    return -0.5 * jnp.sum(((y - straight(theta, curvature)) / jnp.array(NOISE)) ** 2)
