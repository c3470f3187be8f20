"""Toy logistic regression with 15 small, dissimilar, skewed shards."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dncbench.problems._logistic import LogisticRegression, with_intercept
from dncbench.problems._published import checked, original_stream
from dncbench.registry import register_problem

_PUBLISHED = 990  # 15 shards of 66
_CHECKSUMS = {"x": (1520.4292, 2234.0631, 744.51711), "y": (90.0, 90.0, 44.884848)}


@register_problem("toy-logistic", version=1, shape="glm")
class ToyLogistic(LogisticRegression):
    """Two-parameter logistic regression, few positives, 15 shards: skewed subposteriors.

    x ~ N(0.5, 1), y ~ Bernoulli(sigmoid(β1 + β2 x)), β = (-3, -3), prior N(0, 5):
    Trojan et al. (2024), sections 5.1 and A.4. About one label in ten is positive.

    Attributes:
        num_shards: S.
        prior_variance: of each coefficient.
        num_observations: n; all of them are used (15 does not divide 1000).
        published: the authors' own data, the 990 observations that their code keeps,
            which are to be split ``in-order``.
    """

    num_shards: int = 15
    prior_variance: float = 5.0
    num_observations: int = 1000
    published: bool = False

    columns: ClassVar = ("x",)
    coefficients: ClassVar = (-3.0, -3.0)
    cites: ClassVar = ("trojan2024",)
    source: ClassVar = (
        "simulated from a fixed key; Trojan, Fearnhead & Nemeth (2024), arXiv:2406.11664, sec. 5.1"
    )

    def data(self, key: PRNGKeyArray) -> dict[str, Any]:
        """Simulate the covariate and the labels from ``key``, or regenerate the published ones.

        Raises:
            DataError: the published ones are not regenerated.
        """
        if self.published:
            return _published(self.coefficients)
        key_x, key_y = jax.random.split(key)
        x = with_intercept(0.5 + jax.random.normal(key_x, (self.num_observations, 1)))
        positive = jax.nn.sigmoid(x @ jnp.array(self.coefficients))
        return {"x": x, "y": jax.random.bernoulli(key_y, positive).astype(float)}


def _published(coefficients: tuple[float, float]) -> dict[str, np.ndarray]:
    with original_stream():
        key, key_x = jax.random.split(jax.random.PRNGKey(2023))
        x = with_intercept(0.5 + jax.random.normal(key_x, (1000, 1)))
        _, key_labels = jax.random.split(key)
        _, key_y = jax.random.split(key_labels)
        positive = 1 / (1 + jnp.exp(-x @ jnp.array(coefficients)))
        y = jax.random.bernoulli(key_y, positive)
        data = {"x": np.asarray(x[:_PUBLISHED]), "y": np.asarray(y[:_PUBLISHED])}
    return checked("toy-logistic", data, _CHECKSUMS)
