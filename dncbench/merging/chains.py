"""Draws of chains: how many independent ones they are worth."""

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, rankdata

from dncbench.merging.labelled import Given
from dncbench.sampling.diagnostics import ess_bulk

_FEWEST = 20  # draws that tell how much they depend on each other
_FALSE_ALARM = 1e-4  # of a shard whose draws are independent


def ess_of_chains(chains: Float[np.ndarray, "C T d"]) -> float:
    """How many independent draws those of one shard are worth, at most C T.

    Smallest bulk ESS over the coordinates (Vehtari et al. 2021). But an ESS of independent draws is
    noise, and the smallest of many coordinates' is far too small. Hence it counts only where
    neighbours are alike beyond chance: where a coordinate's ranks, chain after chain, have a
    lag-one autocorrelation that those of independent draws, with a standard error of
    1 / sqrt(C T), hardly reach.
    """
    number, dim = chains.shape[0] * chains.shape[1], chains.shape[2]
    if number < _FEWEST or not dim or not np.all(np.isfinite(chains)):
        return float(number)
    ranks = rankdata(chains.reshape(number, dim), axis=0) - (number + 1) / 2
    squares = np.maximum(np.mean(ranks**2, axis=0), 1e-300)  # a constant coordinate has none
    alike = np.mean(ranks[1:] * ranks[:-1], axis=0) / squares
    if np.max(alike) < norm.isf(_FALSE_ALARM / dim) / np.sqrt(number):
        return float(number)
    with np.errstate(all="ignore"):
        bulk = ess_bulk(chains)
    known = bulk[np.isfinite(bulk)]
    return float(np.clip(known.min(), 1.0, number)) if len(known) else float(number)


def join_chains(given: Given) -> list[float] | None:
    """Join chains that are told apart, and say what each shard's draws are worth.

    Args:
        given: what a user gave; arrays of (C, T, d), log densities of (C, T), become (C T, d)
            and (C T,). Whatever has another shape stays, to be refused.

    Returns:
        None where no chains are told apart.
    """
    draws = given.arrays.get("values", given.arrays.get("inflated", []))
    if not draws or any(shard.ndim != 3 for shard in draws):
        return None
    worth = [ess_of_chains(shard) for shard in draws]
    for name, shards in given.arrays.items():
        apart = 2 if name == "log_density" else 3
        given.arrays[name] = [
            shard.reshape(shard.shape[0] * shard.shape[1], *shard.shape[2:])
            if shard.ndim == apart
            else shard
            for shard in shards
        ]
    return worth
