"""Logistic regression with 100 parameters on 1000 observations, five data sets of it."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import UnknownNameError
from dncbench.problems._logistic import Logistic, with_intercept
from dncbench.problems._published import checked, original_stream
from dncbench.registry import register_problem

_NUM_OBSERVATIONS = 1000
_NUM_COVARIATES = 99
_DATASETS = 5
_INTERCEPT = -5.0
_CHECKSUMS = (
    {"x": (767.32772, 100098.92, 501.23165), "y": (328.0, 328.0, 162.143)},
    {"x": (1049.7336, 99246.727, 647.23980), "y": (309.0, 309.0, 152.217)},
    {"x": (857.10569, 100013.60, 560.32682), "y": (291.0, 291.0, 141.911)},
    {"x": (1164.4069, 99756.709, 644.20335), "y": (323.0, 323.0, 159.677)},
    {"x": (671.24056, 99919.001, 369.11033), "y": (282.0, 282.0, 143.083)},
)


@register_problem("logistic-100d", version=1, repeats="dataset", shape="glm")
class Logistic100d(Logistic):
    """100 parameters, 1000 observations, 4 shards: few observations for each parameter.

    x ~ N(0, I), intercept -5, slopes drawn from N(0, 1), prior N(0, 5): Trojan et al.
    (2024), Appendix B. The text says variance 5; the published code computes precision 5
    (``prior_precision=5``), under which the prior decides and the merge is easier.

    Attributes:
        num_shards: S.
        prior_precision: of each coefficient, 1 / variance.
        dataset: which of the five simulated data sets, 0 to 4.
        published: the authors' own data, which are to be split ``in-order``.
    """

    num_shards: int = 4
    prior_precision: float = 0.2
    dataset: int = 0
    published: bool = False

    columns: ClassVar = tuple(f"x{number}" for number in range(1, _NUM_COVARIATES + 1))
    cites: ClassVar = ("trojan2024",)
    source: ClassVar = (
        "simulated from a fixed key; Trojan, Fearnhead & Nemeth (2024), arXiv:2406.11664, App. B"
    )

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of N(0, I / prior_precision), up to a constant."""
        return -0.5 * self.prior_precision * jnp.sum(theta**2)

    def data(self, key: PRNGKeyArray) -> dict[str, Any]:
        """Simulate covariates and labels from ``key``, or regenerate the published ones.

        Raises:
            UnknownNameError: there is no such data set.
            DataError: the published ones are not regenerated.
        """
        if not 0 <= self.dataset < _DATASETS:
            raise UnknownNameError(
                f"logistic-100d has data sets 0 to {_DATASETS - 1}; there is no {self.dataset}"
            )
        if self.published:
            return _published(self.dataset)
        key_slopes, key_x, key_y = jax.random.split(jax.random.fold_in(key, self.dataset), 3)
        return _simulated(key_slopes, key_x, key_y)


def _simulated(key_slopes: Array, key_x: Array, key_y: Array) -> dict[str, Array]:
    slopes = jax.random.normal(key_slopes, (_NUM_COVARIATES,))
    x = with_intercept(jax.random.normal(key_x, (_NUM_OBSERVATIONS, _NUM_COVARIATES)))
    positive = jax.nn.sigmoid(x @ jnp.concatenate([jnp.array([_INTERCEPT]), slopes]))
    return {"x": x, "y": jax.random.bernoulli(key_y, positive).astype(x.dtype)}


def _published(dataset: int) -> dict[str, np.ndarray]:
    with original_stream():
        key, key_slopes = jax.random.split(jax.random.PRNGKey(dataset))
        key, key_x = jax.random.split(key)
        _, key_y = jax.random.split(key)
        data = {k: np.asarray(v) for k, v in _simulated(key_slopes, key_x, key_y).items()}
    return checked("logistic-100d", data, _CHECKSUMS[dataset])
