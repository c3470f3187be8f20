"""Second moments and intervals: is the merge too narrow or too wide, in any direction?

The eigenvalues λ of V_f^(-1/2) V_a V_f^(-1/2) are the ratios of the merged variance to the
true one along the directions in which they differ most; all are 1 for a perfect merge.
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from dncbench.metrics import NUM_GROUPS, Figure, Sample, groups, jackknife_error
from dncbench.registry import register_metric

LEVELS = (0.5, 0.8, 0.95)


@register_metric("cov", version=1)
def covariance_error(approximation: Sample, reference: Sample) -> Figure:
    """Relative error of the covariance, ‖V_f^(-1/2) V_a V_f^(-1/2) - I‖_F / √d; no unit.

    Between two perfect Gaussian samples about sqrt((d + 1)(1/n_a + 1/n_f)).
    """
    return _of_ratios(approximation, reference, lambda ratio: np.sqrt(np.mean((ratio - 1) ** 2)))


@register_metric("eig-min", version=1)
def narrowest(approximation: Sample, reference: Sample) -> Figure:
    """|log λ_min|: how far off the narrowest direction's variance is; nats.

    λ_min is the smallest eigenvalue of V_f^(-1/2) V_a V_f^(-1/2).
    """
    return _of_ratios(approximation, reference, lambda ratio: abs(np.log(ratio[0])))


@register_metric("eig-max", version=1)
def widest(approximation: Sample, reference: Sample) -> Figure:
    """|log λ_max|: how far off the widest direction's variance is; nats.

    λ_max is the largest eigenvalue of V_f^(-1/2) V_a V_f^(-1/2).
    """
    return _of_ratios(approximation, reference, lambda ratio: abs(np.log(ratio[-1])))


def _of_ratios(approximation: Sample, reference: Sample, figure: object) -> Figure:
    mean, spread = reference.values.mean(0), reference.values.std(0)
    (whole_a, without_a), (whole_f, without_f) = (
        _covariances((sample.values - mean) / spread) for sample in (approximation, reference)
    )
    read = lambda a, f: float(figure(eigh(a, f, eigvals_only=True)))  # type: ignore[operator]  # noqa: E731
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
    """Mean |coverage - level| of the merge's central 50, 80 and 95% intervals; a probability.

    Coverage is the share of reference draws inside the marginal interval; the mean is
    over coordinates and levels. Too narrow a merge covers too little, a shifted one too.
    """
    tails = np.array([(1 - level) / 2 for level in LEVELS])
    ordered = np.sort(approximation.values, axis=0).T  # (d, n)
    order = np.argsort(approximation.values, axis=0, kind="stable").T
    member = _membership(len(approximation.values))

    def interval(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = (
            np.quantile(ordered, probability, axis=1, method="linear")
            for probability in (tails, 1 - tails)
        )
        return low, high  # (levels, d)

    def inside(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(NUM_GROUPS, levels, d) reference draws inside, counted by group."""
        values = reference.values
        return np.stack(
            [
                np.sum((values[rows] >= low[:, None]) & (values[rows] <= high[:, None]), axis=1)
                for rows in groups(len(values))
            ]
        )

    def error(share: np.ndarray) -> float:
        return float(np.mean(np.abs(share - np.array(LEVELS)[:, None])))

    count = inside(*interval(ordered))
    total, num = count.sum(0), len(reference.values)
    sizes = np.array([len(rows) for rows in groups(num)])
    without_f = np.array(
        [error((total - part) / (num - size)) for part, size in zip(count, sizes, strict=True)]
    )
    without_a = np.array(
        [
            error(
                inside(*interval(ordered[member[order] != g].reshape(len(ordered), -1))).sum(0)
                / num
            )
            for g in range(NUM_GROUPS)
        ]
    )
    return Figure(
        error(total / num), jackknife_error((approximation, reference), (without_a, without_f))
    )


def _membership(num_draws: int) -> np.ndarray:
    member = np.empty(num_draws, int)
    for group, rows in enumerate(groups(num_draws)):
        member[rows] = group
    return member
