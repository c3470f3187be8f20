"""The mode of a log density and the curvature there."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_NEWTON_STEPS = 200
_FLAT = 1e-3  # slope, in units of a coordinate's curvature, at which Newton stops


def find_mode(
    density: Callable[[Array], Array], start: Float[Array, " dim"]
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"], Bool[Array, ""]]:
    """Mode and Laplace factor L (L Lᵀ = inverse Hessian of -log density), by damped Newton.

    Marquardt's scaling of the damping makes the path independent of the
    coordinates' scales; a step that does not improve is taken back.

    Args:
        density: log density of one point.
        start: where the search begins.

    Returns:
        The place where the search ended; L, or a diagonal where the Hessian has no Cholesky
        factor; and whether the place is a mode: the density is flat there and curved downwards.
    """
    energy = lambda eta: -density(eta)  # noqa: E731

    def scales(hessian: Array) -> Array:
        return jnp.maximum(jnp.abs(jnp.diag(hessian)), 1e-12)

    def step(state: tuple) -> tuple:
        eta, value, damping, count, _ = state
        hessian, gradient = jax.hessian(energy)(eta), jax.grad(energy)(eta)
        scale = scales(hessian)
        proposal = eta - jnp.linalg.solve(hessian + damping * jnp.diag(scale), gradient)
        better = energy(proposal) < value
        return (
            jnp.where(better, proposal, eta),
            jnp.where(better, energy(proposal), value),
            jnp.where(better, damping / 10, damping * 10),
            count + 1,
            jnp.max(jnp.abs(gradient) / jnp.sqrt(scale)),
        )

    def unfinished(state: tuple) -> Array:
        *_, damping, count, slope = state
        return (count < _NEWTON_STEPS) & (slope > _FLAT) & (damping < 1e12)

    mode, *_ = jax.lax.while_loop(
        unfinished, step, (start, energy(start), jnp.array(1e-3), jnp.array(0), jnp.array(jnp.inf))
    )
    hessian = jax.hessian(energy)(mode)
    root = 1.0 / jnp.sqrt(scales(hessian))
    # Scaled to a unit diagonal first: factorising is then as exact as the problem allows.
    curvature = jnp.linalg.cholesky(hessian * root[:, None] * root[None, :])
    laplace = jax.scipy.linalg.solve_triangular(curvature, jnp.diag(root), lower=True).T
    curved = jnp.all(jnp.isfinite(laplace))
    slope = jnp.max(jnp.abs(jax.grad(energy)(mode)) * root)
    found = curved & (slope <= 10 * _FLAT) & jnp.isfinite(energy(mode))
    return mode, jnp.where(curved, laplace, jnp.diag(root)), found
