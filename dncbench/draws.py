"""Draws: what a sampler hands to the merges, with its diagnostics."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Draws:
    """Draws of S densities, with what the sampler knew about each.

    Attributes:
        values: (S, T, d) positions η, float64.
        log_density: (S, T) unnormalised log densities at them.
        score: (S, T, d) gradients of the log density at them.
        num_chains: C; T is C equal stretches, chain after chain, in sampling order.
        info: diagnostics and seconds; plain JSON values.
    """

    values: Float[np.ndarray, "S T d"]
    log_density: Float[np.ndarray, "S T"]
    score: Float[np.ndarray, "S T d"]
    num_chains: int
    info: dict[str, Any] = field(default_factory=dict)

    def by_chain(self, shard: int) -> Float[np.ndarray, "C T/C d"]:
        """One shard's values with the chains apart."""
        return self.values[shard].reshape(self.num_chains, -1, self.values.shape[-1])

    def min_ess(self) -> np.ndarray:
        """(S,), each shard's smallest bulk ESS over the coordinates."""
        return np.array([shard["min_ess_bulk"] for shard in self.info["diagnostics"]])

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, for storage."""
        return {"values": self.values, "log_density": self.log_density, "score": self.score}


def evenly(num_available: int, num_wanted: int) -> np.ndarray:
    """Row numbers that thin ``num_available`` draws to ``num_wanted``, evenly spaced.

    Where fewer are available than wanted, rows repeat as evenly as possible.
    """
    return (np.arange(num_wanted) * num_available) // num_wanted
