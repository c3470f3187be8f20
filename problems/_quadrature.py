"""Exact independent draws of a low-dimensional density by quadrature and rejection."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

_NEGLIGIBLE = 30.0  # nats below the mode; a cell there holds less than 1e-12 of the mass
_BATCH = 512
_SPARE = 3.0  # proposals for each draw wanted


def exact_draws(
    log_density: Callable[[Float[Array, " dim"]], Float[Array, ""]],
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
    points: int,
    key: PRNGKeyArray,
    num_draws: int,
) -> Float[np.ndarray, "num_draws dim"]:
    """Independent draws of a density on a box, by rejection from its midpoint rule.

    The cells of a first grid that matter are cut into 3^dim each. A cell is drawn in
    proportion to the density at its midpoint, a point uniformly within it, and the point
    kept with probability proportional to (density at the point) / (density at the
    midpoint), against the largest ratio among the proposals. What is left out is the
    mass of cells ``exp(-30)`` below the mode.

    Args:
        log_density: of one point, up to a constant.
        low: lower corner of a box that holds the mass.
        high: upper corner.
        points: cells to a side of the first grid; a standard deviation or finer.
        key: random key.
        num_draws: draws wanted.

    Raises:
        ValueError: the grid is so coarse that fewer proposals are accepted than wanted.
    """
    evaluate = jax.jit(lambda at: jax.lax.map(log_density, at, batch_size=_BATCH))
    dim = len(low)
    spacing = (np.asarray(high, float) - low) / points
    coarse = low + spacing * (_lattice(points, dim) + 0.5)
    values = np.asarray(evaluate(coarse))
    coarse = coarse[values > values.max() - _NEGLIGIBLE]
    spacing = spacing / 3
    cells = (coarse[:, None] + spacing * (_lattice(3, dim) - 1)).reshape(-1, dim)
    values = np.asarray(evaluate(cells))
    weights = np.exp(values - values.max())

    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    chosen = rng.choice(len(cells), int(_SPARE * num_draws), p=weights / weights.sum())
    proposals = cells[chosen] + spacing * (rng.random((len(chosen), dim)) - 0.5)
    ratios = np.asarray(evaluate(proposals)) - values[chosen]
    accepted = proposals[np.log(rng.random(len(ratios))) < ratios - ratios.max()]
    if len(accepted) < num_draws:
        raise ValueError(
            f"only {len(accepted) / len(ratios):.0%} of the proposals are accepted; use more than "
            f"{points} points to a side"
        )
    return accepted[:num_draws]


def _lattice(points: int, dim: int) -> np.ndarray:
    """All (points^dim, dim) combinations of 0 to points - 1."""
    return np.stack(np.meshgrid(*[np.arange(points)] * dim, indexing="ij"), -1).reshape(-1, dim)
