"""SwISS: every draw is mapped by its shard's affine transformation, and all are pooled."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.method import Method, Shard
from dncbench.methods._gaussian import (
    inverse,
    inverses,
    mean_and_covariance,
    pooled,
    product,
    symmetric_power,
    thinned,
)
from dncbench.registry import register_method


def transformation(
    target: Float[Array, "d d"], covariance: Float[Array, "d d"]
) -> Float[Array, "d d"]:
    """A with A · covariance · Aᵀ = target: A = R (R⁻¹ covariance R⁻¹)^(-1/2) R⁻¹, R = target^(1/2).

    The map of the SwISS authors' code. It is not the symmetric optimal-transport
    map, from which it differs unless the two matrices commute.
    """
    root, inverse_root = symmetric_power(target, 0.5), symmetric_power(target, -0.5)
    return root @ symmetric_power(inverse_root @ covariance @ inverse_root, -0.5) @ inverse_root


class _AffineMaps(Method):
    """Map every shard's draws to the moments of (Π_s N(μ_s, C_s))^share, and pool them."""

    cites: ClassVar = ("vyner2023",)
    exact_for_gaussians: ClassVar = True

    def fit(self, shard: Shard, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        """The draws (T, d), their mean (d,) and covariance (d, d)."""
        draws = shard.inflated if "inflated" in self.needs else shard.values
        assert draws is not None
        return (draws, *mean_and_covariance(draws))

    @abc.abstractmethod
    def share(self, num_shards: int) -> float:
        """The power of the product of Gaussians that is aimed at."""

    def centre(
        self, messages: tuple[Float[Array, "S T d"], Float[Array, "S d"], Float[Array, "S d d"]]
    ) -> Float[Array, " d"]:
        """The mean of the product of Gaussians."""
        _, means, covariances = messages
        return product(means, inverses(covariances))[0]

    def merge(
        self,
        messages: tuple[Float[Array, "S T d"], Float[Array, "S d"], Float[Array, "S d d"]],
        key: PRNGKeyArray,
        num_draws: int,
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Map and pool."""
        draws, means, covariances = messages
        mean, precision = product(means, inverses(covariances))
        target = inverse(self.share(len(draws)) * precision)
        maps = jax.lax.map(lambda own: transformation(target, own), covariances)
        centred = thinned(draws, num_draws) - means[:, None]
        moved = mean[None, None, :] + jnp.einsum("sij,stj->sti", maps, centred)
        return pooled(moved, num_draws), {}


@register_method("swiss", version=1)
class Swiss(_AffineMaps):
    """SwISS: inflated subposterior draws, mapped affinely to a common mean and covariance.

    On draws of the inflated subposteriors p(θ) p(Y_s given θ)^S, with means μ_s and
    covariances C_s: C = ((1/S) Σ_s C_s⁻¹)⁻¹, μ = C (1/S) Σ_s C_s⁻¹ μ_s, and every draw
    moves to A_s (θ - μ_s) + μ with A_s C_s A_sᵀ = C. Vyner, Nemeth & Sherlock (2023).
    The inflated draws are sampling work of their own and are charged as such.
    """

    needs: ClassVar = frozenset({"inflated", "covariance"})

    def share(self, num_shards: int) -> float:
        """1/S: an inflated subposterior is as narrow as the posterior already."""
        return 1.0 / num_shards


@register_method("swiss-product", version=1, ours=True)
class SwissProduct(_AffineMaps):
    """SwISS's affine maps applied to plain subposterior draws: another estimator.

    Plain subposteriors p(θ)^(1/S) p(Y_s given θ) have about S times the variance, so sums
    replace the means: V = (Σ_s C_s⁻¹)⁻¹, m = V Σ_s C_s⁻¹ μ_s, A_s C_s A_sᵀ = V. The
    first two moments of Gaussian subposteriors come out exactly; other shape is kept
    as it is in a shard, where skewness is about sqrt(S) times that of the posterior.
    """

    needs: ClassVar = frozenset({"draws", "covariance"})

    def share(self, num_shards: int) -> float:
        """1: the product itself."""
        return 1.0
