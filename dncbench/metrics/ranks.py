"""Marginals by ranks in the reference: no bandwidth that smooths modes away, no moment needed."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dncbench.metrics.sample import NUM_GROUPS, Figure, Sample, groups, jackknife_error
from dncbench.registry import register_metric


@register_metric("iad-rank", version=1)
def rank_distance(approximation: Sample, reference: Sample) -> Figure:
    """Mean over coordinates of half the L1 distance of histograms by reference ranks; 0 to 1.

    (1/2d) Σ_i Σ_k |p_a,ik - p_f,ik|, p the shares of either sample in K bins that are equally
    probable under the reference; K is the prime nearest to n^(2/5), n the smaller number of
    draws: 41 for 10 000. It is the total variation of the marginals but for what differs inside
    a bin, which can only lower it. Modes count by their weights however narrow and far apart
    they are, no moment has to exist, and monotone maps of a coordinate do not change it.

    Between two perfect samples of n draws about ½ sqrt(2/π) sqrt(2K/n): 0.036 for 10 000.

    Raises:
        ValueError: a coordinate is not finite, or constant.
    """
    bins = _number_of_bins(min(len(approximation.values), len(reference.values)))
    a, f = (_ranked(sample.values) for sample in (approximation, reference))
    each = [_distances(*pair, bins) for pair in zip(a, f, strict=True)]
    whole, without_a, without_f = (np.mean(part, axis=0) for part in zip(*each, strict=True))
    error = jackknife_error((approximation, reference), (without_a, without_f))
    return Figure(float(whole), error)


def _number_of_bins(num_draws: int) -> int:
    """A prime: modes of equal weights would meet at an edge if their number divided that of bins.

    There the distance jumps with the weights that the draws happen to have.
    """
    wanted = num_draws**0.4
    primes = [k for k in range(2, 2 * round(wanted) + 2) if all(k % i for i in range(2, k))]
    return min(primes, key=lambda k: abs(k - wanted))


class _Ranked(NamedTuple):
    """One coordinate of a sample, in order.

    Attributes:
        values: in ascending order.
        member: jackknife group of each.
        prefix: how many of each group are among the first 0, 1, ..., n.
    """

    values: Float[np.ndarray, " n"]
    member: Int[np.ndarray, " n"]
    prefix: Int[np.ndarray, "groups n+1"]

    def places(self, points: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
        """How many values are below each point, and how many are not above it."""
        return np.searchsorted(self.values, points), np.searchsorted(self.values, points, "right")


def _ranked(values: Float[np.ndarray, "n d"]) -> list[_Ranked]:
    group_of = np.empty(len(values), int)
    for group, rows in enumerate(groups(len(values))):
        group_of[rows] = group
    found = []
    for column in np.ascontiguousarray(values.T):
        order = np.argsort(column)
        ordered, member = column[order], group_of[order]
        if not np.isfinite(ordered[[0, -1]]).all() or ordered[0] == ordered[-1]:
            raise ValueError("a coordinate that is not finite, or constant, has no ranks")
        prefix = np.zeros((NUM_GROUPS, len(values) + 1), np.int32)
        np.cumsum(member == np.arange(NUM_GROUPS)[:, None], axis=1, out=prefix[:, 1:])
        found.append(_Ranked(ordered, member, prefix))
    return found


def _distances(a: _Ranked, f: _Ranked, bins: int) -> tuple[np.ndarray | float, ...]:
    """Of one coordinate: the distance, and (NUM_GROUPS,) without one group of either sample."""
    edges, weight = _edges(f.values, bins)
    (counts_a, below_a), (_, below_f) = (_counts(sample, edges, weight) for sample in (a, f))
    left_a = len(a.values) - a.prefix[:, -1:]
    without_a = (below_a - counts_a) / left_a - below_f / len(f.values)

    # A quantile of the reference moves when a group of the reference is left out.
    moved = [_edges(f.values[f.member != group], bins) for group in range(NUM_GROUPS)]
    edges, weight = (np.stack(part) for part in zip(*moved, strict=True))
    own = np.arange(NUM_GROUPS)
    left_f = len(f.values) - f.prefix[:, -1:]
    below = _counts(f, edges, weight)
    others = below[1] - below[0][own, own]
    without_f = _counts(a, edges, weight)[1] / len(a.values) - others / left_f
    whole = below_a / len(a.values) - below_f / len(f.values)
    return _half_l1(whole), _half_l1(without_a), _half_l1(without_f)


def _edges(ordered: Float[np.ndarray, " n"], bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws (2, bins - 1) below and above each inner edge, and the weights of those above.

    An edge is no number between two draws, which a monotone map would move among others, but
    the two draws themselves, each with a weight.
    """
    place = np.arange(1, bins) * len(ordered) / bins - 0.5
    low = np.floor(place).astype(int)
    return ordered[np.stack([low, low + 1])], place - low


def _counts(
    sample: _Ranked, edges: Float[np.ndarray, "... 2 k"], weight: Float[np.ndarray, "... k"]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws below each edge: (NUM_GROUPS, ..., k) of each group, and (..., k) of all.

    A draw that ties with an edge's draw counts as half below it.
    """
    first, last = sample.places(edges)

    def weighted(twice: np.ndarray) -> np.ndarray:
        return 0.5 * ((1 - weight) * twice[..., 0, :] + weight * twice[..., 1, :])

    return weighted(sample.prefix[:, first] + sample.prefix[:, last]), weighted(first + last)


def _half_l1(gap_below: Float[np.ndarray, "... k"]) -> np.ndarray | float:
    """From the difference of the shares below each inner edge."""
    return 0.5 * np.abs(np.diff(gap_below, axis=-1, prepend=0.0, append=0.0)).sum(-1)
