"""Moments and products of Gaussians, shared by the methods that approximate with them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve, solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dncbench import precision as precision  # moments and inverses need float64
from dncbench.draws import evenly


def mean_and_covariance(
    draws: Float[Array, "T d"],
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Sample mean (d,) and covariance (d, d) with divisor T - 1."""
    mean = jnp.mean(draws, axis=0)
    centred = draws - mean[None, :]
    return mean, centred.T @ centred / (len(draws) - 1)


def inverse(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Inverse of a symmetric positive-definite matrix by its Cholesky factor, symmetric."""
    result = cho_solve(cho_factor(matrix, lower=True), jnp.eye(len(matrix)))
    return 0.5 * (result + result.T)


def inverses(matrices: Float[Array, "S d d"]) -> Float[Array, "S d d"]:
    """:func:`inverse` of S matrices, one after the other.

    A factorisation of many matrices at once waits for the very threads that it runs on;
    two of them side by side in one program have been seen to wait for ever (jaxlib
    0.10 on two cores). Loops over shards that factorise therefore use ``jax.lax.map``.
    """
    return jax.lax.map(inverse, matrices)


def product(
    means: Float[Array, "S d"], precisions: Float[Array, "S d d"]
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean m and precision P of Π_s N(μ_s, P_s⁻¹): P = Σ P_s, m = P⁻¹ Σ P_s μ_s.

    Trojan et al. (2024), equation 15; Neiswanger et al. (2014), section 3.1.
    """
    precision = jnp.sum(precisions, axis=0)
    weighted = jnp.einsum("sij,sj->i", precisions, means)
    return cho_solve(cho_factor(precision, lower=True), weighted), precision


def draw_from_precision(
    key: PRNGKeyArray, mean: Float[Array, " d"], precision: Float[Array, "d d"], num_draws: int
) -> Float[Array, "num_draws d"]:
    """Independent draws from N(mean, precision⁻¹)."""
    factor = jnp.linalg.cholesky(precision)
    noise = jax.random.normal(key, (len(mean), num_draws))
    return mean[None, :] + solve_triangular(factor, noise, lower=True, trans=1).T


def symmetric_power(matrix: Float[Array, "d d"], power: float) -> Float[Array, "d d"]:
    """A symmetric positive-definite matrix to a real power, by its eigenvalues."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * (values**power)[None, :]) @ vectors.T


class Whitening(eqx.Module):
    """Coordinates x = root⁻¹ (θ - mean) in which draws have mean 0 and covariance I.

    Attributes:
        mean: (d,) sample mean.
        root: (d, d) symmetric square root of the sample covariance.
        inverse_root: its inverse.
    """

    mean: Float[Array, "*S d"]
    root: Float[Array, "*S d d"]
    inverse_root: Float[Array, "*S d d"]

    def positions(self, values: Float[Array, "*T d"]) -> Float[Array, "*T d"]:
        """θ to x."""
        return (values - jnp.broadcast_to(self.mean, values.shape)) @ self.inverse_root

    def scores(self, score: Float[Array, "*T d"]) -> Float[Array, "*T d"]:
        """Gradients with respect to θ to gradients with respect to x: rootᵀ times them."""
        return score @ self.root

    def original(self, positions: Float[Array, "*T d"]) -> Float[Array, "*T d"]:
        """Back from x to θ."""
        return jnp.broadcast_to(self.mean, positions.shape) + positions @ self.root


def whitening(draws: Float[Array, "T d"]) -> Whitening:
    """The whitening of one shard's draws, in their own precision."""
    mean, covariance = mean_and_covariance(draws)
    values, vectors = jnp.linalg.eigh(covariance)
    # One square root for both compiles to other roundings, which gp's chains make visible: its
    # records were made with two.
    root = (vectors * jnp.sqrt(values)[None, :]) @ vectors.T
    return Whitening(mean, root, (vectors / jnp.sqrt(values)[None, :]) @ vectors.T)


def shuffled(
    key: PRNGKeyArray, draws: Float[Array, "S T d"], num_draws: int
) -> Float[Array, "S num_draws d"]:
    """``num_draws`` of each shard's draws in an order of its own.

    Averaging across shards assumes that they are independent; draws paired by their
    place in the chain need not be. Where more are wanted than there are, every draw
    is used again in a new random pairing.
    """
    num_available = draws.shape[1]
    passes = -(-num_draws // num_available)

    def order(key: PRNGKeyArray) -> Array:
        keys = jax.random.split(key, passes)
        rows = jax.vmap(lambda key: jax.random.permutation(key, num_available))(keys)
        return rows.reshape(-1)[:num_draws]

    rows = jax.vmap(order)(jax.random.split(key, len(draws)))
    return jnp.take_along_axis(draws, rows[:, :, None], axis=1)


def thinned(draws: Shaped[Array, "S T ..."], num_draws: int) -> Shaped[Array, "S each ..."]:
    """Evenly thinned draws, ceil(num_draws / S) of each shard, for :func:`pooled`."""
    each = -(-num_draws // len(draws))
    return draws[:, evenly(draws.shape[1], each)]


def pooled(draws: Shaped[Array, "S each ..."], num_draws: int) -> Shaped[Array, "num_draws ..."]:
    """The shards' draws thrown together, one of each shard in turn."""
    return jnp.swapaxes(draws, 0, 1).reshape(-1, *draws.shape[2:])[:num_draws]
