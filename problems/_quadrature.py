"""Exact independent draws of a low-dimensional density by quadrature and rejection."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

_NEGLIGIBLE = 20.0  # nats below the mode; all that lies there is about 1e-8 of the mass
_BATCH = 512
_SPARE = 6.0  # proposals for each draw wanted
_SLACK = 0.2  # nats that curvature may add to a step


def exact_draws(
    log_density: Callable[[Float[Array, " dim"]], Float[Array, ""]],
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
    points: int,
    key: PRNGKeyArray,
    num_draws: int,
) -> Float[np.ndarray, "num_draws dim"]:
    """Independent draws of a density on a box, by rejection from a grid of steps above it.

    The cells of a first grid that matter are cut into 3^dim each. Over a cell of half
    width h the density stays below exp(log density + |gradient|·h + slack) at its
    midpoint: the height of the step. A cell is drawn in proportion to its step, a point
    uniformly within it, and the point kept with probability density / step. A density
    above a step is an error, not a bias. What is left out is the mass of cells
    ``exp(-20)`` below the mode.

    Args:
        log_density: of one point, up to a constant.
        low: lower corner of a box that holds the mass.
        high: upper corner.
        points: cells to a side of the first grid; a standard deviation or finer.
        key: random key.
        num_draws: draws wanted.

    Raises:
        ValueError: the grid is too coarse: a density above its step, or too few
            proposals accepted.
    """
    evaluate = jax.jit(lambda at: jax.lax.map(log_density, at, batch_size=_BATCH))
    with_slopes = jax.jit(
        lambda at: jax.lax.map(jax.value_and_grad(log_density), at, batch_size=_BATCH)
    )
    dim = len(low)
    spacing = (np.asarray(high, float) - low) / points
    coarse = low + spacing * (_lattice(points, dim) + 0.5)
    values = np.asarray(evaluate(coarse))
    coarse = coarse[values > values.max() - _NEGLIGIBLE]
    spacing = spacing / 3
    cells = (coarse[:, None] + spacing * (_lattice(3, dim) - 1)).reshape(-1, dim)
    values, gradients = (np.asarray(part) for part in with_slopes(cells))
    # Where the density is zero so is the step; a gradient there means nothing.
    slopes = np.where(np.isfinite(values), np.abs(np.nan_to_num(gradients)) @ spacing / 2, 0.0)
    steps = values + slopes + _SLACK
    weights = np.exp(steps - steps.max())

    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    chosen = rng.choice(len(cells), int(_SPARE * num_draws), p=weights / weights.sum())
    proposals = cells[chosen] + spacing * (rng.random((len(chosen), dim)) - 0.5)
    heights = np.asarray(evaluate(proposals)) - steps[chosen]
    accepted = proposals[np.log(rng.random(len(heights))) < heights]
    if heights.max() > 0 or len(accepted) < num_draws:
        raise ValueError(
            f"{len(accepted) / len(heights):.0%} of the proposals are accepted, the highest "
            f"density "
            f"is {np.exp(heights.max()):.2f} of its step; use more than {points} points to a side"
        )
    return accepted[:num_draws]


def _lattice(points: int, dim: int) -> np.ndarray:
    """All (points^dim, dim) combinations of 0 to points - 1."""
    return np.stack(np.meshgrid(*[np.arange(points)] * dim, indexing="ij"), -1).reshape(-1, dim)
