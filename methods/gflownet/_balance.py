"""Balance conditions of GFlowNets as losses of a batch of trajectories.

Trajectory balance, log Z + log p_F(τ) = log p_B(τ given x) + log R(x), is Malkin et al. (2022)'s;
contrastive and aggregating balance, which need no Z, are da Silva et al. (2024)'s. All three read
the same residual

    ξ(τ) = log p_F(τ) - log p_B(τ given x) - log R(x),

where for aggregating balance log R(x) is replaced by what the clients sent of the trajectory,
Σ_n [log p_F,n(τ) - log p_B,n(τ given x)]: no reward, no data and no Z_n is needed.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def trajectory_loss(
    residuals: Float[Array, " N"], log_normaliser: Float[Array, ""]
) -> Float[Array, ""]:
    """Mean of (log Z + ξ)²; zero where the policy is in trajectory balance with Z."""
    return jnp.mean((log_normaliser + residuals) ** 2)


def contrastive_loss(residuals: Float[Array, " N"]) -> Float[Array, ""]:
    """Mean of (ξ_i - ξ_j)² over all pairs of different trajectories, N of them two at least.

    2 N / (N - 1) times the variance of ξ: unbiased for independent pairs. On trajectories of
    the policy itself its expected gradient, for the parameters of p_F, is
    4 ∇ KL(p_F || p_B R / Z): da Silva et al. (2024), Theorem 3.7, with the constant.
    """
    return 2.0 * jnp.var(residuals, ddof=1)


def detailed_loss(residuals: Float[Array, "T N"], moved: Bool[Array, "T N"]) -> Float[Array, ""]:
    """Mean over steps of squared residuals: log F(s) + log p_F - log F(s') - log p_B.

    F is the flow through a state, R(x) of an object: detailed balance, Bengio et al. (2021). The
    modified form, where all states but the first could be stopped in, is Deleu et al. (2022)'s.
    """
    return jnp.sum(jnp.where(moved, residuals**2, 0.0)) / jnp.maximum(jnp.sum(moved), 1)
