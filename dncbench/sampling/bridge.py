"""Evidence from draws: bridge sampling between a posterior and a t fitted to it.

Meng & Wong (1996), with their optimal bridge function. It looks at the draws alone, not at how
they were come by: draws that miss part of the posterior give another figure than draws that
do not.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit

_ROUNDS = 200
_CLOSE = 1e-10


class Evidence(NamedTuple):
    """The log of a density's integral and the standard error of that estimate."""

    log: float
    error: float


def bridge(at_draws: Float[np.ndarray, "C T"], at_proposals: Float[np.ndarray, " M"]) -> Evidence:
    """The evidence from log ratios of the density to a normalised proposal.

    Args:
        at_draws: log ratios at draws of the density, the chains apart.
        at_proposals: log ratios at independent draws of the proposal; -inf where the density
            is zero.

    Returns:
        The estimate; its error takes the chains for independent of one another, and is NaN
        where there is nothing to estimate from.
    """
    if not np.isfinite(at_draws).all() or not np.isfinite(at_proposals).any():
        return Evidence(float("nan"), float("nan"))
    share = np.log([at_draws.size, len(at_proposals)]) - np.log(at_draws.size + len(at_proposals))
    log_evidence = float(np.median(at_draws))

    def of_proposals(log_evidence: float) -> np.ndarray:
        """Density over the mixture of both; at most 1 / share of the draws."""
        gap = share[0] + at_proposals - share[1] - log_evidence
        return np.asarray(expit(gap)) / np.exp(share[0])

    def of_draws(log_evidence: float) -> np.ndarray:
        """Proposal over the mixture of both."""
        gap = share[1] + log_evidence - share[0] - at_draws
        return np.asarray(expit(gap)) / np.exp(share[1])

    with np.errstate(all="ignore"):
        for _ in range(_ROUNDS):
            step = np.log(np.mean(of_proposals(log_evidence)))
            step -= np.log(np.mean(of_draws(log_evidence)))
            log_evidence += float(step)
            if not abs(step) > _CLOSE:
                break
        proposals, by_chain = of_proposals(log_evidence), of_draws(log_evidence).mean(1)
        variance = np.var(proposals, ddof=1) / len(proposals) / np.mean(proposals) ** 2
        variance += np.var(by_chain, ddof=1) / len(by_chain) / np.mean(by_chain) ** 2
    return Evidence(log_evidence, float(np.sqrt(variance)))
