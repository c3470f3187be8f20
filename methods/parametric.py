"""The parametric merge: a product of Gaussians."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import DrawsError
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import (
    draw_from_precision,
    inverse,
    mean_and_covariance,
    product,
)
from dncbench.registry import register_method


@register_method("parametric", version=1)
class Parametric(Method):
    """Product of one Gaussian per shard, drawn from directly.

    P = Σ_s P_s, m = P⁻¹ Σ_s P_s μ_s; Neiswanger et al. (2014), section 3.1. The inverse
    of a sample covariance is too large on average, E[C_s⁻¹] = P_s (n - 1)/(n - d - 2) for
    n independent Gaussian draws, which makes the product too narrow when n is small
    against d; ``debias`` divides that factor out, with n the effective sample size.

    Attributes:
        debias: whether to correct the precisions.
    """

    debias: bool = True

    cites: ClassVar = ("neiswanger2014",)
    needs: ClassVar = frozenset({"draws", "covariance"})
    exact_for_gaussians: ClassVar = True

    def fit(
        self, shard: Shard, key: PRNGKeyArray
    ) -> tuple[Float[Array, " d"], Float[Array, "d d"], Float[Array, ""]]:
        """Mean (d,), precision (d, d) and effective sample size ()."""
        assert shard.values is not None
        assert shard.ess is not None
        num_draws, dim = shard.values.shape
        mean, covariance = mean_and_covariance(shard.values)
        precision = inverse(covariance)
        if self.debias:
            if num_draws <= dim + 2:
                raise DrawsError(
                    f"parametric: {num_draws} draws in {dim} dimensions leave no debiased "
                    f"precision; draw at least {dim + 3}, or set debias=false"
                )
            # Never below the smallest sample that has a debiased precision at all.
            size = jnp.clip(shard.ess, dim + 3.0, float(num_draws))
            precision = precision * (size - dim - 2.0) / (size - 1.0)
        return mean, precision, shard.ess

    def centre(self, messages: tuple[Array, Array, Array]) -> Float[Array, " d"]:
        """The product's mean."""
        means, precisions, _ = messages
        return product(means, precisions)[0]

    def merge(
        self, messages: tuple[Array, Array, Array], key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Independent draws; ``ess`` counts the error of the moments and of the draws."""
        means, precisions, sizes = messages
        mean, precision = product(means, precisions)
        draws = draw_from_precision(key, mean, precision, num_draws)
        centred = draws - mean[None, :]
        return draws, {
            "ess": 1.0 / (1.0 / num_draws + 1.0 / jnp.min(sizes)),
            "log_density": -0.5 * jnp.einsum("ti,ij,tj->t", centred, precision, centred),
        }
