"""Logistic regression, shared by the problems of this family."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from dncbench.draws import Arrays
from dncbench.posterior import Posterior


def bernoulli_log_likelihood(logit: Float[Array, ""], label: Float[Array, ""]) -> Float[Array, ""]:
    """log Bernoulli(label | sigmoid(logit)), finite for every logit; nothing is clipped.

    log(1 + exp(-|x|)) has absolute error below 1e-15, and is cheaper than
    log1p in a compiled float64 program. One branch for both terms keeps the gradient
    right at a logit of exactly zero.
    """
    positive = logit >= 0.0
    linear = jnp.where(positive, logit, 0.0)
    softplus = linear + jnp.log(1.0 + jnp.exp(jnp.where(positive, -logit, logit)))
    return label * logit - softplus


class Logistic(Posterior):
    """y ~ Bernoulli(sigmoid(x·θ)); a subclass gives the prior.

    Data: ``x`` (n, d) with the intercept's column of ones first, ``y`` (n,) in {0, 1}.
    """

    columns: ClassVar[tuple[str, ...]] = ()

    @property
    def dim(self) -> int:
        """d: the intercept and one coefficient for each column."""
        return 1 + len(self.columns)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The intercept, then the columns."""
        return ("intercept", *self.columns)

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log likelihood of one label given its covariates."""
        return bernoulli_log_likelihood(observation["x"] @ theta, observation["y"])

    def labels(self, data: Arrays) -> np.ndarray:
        """The class of each observation."""
        return np.asarray(data["y"])


class LogisticRegression(Logistic):
    """Logistic regression with θ_j ~ N(0, prior_variance), j = 1..d."""

    prior_variance: eqx.AbstractVar[float]

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of N(0, prior_variance I), up to a constant."""
        return -0.5 * jnp.sum(theta**2) / self.prior_variance


def with_intercept(covariates: Float[Array, "n p"]) -> Float[Array, "n p+1"]:
    """Put the intercept's column of ones first."""
    return jnp.concatenate([jnp.ones((len(covariates), 1)), covariates], axis=1)
