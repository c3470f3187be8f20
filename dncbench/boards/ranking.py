"""Ranks that say how sure they are: paired bootstrap over splits.

All methods see the same splits, so a resample takes the same splits for all of them, and
what makes a split hard drops out of comparisons. Five splits are few: a bootstrap of n
means has too small a spread by sqrt((n - 1) / n), and normal quantiles where Student's t
are due. Both are put right by one factor, exact for normal figures. Two splits say too
little about their spread; then, as always, the figures' own Monte Carlo errors are added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student_t

CONFIDENCE = 0.95
NUM_RESAMPLES = 4_000

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
            the others and what cannot be told from that, and so on.
    """

    rank: tuple[int, int]
    group: int


def resample(figures: Figures, seed: int = 0) -> Resampled:
    """Paired bootstrap over the splits that all methods have.

    A method that lacks a split which most others have is left out rather than compared on
    other terms.

    Args:
        figures: see :data:`Figures`.
        seed: of the resampling; the same figures always give the same result.
    """
    everywhere = _common(figures)
    names = tuple(sorted(name for name in figures if everywhere <= set(figures[name])))
    splits = sorted(everywhere, key=repr)
    if not splits or not names:
        return Resampled((), np.empty(0), np.empty((NUM_RESAMPLES, 0)))
    pairs = np.array([[figures[name][split] for split in splits] for name in names])
    values, errors = pairs[..., 0], pairs[..., 1]
    number = len(splits)
    centre = values.mean(1)
    rng = np.random.default_rng(seed)
    means = np.tile(centre, (NUM_RESAMPLES, 1))
    if number > 2:
        chosen = rng.integers(number, size=(NUM_RESAMPLES, number))
        deviations = values[:, chosen].mean(-1).T - centre
        means = means + _widening(number) * deviations
    noise = np.sqrt(np.sum(errors**2, 1)) / number
    means = means + noise * rng.standard_normal(means.shape)
    return Resampled(names, centre, means)


def _common(figures: Figures) -> set[object]:
    """The splits that more than half of the methods have."""
    counts: dict[object, int] = {}
    for by_split in figures.values():
        for split in by_split:
            counts[split] = counts.get(split, 0) + 1
    return {split for split, count in counts.items() if 2 * count > len(figures)}


def _widening(number: int) -> float:
    quantile = 0.5 + CONFIDENCE / 2
    student = student_t.ppf(quantile, number - 1) / norm.ppf(quantile)
    return float(student * np.sqrt(number / (number - 1)))


def standings(resampled: Resampled) -> dict[str, Standing]:
    """Rank intervals and tie groups of all methods of a resampling."""
    if not resampled.names:
        return {}
    ranks = 1 + np.argsort(np.argsort(resampled.means, axis=1, kind="stable"), axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0, method="inverted_cdf")
    groups = _groups(resampled)
    return {
        name: Standing((int(low[m]), int(high[m])), groups[m])
        for m, name in enumerate(resampled.names)
    }


def _groups(resampled: Resampled) -> dict[int, int]:
    left = sorted(range(len(resampled.names)), key=lambda m: resampled.centre[m])
    groups: dict[int, int] = {}
    number = 0
    while left:
        number += 1
        best = left[0]
        gaps = resampled.means[:, left] - resampled.means[:, [best]]
        # One-sided where the leader was chosen for being ahead; equal figures are tied.
        tied = np.quantile(gaps, (1 - CONFIDENCE) / 2, axis=0) <= 0.0
        groups |= {m: number for m, together in zip(left, tied, strict=True) if together}
        left = [m for m in left if m not in groups]
    return groups
