"""Skewed Gamma posteriors of rates: products of Gammas, known in closed form."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.draws import Arrays
from dncbench.posterior import Posterior
from dncbench.registry import register_problem

_RATES = (0.3, 0.5, 0.8, 1.2, 2.0)
_SHAPE, _RATE = 2.0, 1.0


@register_problem("skewed-gamma", version=1, shape="log-concave")
class SkewedGamma(Posterior):
    """Five Poisson rates from few counts, 4 shards: skewed marginals, constrained parameters.

    y_j ~ Poisson(θ_j), θ_j ~ Gamma(2, 1): the posterior is Gamma(2 + Σ y_j, 1 + n), and a
    subposterior of the natural space Gamma(1/S + 1 + Σ_s y_j, 1/S + n_s), independent over j:
    grade A, without MCMC. Sampled as log θ; merging in the unconstrained and in the natural
    space differ.

    Attributes:
        num_shards: S.
        num_observations: n.
    """

    num_shards: int = 4
    num_observations: int = 40

    dim = 5
    source: ClassVar = "simulated from a fixed key"

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "n 5"]]:
        """Simulate the counts from ``key``."""
        shape = (self.num_observations, self.dim)
        return {"y": jax.random.poisson(key, jnp.array(_RATES), shape).astype(float)}

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of Gamma(2, 1), up to a constant."""
        return jnp.sum((_SHAPE - 1) * jnp.log(theta) - _RATE * theta)

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log probability of one row of counts, up to a constant."""
        return jnp.sum(observation["y"] * jnp.log(theta) - theta)

    def constrain(self, eta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """θ = exp(η)."""
        return jnp.exp(eta)

    def exact_draws(
        self, data: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"]:
        """Logarithms of Gamma draws."""
        counts = np.asarray(data["y"])
        shape = jnp.asarray(_SHAPE + counts.sum(0))
        log_unit = jax.random.loggamma(key, shape, (num_draws, self.dim))
        return np.asarray(log_unit) - np.log(_RATE + len(counts))
