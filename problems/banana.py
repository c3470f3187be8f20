"""Bananas: curved subposteriors whose product is known in closed form."""

from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.draws import Arrays
from dncbench.posterior import Posterior
from dncbench.problems import _banana
from dncbench.registry import register_problem


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
        return {"y": _banana.simulate(key, self.num_observations)}

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of N(0, 2²) on u and v, up to a constant."""
        return _banana.log_prior(theta, self.curvature)

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log density of one pair, up to a constant."""
        return _banana.log_likelihood(theta, observation["y"], self.curvature)

    def exact_draws(
        self, data: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"]:
        """Gaussian draws of (u, v), bent."""
        y, noise = np.asarray(data["y"]), np.array(_banana.NOISE)
        precision = 1 / _banana.PRIOR_SD**2 + len(y) / noise**2
        mean = y.sum(0) / noise**2 / precision
        straight = mean + np.asarray(jax.random.normal(key, (num_draws, 2))) / np.sqrt(precision)
        u, v = straight.T
        return np.column_stack([u, v - self.curvature * u**2])
