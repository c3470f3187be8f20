"""Consensus Monte Carlo: weighted averages of draws across shards."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import inverse, mean_and_covariance, shuffled
from dncbench.registry import register_method

_WEIGHTS = ("matrix", "coordinate", "shard")


@register_method("consensus", version=1)
class Consensus(Method):
    """Consensus Monte Carlo (CMC): average one draw of every shard, weighted by precision.

    θ_t = (Σ_s W_s)⁻¹ Σ_s W_s θ_t^(s), Scott et al. (2016), equation 3. Exact when every
    subposterior is Gaussian and the weights are its precision matrices. Averaging pulls
    any other shape towards a Gaussian, and matrix weights extrapolate beyond the draws
    where the shards' covariances differ.

    Attributes:
        weights: W_s: "matrix", the inverse sample covariance; "coordinate", the inverse
            variances on a diagonal; "shard", one scalar, 1/trace of the covariance.
    """

    weights: str = "matrix"

    cites: ClassVar = ("scott2016",)
    needs: ClassVar = frozenset({"draws", "covariance"})
    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        if self.weights not in _WEIGHTS:
            raise UnknownNameError(
                f"consensus: weights={self.weights!r}{nearest(str(self.weights), _WEIGHTS)}; "
                f"known: {', '.join(_WEIGHTS)}"
            )

    def fit(
        self, shard: Shard, key: PRNGKeyArray
    ) -> tuple[Float[Array, "T d"], Float[Array, "..."]]:
        """The draws and W_s: (d, d), (d,) or ()."""
        assert shard.values is not None
        _, covariance = mean_and_covariance(shard.values)
        if self.weights == "matrix":
            return shard.values, inverse(covariance)
        if self.weights == "coordinate":
            return shard.values, 1.0 / jnp.diag(covariance)
        return shard.values, 1.0 / jnp.trace(covariance)

    def centre(
        self, messages: tuple[Float[Array, "S T d"], Float[Array, "S ..."]]
    ) -> Float[Array, " d"]:
        """The weighted average of the shards' means."""
        values, weights = messages
        return self._average(jnp.mean(values, axis=1, keepdims=True), weights)[0]

    def merge(
        self,
        messages: tuple[Float[Array, "S T d"], Float[Array, "S ..."]],
        key: PRNGKeyArray,
        num_draws: int,
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Weighted average over shards of independently shuffled draws."""
        values, weights = messages
        return self._average(shuffled(key, values, num_draws), weights), {}

    def _average(
        self, draws: Float[Array, "S N d"], weights: Float[Array, "S ..."]
    ) -> Float[Array, "N d"]:
        if self.weights == "matrix":
            weighted = jnp.einsum("sij,stj->it", weights, draws)
            total = cho_factor(jnp.sum(weights, axis=0), lower=True)
            return cho_solve(total, weighted).T
        weights = weights.reshape(len(draws), 1, -1)
        return jnp.sum(weights * draws, axis=0) / jnp.sum(weights, axis=0)
