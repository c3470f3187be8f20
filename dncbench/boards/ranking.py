"""Ranks that say how sure they are: paired bootstrap over splits.

All methods see the same splits, so a resample takes the same splits for all of them, and
what makes a split hard drops out of comparisons. Five splits are few: a bootstrap of n
means has too small a spread by sqrt((n - 1) / n), and normal quantiles where Student's t
are due. Both are put right by one factor, exact for normal figures. The figures' own Monte
Carlo errors are added. One or two splits do not tell how much figures differ between splits,
which is most of what is to be known: intervals from the Monte Carlo errors alone miss the true
rank far too often. They give no ranks.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
NUM_RESAMPLES = 4_000

MIN_SPLITS = 3
"""Splits that ranks need."""

_MOST_REPEATING = 8
"""Splits; of more than that few choices come twice."""

Figures = Mapping[str, Mapping[Any, tuple[float, float]]]
"""For each method and split a figure (lower is better) and its Monte Carlo standard error."""


@dataclass(frozen=True)
class Resampled:
    """Mean figures of several methods, and what they could as well have been.

    Attributes:
        names: M methods that have figures on all splits used.
        centre: (M,) means over these splits.
        means: (B, M) means of the resamples; the methods of a row belong together.
    """

    names: tuple[str, ...]
    centre: Float[np.ndarray, " M"]
    means: Float[np.ndarray, "B M"]


@dataclass(frozen=True)
class Standing:
    """Where a method stands among others.

    Attributes:
        rank: lowest and highest rank of the interval that holds ``CONFIDENCE`` of the resamples.
        group: 1 for the best method and what cannot be told from it, 2 for the best of
            the others and what cannot be told from that, and so on. Of two others in a group it
            may well be known which is better: each is compared with the best of the group alone.
    """

    rank: tuple[int, int]
    group: int


def resample(figures: Figures, seed: int = 0) -> Resampled:
    """Paired bootstrap over the splits that all methods have.

    A method that lacks a split which most others have is left out rather than compared on
    other terms. Of fewer than :data:`MIN_SPLITS` splits nothing is resampled, and no method named.

    Args:
        figures: see :data:`Figures`.
        seed: of the resampling; the same figures always give the same result.
    """
    everywhere = _common(figures)
    names = tuple(sorted(name for name in figures if everywhere <= set(figures[name])))
    splits = sorted(everywhere, key=repr)
    if len(splits) < MIN_SPLITS or not names:
        return Resampled((), np.empty(0), np.empty((NUM_RESAMPLES, 0)))
    pairs = np.array([[figures[name][split] for split in splits] for name in names], float)
    values, errors = pairs[..., 0], pairs[..., 1]
    number = len(splits)
    centre = values.mean(1)
    chosen, which, normal = _chance(seed, number, len(names))
    by_split = np.ascontiguousarray(values.T)
    chances = centre + _widening(number) * (sum(by_split[row] for row in chosen) / number - centre)
    noise = np.sqrt(np.sum(errors**2, 1)) / number
    return Resampled(names, centre, chances[which] + noise * normal)


@functools.lru_cache(maxsize=8)
def _chance(
    seed: int, splits: int, methods: int
) -> tuple[Int[np.ndarray, "n K"], Int[np.ndarray, " B"], Float[np.ndarray, "B M"]]:
    """Chance, which tables of one size share.

    Returns:
        (n, K) choices of splits with repetition, of which five splits have 126.
        (B,) which of the choices each resample is.
        (B, M) normal numbers.
    """
    rng = np.random.default_rng(seed)
    choices = np.sort(rng.integers(splits, size=(NUM_RESAMPLES, splits)), axis=1)
    which = np.arange(NUM_RESAMPLES)
    if splits <= _MOST_REPEATING:
        in_digits = choices @ splits ** np.arange(splits)
        _, first, which = np.unique(in_digits, return_index=True, return_inverse=True)
        choices = choices[first]
    return choices.T, which, rng.standard_normal((NUM_RESAMPLES, methods))


def _common(figures: Figures) -> set[object]:
    """The splits that more than half of the methods have."""
    counts: dict[object, int] = {}
    for by_split in figures.values():
        for split in by_split:
            counts[split] = counts.get(split, 0) + 1
    return {split for split, count in counts.items() if 2 * count > len(figures)}


def _widening(number: int) -> float:
    quantile = 0.5 + CONFIDENCE / 2
    student = stdtrit(number - 1, quantile) / ndtri(quantile)
    return float(student * np.sqrt(number / (number - 1)))


def standings(resampled: Resampled) -> dict[str, Standing]:
    """Rank intervals and tie groups of all methods of a resampling."""
    groups = tie_groups(resampled)
    if not groups:
        return {}
    number, methods = resampled.means.shape
    order = np.argsort(resampled.means, axis=1, kind="stable")
    # How many resamples have a method at a place or above it, by place and method.
    at_place = np.bincount((order + methods * np.arange(methods)).ravel(), minlength=methods**2)
    above = at_place.reshape(methods, methods).cumsum(0)
    low, high = (1 + np.argmax(above > end, axis=0) for end in _ends(number))
    return {
        name: Standing((int(low[m]), int(high[m])), groups[name])
        for m, name in enumerate(resampled.names)
    }


@functools.cache
def _ends(number: int) -> tuple[int, int]:
    """The places, in ascending order, of the ends of the interval among so many resamples."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.arange(number), [tail, 1 - tail], method="inverted_cdf")
    return int(low), int(high)


def tie_groups(resampled: Resampled) -> dict[str, int]:
    """Tie groups of all methods, without the intervals, which take longer."""
    left = sorted(range(len(resampled.names)), key=lambda m: resampled.centre[m])
    means = np.ascontiguousarray(resampled.means.T)
    groups: dict[int, int] = {}
    number = 0
    while left:
        number += 1
        leader = left[0]
        together = [m for m in left if m == leader or _tied(means[m], means[leader])]
        groups |= dict.fromkeys(together, number)
        left = [m for m in left if m not in groups]
    return {name: groups[m] for m, name in enumerate(resampled.names)}


def _tied(other: Float[np.ndarray, " B"], leader: Float[np.ndarray, " B"]) -> bool:
    """Whether the lower end of their difference is not above zero.

    One-sided where the leader was chosen for being ahead; equal figures are tied.
    """
    place = (1 - CONFIDENCE) / 2 * (len(leader) - 1)
    behind = np.count_nonzero(other <= leader)
    if behind <= int(place) or behind > int(place) + 1:  # as clear as most are: no need to sort
        return bool(behind > place)
    return bool(np.quantile(other - leader, (1 - CONFIDENCE) / 2) <= 0.0)
