"""Poisson regression on one factor: a skewed GLM of any dimension, known in closed form."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.draws import Arrays
from dncbench.posterior import Posterior
from dncbench.registry import register_problem

_SHAPE, _RATE = 2.0, 1.0
_EFFECT = 1.0


@register_problem("poisson-regression", version=1, shape="glm")
class PoissonRegression(Posterior):
    """Log-linear Poisson regression on a factor, 4 shards: skewed and correlated, of any size.

    y ~ Poisson(exp(x·β)) with an intercept and d - 1 contrasts to the first level, so that
    each level has a mean of its own, and Gamma(2, 1) priors on those means: the conjugate
    prior of the model (Diaconis & Ylvisaker 1979). A level's posterior mean count is
    Gamma(2 + Σ y, 1 + n) and β a linear map of the logarithms: grade A, without MCMC. A
    subposterior's skewness is about -1 / sqrt(counts of a level in a shard). Levels are
    simulated one by one: fewer levels are the first ones of more.

    Attributes:
        dim: d, the number of levels.
        num_shards: S.
        observations_per_level: rows of each level.
        mean_count: expected count of one row, before effects of ±0.5 on the log scale.
    """

    dim: int = 8
    num_shards: int = 4
    observations_per_level: int = 50
    mean_count: float = 1.0

    source: ClassVar = "simulated from a fixed key"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The intercept, and a contrast for each other level."""
        return ("intercept", *(f"level{number}" for number in range(1, self.dim)))

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, " n"]]:
        """Simulate counts from ``key``; even levels are low, odd ones high."""

        def of_level(level: Array) -> Array:
            mean = self.mean_count * jnp.exp(_EFFECT * (level % 2 - 0.5))
            return jax.random.poisson(
                jax.random.fold_in(key, level), mean, (self.observations_per_level,)
            )

        levels = jnp.arange(self.dim)
        counts = jax.vmap(of_level)(levels)
        return {
            "level": jnp.repeat(levels, self.observations_per_level).astype(float),
            "y": counts.ravel().astype(float),
        }

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of Gamma(2, 1) means as one of β, up to a constant."""
        log_means = theta[0] + theta.at[0].set(0.0)
        return jnp.sum(_SHAPE * log_means - _RATE * jnp.exp(log_means))

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log probability of one count, up to a constant."""
        level = observation["level"].astype(int)
        log_mean = theta[0] + jnp.where(level > 0, theta[level], 0.0)
        return observation["y"] * log_mean - jnp.exp(log_mean)

    def labels(self, data: Arrays) -> np.ndarray:
        """The level of each row: a split by label starves shards of whole levels."""
        return np.asarray(data["level"])

    def exact_draws(
        self, data: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"]:
        """Logarithms of Gamma draws, as an intercept and contrasts."""
        level = np.asarray(data["level"], int)
        counts = np.bincount(level, weights=np.asarray(data["y"]), minlength=self.dim)
        rows = np.bincount(level, minlength=self.dim)
        log_unit = jax.random.loggamma(key, jnp.asarray(_SHAPE + counts), (num_draws, self.dim))
        log_means = np.asarray(log_unit) - np.log(_RATE + rows)
        return np.column_stack([log_means[:, 0], log_means[:, 1:] - log_means[:, :1]])
