"""MCMC diagnostics by ArviZ, behind one small adapter.

ArviZ's own functions changed between 0.2x and 1.x; its statistics package
``arviz-stats`` offers the same array functions to both, without xarray.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

_TAILS = (0.05, 0.95)

MAX_RHAT = 1.01
"""Largest rank-normalised split R-hat of chains that have mixed (Vehtari et al. 2021)."""


def rhat(values: Float[np.ndarray, "chains draws dim"]) -> np.ndarray:
    """Rank-normalised split R-hat of each coordinate (Vehtari et al. 2021), (dim,)."""
    return _stats().rhat(values, chain_axis=0, draw_axis=1, method="rank")


def nested_rhat(
    chains: Float[np.ndarray, "chains draws dim"], groups: int
) -> Float[np.ndarray, " dim"]:
    """R-hat of groups of neighbouring chains, for many short ones (Margossian et al. 2024).

    The R-hat of M chains that are worth E draws together exceeds 1 by about M / 2E however well
    they mix; that of groups by their number in the place of M. Chains that stay where they are
    still show: a half of a group holds them in other proportions than the next.

    Args:
        chains: a whole number of them for each group.
        groups: how many.
    """
    return rhat(chains.reshape(groups, -1, chains.shape[-1]))


def ess_bulk(values: Float[np.ndarray, "chains draws dim"]) -> np.ndarray:
    """Bulk effective sample size of each coordinate, (dim,)."""
    return _stats().ess(values, chain_axis=0, draw_axis=1, method="bulk")


def ess_tail(values: Float[np.ndarray, "chains draws dim"]) -> np.ndarray:
    """Tail effective sample size (5% and 95% quantiles) of each coordinate, (dim,)."""
    return _stats().ess(values, chain_axis=0, draw_axis=1, method="tail", prob=_TAILS)


def mcse(
    values: Float[np.ndarray, "chains draws dim"], of: str, prob: float | None = None
) -> np.ndarray:
    """Monte Carlo standard error of each coordinate's "mean", "sd" or "quantile", (dim,).

    Args:
        values: draws, the chains apart.
        of: what the error is of.
        prob: of the quantile.
    """
    which = {} if prob is None else {"prob": prob}
    return _stats().mcse(values, chain_axis=0, draw_axis=1, method=of, **which)


def bfmi(energy: Float[np.ndarray, "chains draws"]) -> np.ndarray:
    """Energy Bayesian fraction of missing information (Betancourt 2016) of each chain.

    mean of squared energy differences over the energy's variance; below 0.3 the
    momentum resampling does not reach the tails.
    """
    return np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)


def summarise(
    values: Float[np.ndarray, "chains draws dim"],
    names: tuple[str, ...],
    energy: Float[np.ndarray, "chains draws"] | None = None,
    divergences: int | None = None,
) -> dict[str, Any]:
    """One density's diagnostics as plain JSON values, the worst coordinate named.

    Args:
        values: draws, the chains apart.
        names: of the coordinates.
        energy: of a Hamiltonian sampler, for its E-BFMI; None for others.
        divergences: of such a sampler.
    """
    split_rhat, bulk, tail = rhat(values), ess_bulk(values), ess_tail(values)
    found = {
        "max_rhat": float(np.max(split_rhat)),
        "max_rhat_parameter": names[int(np.argmax(split_rhat))],
        "min_ess_bulk": float(np.min(bulk)),
        "min_ess_bulk_parameter": names[int(np.argmin(bulk))],
        "min_ess_tail": float(np.min(tail)),
        "min_ess_tail_parameter": names[int(np.argmin(tail))],
    }
    if energy is not None and divergences is not None:
        found |= {"divergences": int(divergences), "min_bfmi": float(np.min(bfmi(energy)))}
    return found


def _stats() -> Any:
    from arviz_stats.base import array_stats

    return array_stats
