"""Joint metrics by sums over pairs of draws: MMD, energy distance, kernel Stein discrepancy.

All are V-statistics in coordinates whitened by the reference. Pairs are summed group by
group, so that leaving a group out for the jackknife costs nothing.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dncbench.draws import at_most
from dncbench.metrics.sample import Figure, Sample, groups, jackknife_error, whitened
from dncbench.registry import register_metric

_BANDWIDTH_DRAWS = 1_000
_STEIN_POINTS = 2_000


@register_metric("mmd", version=1, moments=2)
def maximum_mean_discrepancy(approximation: Sample, reference: Sample) -> Figure:
    """Maximum mean discrepancy (Gretton et al. 2012) after whitening; 0 to √2, no unit.

    Gaussian kernel exp(-|x - y|² / 2h²), h the median distance between reference draws:
    the same for every method.
    """
    within_a, within_f, between = (both[0] for both in _all_pairs(approximation, reference))
    return _root(within_a, within_f, between, 1.0, (approximation, reference))


@register_metric("energy", version=1, moments=2)
def energy_distance(approximation: Sample, reference: Sample) -> Figure:
    """Energy distance sqrt(2 E|x - y| - E|x - x'| - E|y - y'|) after whitening; √ posterior sds.

    Székely & Rizzo (2013). Zero for equal distributions alone; no bandwidth to choose.
    """
    within_a, within_f, between = (both[1] for both in _all_pairs(approximation, reference))
    return _root(within_a, within_f, between, -1.0, (approximation, reference))


@register_metric("ksd", version=1, reads=("eta", "score"), moments=2)
def kernel_stein_discrepancy(approximation: Sample, reference: Sample) -> Figure:
    """Kernel Stein discrepancy in excess of the reference's own, √|KSD_a² - KSD_f²|; no unit.

    Gorham & Mackey (2017): inverse multiquadric kernel (1 + |x - y|²)^(-1/2) in
    unconstrained coordinates whitened by the reference, with the score of the full
    posterior, at 2000 evenly thinned draws. The reference only tells what perfect draws
    read. Blind to the weights of separate modes. Not applicable where natural
    parameters were merged.
    """
    a, f = (_stein_pairs(sample, reference) for sample in (approximation, reference))
    left_out = (
        np.sqrt(np.abs(a.without_rows_and_columns() - f.mean())),
        np.sqrt(np.abs(a.mean() - f.without_rows_and_columns())),
    )
    # The points are the sample here: they are worth what the draws are, at most their number.
    points = tuple(
        Sample(values, min(sample.ess, len(values)))
        for sample in (approximation, reference)
        for values in [sample.values[_stein_rows(sample)]]
    )
    value = float(np.sqrt(np.abs(a.mean() - f.mean())))
    return Figure(value, jackknife_error(points, left_out))


# ---------------------------------------------------------------- pairs, by group


class _Pairs(NamedTuple):
    """Sums of a kernel over pairs of draws.

    Attributes:
        sums: (NUM_GROUPS, NUM_GROUPS), by group of the first and of the second draw.
        rows: (NUM_GROUPS,) sizes of the first sample's groups.
        columns: those of the second's.
    """

    sums: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def mean(self) -> float:
        return float(self.sums.sum() / (self.rows.sum() * self.columns.sum()))

    def without_rows(self) -> np.ndarray:
        """(NUM_GROUPS,) means with one group of the first sample left out."""
        left = self.rows.sum() - self.rows
        return (self.sums.sum() - self.sums.sum(1)) / (left * self.columns.sum())

    def without_columns(self) -> np.ndarray:
        return _Pairs(self.sums.T, self.columns, self.rows).without_rows()

    def without_rows_and_columns(self) -> np.ndarray:
        """Both samples are one, which loses a group."""
        gone = self.sums.sum(0) + self.sums.sum(1) - np.diag(self.sums)
        return (self.sums.sum() - gone) / (self.rows.sum() - self.rows) ** 2


def _root(
    within_a: _Pairs,
    within_f: _Pairs,
    between: _Pairs,
    sign: float,
    samples: tuple[Sample, Sample],
) -> Figure:
    """sqrt(E k(x, x') + E k(y, y') - 2 E k(x, y)), k the summed kernel times ``sign``."""
    a, f, both = within_a.mean(), within_f.mean(), between.mean()
    root = lambda square: np.sqrt(np.maximum(sign * square, 0.0))  # noqa: E731
    left_out = (
        root(within_a.without_rows_and_columns() + f - 2 * between.without_rows()),
        root(a + within_f.without_rows_and_columns() - 2 * between.without_columns()),
    )
    return Figure(float(root(a + f - 2 * both)), jackknife_error(samples, left_out))


# One cell's pairs serve both metrics; a reference's are summed once for all cells.
@functools.lru_cache(maxsize=1)
def _all_pairs(approximation: Sample, reference: Sample) -> tuple[tuple[_Pairs, _Pairs], ...]:
    a, f = (_by_group(values) for values in whitened(approximation.values, reference.values))
    bandwidth = _bandwidth(reference)
    return _pairs(a, a, bandwidth), _reference_pairs(reference), _pairs(a, f, bandwidth)


@functools.lru_cache(maxsize=8)
def _reference_pairs(reference: Sample) -> tuple[_Pairs, _Pairs]:
    f = _by_group(whitened(reference.values, reference.values)[1])
    return _pairs(f, f, _bandwidth(reference))


@functools.lru_cache(maxsize=8)
def _bandwidth(reference: Sample) -> float:
    values = whitened(reference.values, reference.values)[1]
    some = values[at_most(len(values), _BANDWIDTH_DRAWS)]
    distance = _squared_distances(some, some)
    return float(np.sqrt(np.median(distance[np.triu_indices(len(some), 1)])))


def _by_group(values: Float[np.ndarray, "n d"]) -> list[np.ndarray]:
    # Single precision: of 1e8 terms each is off by about 1e-6, in no common direction.
    return [values[rows].astype(np.float32) for rows in groups(len(values))]


def _pairs(
    first: list[np.ndarray], second: list[np.ndarray], bandwidth: float
) -> tuple[_Pairs, _Pairs]:
    """Sums of the Gaussian kernel and of the distance."""
    kernel, distance = np.empty((2, len(first), len(second)))
    everything = np.concatenate(second)
    sizes = [np.array([len(part) for part in parts]) for parts in (first, second)]
    starts = np.concatenate([[0], np.cumsum(sizes[1])[:-1]])
    for row, part in enumerate(first):
        squared = _squared_distances(part, everything)
        for sums, values in (
            (kernel, np.exp(squared * np.float32(-0.5 / bandwidth**2))),
            (distance, np.sqrt(squared)),
        ):
            sums[row] = np.add.reduceat(values.sum(0, dtype=np.float64), starts)
    return _Pairs(kernel, *sizes), _Pairs(distance, *sizes)


def _squared_distances(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    squares = np.sum(first**2, 1)[:, None] + np.sum(second**2, 1)
    return np.maximum(squares - 2 * first @ second.T, 0)


# ---------------------------------------------------------------- Stein


def _stein_rows(sample: Sample) -> np.ndarray:
    num_draws = len(sample.values)
    return at_most(num_draws, _STEIN_POINTS)


@functools.lru_cache(maxsize=8)
def _stein_pairs(sample: Sample, reference: Sample) -> _Pairs:
    """Sums of the Stein kernel of the inverse multiquadric at a sample's thinned draws."""
    assert sample.eta is not None
    assert reference.eta is not None
    assert reference.score is not None
    mean, spread = reference.eta.mean(0), reference.eta.std(0)
    standard = (reference.eta - mean) / spread
    factor = spread[:, None] * np.linalg.cholesky(np.cov(standard.T).reshape(len(mean), -1))
    points = sample.eta[_stein_rows(sample)]
    x = np.linalg.solve(factor, (points - mean).T).T
    score = reference.score(points) @ factor
    squared = _squared_distances(x, x)
    base = 1 / (1 + squared)
    # (s(x) - s(y))·(x - y), from ∇_x k = -(x - y) base^1.5 and ∇_y k = -∇_x k.
    along = np.sum(score * x, 1)
    towards = along[:, None] + along - score @ x.T - x @ score.T
    kernel = (
        (score @ score.T) * base**0.5
        + towards * base**1.5
        + x.shape[1] * base**1.5
        - 3 * squared * base**2.5
    )
    rows = groups(len(x))
    sums = np.array([[kernel[np.ix_(one, other)].sum() for other in rows] for one in rows])
    sizes = np.array([len(one) for one in rows])
    return _Pairs(sums, sizes, sizes)
