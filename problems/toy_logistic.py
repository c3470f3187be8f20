"""Toy logistic regression with 15 small, dissimilar, skewed shards."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.problems._logistic import LogisticRegression, with_intercept
from dncbench.registry import register_problem


@register_problem("toy-logistic", version=1)
class ToyLogistic(LogisticRegression):
    """Two-parameter logistic regression, few positives, 15 shards: skewed subposteriors.

    x ~ N(0.5, 1), y ~ Bernoulli(sigmoid(β1 + β2 x)), β = (-3, -3), prior N(0, 5):
    Trojan et al. (2024), sections 5.1 and A.4. About one label in ten is positive.

    Attributes:
        num_shards: S.
        prior_variance: of each coefficient.
        num_observations: n; all of them are used (15 does not divide 1000).
    """

    num_shards: int = 15
    prior_variance: float = 5.0
    num_observations: int = 1000

    columns: ClassVar = ("x",)
    coefficients: ClassVar = (-3.0, -3.0)
    source: ClassVar = (
        "simulated from a fixed key; Trojan, Fearnhead & Nemeth (2024), arXiv:2406.11664, sec. 5.1"
    )

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, " n ..."]]:
        """Simulate the covariate and the labels from ``key``."""
        key_x, key_y = jax.random.split(key)
        x = with_intercept(0.5 + jax.random.normal(key_x, (self.num_observations, 1)))
        positive = jax.nn.sigmoid(x @ jnp.array(self.coefficients))
        return {"x": x, "y": jax.random.bernoulli(key_y, positive).astype(float)}
