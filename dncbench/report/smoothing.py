"""Densities of draws on a grid, smoothed, and the levels that enclose a given mass."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, gaussian_filter1d

Box = tuple[np.ndarray, np.ndarray]
"""Lower and upper corner, (2,) each."""


def marginal(
    draws: Float[np.ndarray, " N"], low: float, high: float, bins: int, bandwidth: float
) -> Float[np.ndarray, " bins"]:
    """Density at the centres of ``bins`` equal bins; draws outside count as outside.

    Args:
        draws: of one coordinate.
        low, high: the range.
        bins: how many.
        bandwidth: of the Gaussian that smooths, in the units of the draws.
    """
    counts, _ = np.histogram(draws, bins=bins, range=(low, high))
    step = (high - low) / bins
    smooth = gaussian_filter1d(counts.astype(float), bandwidth / step, mode="constant")
    return smooth / (len(draws) * step)


def bandwidth(draws: Float[np.ndarray, " N"]) -> float:
    """Silverman's rule, which several modes do not widen."""
    quartiles = np.quantile(draws, [0.25, 0.75])
    spread = min(float(draws.std()), float(np.diff(quartiles)[0]) / 1.349)
    return 0.9 * spread * len(draws) ** -0.2


def joint(
    draws: Float[np.ndarray, "N 2"], box: Box, bins: int, smoothing: float
) -> Float[np.ndarray, "bins bins"]:
    """Smoothed counts of two coordinates on a grid; first axis first coordinate.

    Args:
        draws: of two coordinates.
        box: the range.
        bins: of each axis.
        smoothing: standard deviation of the Gaussian, in bins.
    """
    edges = [np.linspace(box[0][i], box[1][i], bins + 1) for i in (0, 1)]
    counts, *_ = np.histogram2d(draws[:, 0], draws[:, 1], bins=edges)
    return gaussian_filter(counts, smoothing)


def mass_levels(
    density: Float[np.ndarray, "bins bins"], num_draws: int, masses: tuple[float, ...]
) -> Float[np.ndarray, " L"]:
    """Levels whose smallest regions hold the given shares of the draws, ascending.

    Empty where the draws lie outside the grid.
    """
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / num_draws
    last = np.minimum(np.searchsorted(mass, masses), len(mass) - 1)
    levels = np.unique(ordered[last])
    return levels[levels > 0]
