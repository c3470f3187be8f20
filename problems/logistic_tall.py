"""Logistic regression with a million observations: what divide and conquer is for."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.problems._logistic import LogisticRegression, with_intercept
from dncbench.registry import register_problem

_CHUNK = 50_000
_COEFFICIENTS = (-2.0, 1.0, -1.0, 0.5, -0.5)


@register_problem("logistic-tall", version=1, small="num_observations=2000", shape="glm")
class LogisticTall(LogisticRegression):
    """Five parameters, a million observations, 8 shards: the full-data sampler is what costs.

    x ~ N(0, I), coefficients (-2, 1, -1, 0.5, -0.5), prior N(0, 5). Posteriors are close
    to Gaussian; the question is what the split saves, not what the merge loses.

    Attributes:
        num_shards: S.
        prior_variance: of each coefficient.
        num_observations: n, simulated in chunks of 50 000.
    """

    num_shards: int = 8
    prior_variance: float = 5.0
    num_observations: int = 1_000_000

    columns: ClassVar = ("x1", "x2", "x3", "x4")
    source: ClassVar = "simulated from a fixed key"

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log likelihood of one label given its covariates: the family's, compiled faster."""
        logit = observation["x"] @ theta
        return observation["y"] * logit - _softplus(logit)

    def data(self, key: PRNGKeyArray) -> dict[str, Float[np.ndarray, " n ..."]]:
        """Simulate covariates and labels from ``key``, chunk by chunk."""
        x = np.empty((self.num_observations, self.dim))
        y = np.empty(self.num_observations)
        for number, start in enumerate(range(0, self.num_observations, _CHUNK)):
            rows = slice(start, min(start + _CHUNK, self.num_observations))
            x[rows], y[rows] = _chunk(jax.random.fold_in(key, number), rows.stop - rows.start)
        return {"x": x, "y": y}


@jax.custom_jvp
def _softplus(logit: Float[Array, ""]) -> Float[Array, ""]:
    """log(1 + exp(logit)), where sampling a million observations spends its time.

    Written for the loop over rows to be compiled into vector instructions: no branches, and
    one exponential for the value and its derivative.
    """
    return jnp.maximum(logit, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(logit)))


@_softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (logit,), (tangent,) = primals, tangents
    tail = jnp.exp(-jnp.abs(logit))
    slope = jnp.where(logit >= 0.0, 1.0, tail) / (1.0 + tail)
    return jnp.maximum(logit, 0.0) + jnp.log(1.0 + tail), slope * tangent


def _chunk(key: PRNGKeyArray, size: int) -> tuple[Array, Array]:
    key_x, key_y = jax.random.split(key)
    x = with_intercept(jax.random.normal(key_x, (size, len(_COEFFICIENTS) - 1)))
    positive = jax.nn.sigmoid(x @ jnp.array(_COEFFICIENTS))
    return x, jax.random.bernoulli(key_y, positive)
