"""Draws without scale and correlation, in which one shard looks like any other."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_LEAST_CORRELATION = 1e-12  # smallest eigenvalue of a correlation matrix that can be inverted


class Whitened(NamedTuple):
    """One shard's draws with mean zero and covariance one, each coordinate as near as can be.

    Attributes:
        draws: (T, d).
        back: (d, d), from these draws to deviations from the mean: deviations = draws @ back.
    """

    draws: Float[np.ndarray, "T d"]
    back: Float[np.ndarray, "d d"]

    def scores(self, score: Float[np.ndarray, "T d"]) -> Float[np.ndarray, "T d"]:
        """Gradients in the draws' coordinates as gradients in these."""
        return score @ self.back.T


def whitened(draws: Float[np.ndarray, "T d"]) -> Whitened | None:
    """Whiten one shard's draws; None where their covariance is singular."""
    centred = draws - draws.mean(0)
    spread = centred.std(0)
    # A constant column leaves rounding errors of the mean, not an exact zero.
    if len(draws) <= draws.shape[1] or np.any(spread <= 1e-14 * np.abs(draws).max(0)):
        return None
    standard = centred / spread
    values, vectors = np.linalg.eigh(standard.T @ standard / len(draws))
    if values[0] < _LEAST_CORRELATION:
        return None
    inverse_root = (vectors / np.sqrt(values)) @ vectors.T
    root = (vectors * np.sqrt(values)) @ vectors.T
    return Whitened(standard @ inverse_root, root * spread)
