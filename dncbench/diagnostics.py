"""MCMC diagnostics by ArviZ, behind one small adapter.

ArviZ's own functions changed between 0.2x and 1.x; its statistics package
``arviz-stats`` offers the same array functions to both, without xarray.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

_TAILS = (0.05, 0.95)


def rhat(values: Float[np.ndarray, "chains draws dim"]) -> np.ndarray:
    """Rank-normalised split R-hat of each coordinate (Vehtari et al. 2021), (dim,)."""
    return _stats().rhat(values, chain_axis=0, draw_axis=1, method="rank")


def ess_bulk(values: Float[np.ndarray, "chains draws dim"]) -> np.ndarray:
    """Bulk effective sample size of each coordinate, (dim,)."""
    return _stats().ess(values, chain_axis=0, draw_axis=1, method="bulk")


def ess_tail(values: Float[np.ndarray, "chains draws dim"]) -> np.ndarray:
    """Tail effective sample size (5% and 95% quantiles) of each coordinate, (dim,)."""
    return _stats().ess(values, chain_axis=0, draw_axis=1, method="tail", prob=_TAILS)


def mcse(values: Float[np.ndarray, "chains draws dim"], of: str) -> np.ndarray:
    """Monte Carlo standard error of each coordinate's "mean" or "sd", (dim,)."""
    return _stats().mcse(values, chain_axis=0, draw_axis=1, method=of)


def bfmi(energy: Float[np.ndarray, "chains draws"]) -> np.ndarray:
    """Energy Bayesian fraction of missing information (Betancourt 2016) of each chain.

    mean of squared energy differences over the energy's variance; below 0.3 the
    momentum resampling does not reach the tails.
    """
    return np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)


def summarise(
    values: Float[np.ndarray, "chains draws dim"],
    energy: Float[np.ndarray, "chains draws"],
    divergences: int,
    names: tuple[str, ...],
) -> dict[str, Any]:
    """One density's diagnostics as plain JSON values, the worst coordinate named."""
    split_rhat, bulk, tail = rhat(values), ess_bulk(values), ess_tail(values)
    return {
        "max_rhat": float(np.max(split_rhat)),
        "max_rhat_parameter": names[int(np.argmax(split_rhat))],
        "min_ess_bulk": float(np.min(bulk)),
        "min_ess_bulk_parameter": names[int(np.argmin(bulk))],
        "min_ess_tail": float(np.min(tail)),
        "min_ess_tail_parameter": names[int(np.argmin(tail))],
        "divergences": int(divergences),
        "min_bfmi": float(np.min(bfmi(energy))),
    }


def _stats() -> Any:
    from arviz_stats.base import array_stats

    return array_stats
