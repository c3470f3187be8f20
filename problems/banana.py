"""Bananas: curved subposteriors whose product is known in closed form."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.draws import Arrays
from dncbench.posterior import Posterior
from dncbench.registry import register_problem

_PRIOR_SD = 2.0
_NOISE = (10.0, 5.0)
_TRUE = (0.5, 0.25)


@register_problem("banana", version=1, shape="not log-concave")
class Banana(Posterior):
    """Rosenbrock-type curvature in two dimensions, 4 shards of bananas apart from each other.

    y ~ N((θ1, θ2 + curvature θ1²), diag(10², 5²)), and N(0, 2²) priors on those two means:
    in (u, v) = (θ1, θ2 + curvature θ1²), a map of unit Jacobian, everything is Gaussian,
    so the posterior is known exactly: grade A, without MCMC.

    Attributes:
        num_shards: S.
        curvature: of the valley; 0 is a Gaussian.
        num_observations: n.
    """

    num_shards: int = 4
    curvature: float = 1.0
    num_observations: int = 400

    dim = 2
    parameter_names = ("theta1", "theta2")
    cites: ClassVar = ("haario1999",)
    source: ClassVar = "simulated from a fixed key; after Haario, Saksman & Tamminen (1999)"

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "n 2"]]:
        """Simulate the observations from ``key``."""
        noise = jax.random.normal(key, (self.num_observations, 2)) * jnp.array(_NOISE)[None, :]
        return {"y": jnp.array(_TRUE)[None, :] + noise}

    def _straight(self, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return jnp.array([theta[0], theta[1] + self.curvature * theta[0] ** 2])

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of N(0, 2²) on u and v, up to a constant."""
        return -0.5 * jnp.sum((self._straight(theta) / _PRIOR_SD) ** 2)

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log density of one pair, up to a constant."""
        residual = (observation["y"] - self._straight(theta)) / jnp.array(_NOISE)
        return -0.5 * jnp.sum(residual**2)

    def exact_draws(
        self, data: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"]:
        """Gaussian draws of (u, v), bent."""
        y, noise = np.asarray(data["y"]), np.array(_NOISE)
        precision = 1 / _PRIOR_SD**2 + len(y) / noise**2
        mean = y.sum(0) / noise**2 / precision
        straight = mean + np.asarray(jax.random.normal(key, (num_draws, 2))) / np.sqrt(precision)
        u, v = straight.T
        return np.column_stack([u, v - self.curvature * u**2])
