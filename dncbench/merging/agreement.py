"""Whether the shards can be parts of one posterior: one statistic for every merge of draws.

Dealt out at random, subposterior means μ_s scatter about each other as widely as the
subposteriors themselves, with covariances C_s. Hence with m the precision-weighted mean,

    Q = Σ_s (μ_s - m)ᵀ C_s⁻¹ (μ_s - m)

is about χ² with (S - 1) d degrees of freedom (Cochran's Q of meta-analysis), and
H² = Q / ((S - 1) d) about 1. Label switching, another unit, mixed columns or a shard that did
not converge make it large: the merged draws then lie where no shard has any. By Birge's
ratio the merged mean's error is H posterior standard deviations where the merge claims 1;
the excess variance H² - 1 is that of 1 / (H² - 1) independent draws, which is all that the
merged draws are then worth.

A coordinate's contradiction drowns among many others, and a direction's is not seen in any
coordinate: Q is computed for all coordinates together and for each by itself.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import chi2

_FALSE_ALARM = 1e-4
_ALLOWANCE = 2.0
"""How many times its χ² bound Q may be. Skewed, heavy-tailed and small shards' subposteriors
are no Gaussians: under random splits Q reached 1.9 times the bound for 60 sets of log-gamma
subposteriors, each shifted by a draw of its own, and .5 times for the suite's problems."""

_LEAST_CORRELATION = 1e-10  # smallest eigenvalue of a correlation matrix that can be inverted


class Agreement(NamedTuple):
    """What the shards' means say about each other.

    Attributes:
        ratio: H² = Q / degrees of freedom; of all coordinates together, or of the one
            that breaks its bound by more.
        degrees: degrees of freedom.
        excess: Q / its χ² bound.
        shard: the one farthest from the others.
        coordinate: in which it is farthest.
        distance: how far, in standard deviations of the difference.
    """

    ratio: float
    degrees: int
    excess: float
    shard: int
    coordinate: int
    distance: float

    @property
    def contradicts(self) -> bool:
        """Whether no skewness or heavy tail explains it."""
        return self.excess > _ALLOWANCE

    @property
    def ess(self) -> float:
        """How many independent draws the merged draws are worth, where they contradict."""
        return 1.0 / (self.ratio - 1.0)


def agreement(
    draws: Float[np.ndarray, "S T d"], ess: Float[np.ndarray, " S"], inflation: float = 1.0
) -> Agreement | None:
    """Hold the shards' draws against each other.

    Args:
        draws: of the subposteriors.
        ess: how many independent draws each shard's are worth, as far as it is known.
        inflation: by what the covariances are to be multiplied: S where the draws are of the
            inflated subposteriors, which scatter S times as widely as they are broad.

    Returns:
        None where nothing can be said: one shard, a constant coordinate or one whose squares
        are no numbers, fewer than five effective draws.
    """
    num_shards, num_draws, dim = draws.shape
    if num_shards < 2 or num_draws < 5:
        return None
    means, spreads = draws.mean(1), draws.std(1, ddof=1)
    worth = np.minimum(ess, num_draws)
    tiny = 1e-14 * np.maximum(np.abs(draws).max(1), 1e-300)  # rounding, no spread
    if worth.min() < 5 or not np.all((spreads > tiny) & np.isfinite(spreads)):
        return None
    # Units of the coordinates, and an origin near the draws: scales may span 1e12.
    unit = np.exp(np.log(spreads).mean(0))
    means, spreads = (means - np.median(means, axis=0)) / unit, spreads / unit
    # An estimated precision is too large by (n - 1) / (n - d - 2).
    single = (worth - 3) / (worth - 1) / inflation
    shift, variance = _from_the_others(means, single[:, None] / spreads**2)
    distances = np.abs(shift) / np.sqrt(variance)
    found = []
    weights = single[:, None] / spreads**2
    centre = np.sum(weights * means, axis=0) / weights.sum(0)
    by_coordinate = np.sum(weights * (means - centre) ** 2, axis=0)
    worst = int(np.argmax(by_coordinate))
    bound = chi2.isf(_FALSE_ALARM / dim, num_shards - 1)
    shard = int(np.argmax(distances[:, worst]))
    found.append(
        Agreement(
            float(by_coordinate[worst] / (num_shards - 1)),
            num_shards - 1,
            float(by_coordinate[worst] / bound),
            shard,
            worst,
            float(distances[shard, worst]),
        )
    )
    precisions = _precisions(draws / unit, worth, inflation) if dim > 1 else None
    if precisions is not None:
        found.append(_jointly(means, precisions, distances))
    return max(found, key=lambda one: one.excess)


def _jointly(
    means: Float[np.ndarray, "S d"],
    precisions: Float[np.ndarray, "S d d"],
    distances: Float[np.ndarray, "S d"],
) -> Agreement:
    degrees = (len(means) - 1) * means.shape[1]
    total = precisions.sum(0)
    weighted = np.einsum("sij,sj->si", precisions, means)
    apart = means - np.linalg.solve(total, weighted.sum(0))
    statistic = float(np.einsum("si,sij,sj->", apart, precisions, apart))
    far = []
    for own, mean, pull in zip(precisions, means, weighted, strict=True):
        others = total - own
        shift = mean - np.linalg.solve(others, weighted.sum(0) - pull)
        far.append(shift @ np.linalg.solve(np.linalg.inv(own) + np.linalg.inv(others), shift))
    shard = int(np.argmax(far))
    return Agreement(
        statistic / degrees,
        degrees,
        statistic / float(chi2.isf(_FALSE_ALARM, degrees)),
        shard,
        int(np.argmax(distances[shard])),
        float(np.sqrt(far[shard])),
    )


def _from_the_others(
    means: Float[np.ndarray, "S d"], weights: Float[np.ndarray, "S d"]
) -> tuple[np.ndarray, np.ndarray]:
    """How far each shard's mean lies from that of all others, and the variance of that."""
    others = weights.sum(0) - weights
    pulled = np.sum(weights * means, axis=0) - weights * means
    return means - pulled / others, 1 / weights + 1 / others


def _precisions(
    draws: Float[np.ndarray, "S T d"], worth: Float[np.ndarray, " S"], inflation: float
) -> Float[np.ndarray, "S d d"] | None:
    """The shards' inverse covariances, corrected for the draws they rest on; None if singular."""
    num_draws, dim = draws.shape[1:]
    if min(worth.min(), num_draws) <= dim + 2:
        return None
    found = []
    for shard, number in zip(draws, worth, strict=True):
        centred = shard - shard.mean(0)
        spread = centred.std(0)
        standard = centred / spread
        correlation = standard.T @ standard / num_draws
        if np.linalg.eigvalsh(correlation)[0] < _LEAST_CORRELATION:
            return None
        unbiased = (number - dim - 2) / (number - 1) / inflation
        found.append(unbiased * np.linalg.inv(correlation) / np.outer(spread, spread))
    return np.stack(found)
