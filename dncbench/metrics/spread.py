"""Second moments and intervals: is the merge too narrow or too wide, in any direction?

The eigenvalues λ of V_f^(-1/2) V_a V_f^(-1/2) are the ratios of the merged variance to the
true one along the directions in which they differ most; all are 1 for a perfect merge.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh

from dncbench.metrics.sample import NUM_GROUPS, Figure, Sample, groups, jackknife_error
from dncbench.registry import register_metric

LEVELS = (0.5, 0.8, 0.95)


@register_metric("cov", version=1, moments=2)
def covariance_error(approximation: Sample, reference: Sample) -> Figure:
    """Relative error of the covariance, ‖V_f^(-1/2) V_a V_f^(-1/2) - I‖_F / √d; no unit.

    Between two perfect Gaussian samples about sqrt((d + 1)(1/n_a + 1/n_f)).
    """
    return _of_ratios(approximation, reference, lambda ratio: np.sqrt(np.mean((ratio - 1) ** 2)))


@register_metric("eig-min", version=1, moments=2)
def narrowest(approximation: Sample, reference: Sample) -> Figure:
    """|log λ_min|: how far off the narrowest direction's variance is; nats.

    λ_min is the smallest eigenvalue of V_f^(-1/2) V_a V_f^(-1/2).
    """
    return _of_ratios(approximation, reference, lambda ratio: abs(np.log(ratio[0])))


@register_metric("eig-max", version=1, moments=2)
def widest(approximation: Sample, reference: Sample) -> Figure:
    """|log λ_max|: how far off the widest direction's variance is; nats.

    λ_max is the largest eigenvalue of V_f^(-1/2) V_a V_f^(-1/2).
    """
    return _of_ratios(approximation, reference, lambda ratio: abs(np.log(ratio[-1])))


def _of_ratios(
    approximation: Sample, reference: Sample, figure: Callable[[np.ndarray], float]
) -> Figure:
    mean, spread = reference.values.mean(0), reference.values.std(0)
    (whole_a, without_a), (whole_f, without_f) = (
        _covariances((sample.values - mean) / spread) for sample in (approximation, reference)
    )
    read = lambda a, f: float(figure(eigh(a, f, eigvals_only=True)))  # noqa: E731
    left_out = (
        np.array([read(part, whole_f) for part in without_a]),
        np.array([read(whole_a, part) for part in without_f]),
    )
    return Figure(read(whole_a, whole_f), jackknife_error((approximation, reference), left_out))


def _covariances(values: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
    """Covariance (d, d), and (NUM_GROUPS, d, d) with one group left out."""
    values = values - values.mean(0)
    sums = np.stack([values[rows].sum(0) for rows in groups(len(values))])
    squares = np.stack([values[rows].T @ values[rows] for rows in groups(len(values))])
    sizes = np.array([len(rows) for rows in groups(len(values))])

    def covariance(square: np.ndarray, total: np.ndarray, size: np.ndarray | int) -> np.ndarray:
        scale = np.asarray(size)[..., None, None]
        return (square - total[..., :, None] * total[..., None, :] / scale) / (scale - 1)

    return (
        covariance(squares.sum(0), sums.sum(0), len(values)),
        covariance(squares.sum(0) - squares, sums.sum(0) - sums, len(values) - sizes),
    )


@register_metric("coverage", version=1)
def coverage_error(approximation: Sample, reference: Sample) -> Figure:
    """Mean error of the coverage of the merge's central 50, 80 and 95% intervals; a probability.

    The share of reference draws inside a marginal interval against that of merged draws,
    in absolute value, over coordinates and levels. Too narrow a merge covers too little,
    a shifted one too.
    """
    ordered, order = np.sort(approximation.values, 0).T, np.argsort(approximation.values, 0).T
    member = _membership(len(approximation.values))[order]
    counts_a, counts_f = (
        _inside(sample.values, *_intervals(ordered)) for sample in (approximation, reference)
    )
    sizes_a, sizes_f = (
        np.array([len(rows) for rows in groups(len(sample.values))])[:, None, None]
        for sample in (approximation, reference)
    )
    share_a = counts_a.sum(0) / sizes_a.sum()
    share_f = counts_f.sum(0) / sizes_f.sum()
    others_f = (counts_f.sum(0) - counts_f) / (sizes_f.sum() - sizes_f)
    error = lambda f, a: np.mean(np.abs(f - a), axis=(-2, -1))  # noqa: E731
    without_a = []
    for group in range(NUM_GROUPS):
        intervals = _intervals(ordered[member != group].reshape(len(ordered), -1))
        inside_f = _inside(reference.values, *intervals).sum(0) / sizes_f.sum()
        without_a.append(error(inside_f, share_a))
    left_out = np.array(without_a), error(others_f, share_a)
    return Figure(
        float(error(share_f, share_a)), jackknife_error((approximation, reference), left_out)
    )


def _intervals(ordered: Float[np.ndarray, "d n"]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends, (levels, d) each."""
    tails = (1 - np.array(LEVELS)) / 2
    return np.quantile(ordered, tails, axis=1), np.quantile(ordered, 1 - tails, axis=1)


def _inside(
    values: Float[np.ndarray, "n d"],
    low: Float[np.ndarray, "levels d"],
    high: Float[np.ndarray, "levels d"],
) -> Int[np.ndarray, "groups levels d"]:
    """How many draws lie inside, by jackknife group."""
    return np.stack(
        [
            np.sum((values[rows] >= low[:, None]) & (values[rows] <= high[:, None]), axis=1)
            for rows in groups(len(values))
        ]
    )


def _membership(num_draws: int) -> np.ndarray:
    member = np.empty(num_draws, int)
    for group, rows in enumerate(groups(num_draws)):
        member[rows] = group
    return member
