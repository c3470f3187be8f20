"""Classifier two-sample test: can anybody tell merged draws from true ones?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dncbench.metrics.sample import Figure, Sample, groups
from dncbench.registry import register_metric

_FOLDS = 5
# Variance below which no direction can be told from rounding, in units of the reference's
# coordinates. Added to every variance, it changes none above 1e-5 in its last bit.
_ROUNDING = 1e-22


@register_metric("c2st", version=1)
def classifier_two_sample(approximation: Sample, reference: Sample) -> Figure:
    """|2 · accuracy - 1| of a quadratic classifier told merged from true draws; 0 to 1.

    Lopez-Paz & Oquab (2017), with quadratic discriminant analysis, whose decision function
    has all products of two coordinates as features, on five held-out folds. 0 is guessing,
    1 is certainty. Affine maps of the coordinates do not change it, nor does a
    coordinate that is a linear function of others.
    """
    mean, spread = reference.values.mean(0), reference.values.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    samples = [(sample.values - mean) / spread for sample in (approximation, reference)]
    right = [np.zeros(len(values)) for values in samples]
    for fold in range(_FOLDS):
        held_out = [np.concatenate(groups(len(values))[fold::_FOLDS]) for values in samples]
        laws = [
            _Normal.of(np.delete(values, rows, axis=0))
            for values, rows in zip(samples, held_out, strict=True)
        ]
        for label, (values, rows) in enumerate(zip(samples, held_out, strict=True)):
            merged, true = (law.log_density(values[rows]) for law in laws)
            right[label][rows] = (true > merged) == label
    shares = [part.mean() for part in right]
    # Accuracy is the mean of two binomial shares; its doubling doubles their errors.
    variance = sum(
        max(share * (1 - share), 1 / len(part)) / sample.ess
        for share, part, sample in zip(shares, right, (approximation, reference), strict=True)
    )
    return Figure(float(abs(sum(shares) - 1)), float(np.sqrt(variance)))


class _Normal(NamedTuple):
    """A normal law; ``whitening`` maps what is centred to unit covariance."""

    mean: Float[np.ndarray, " d"]
    whitening: Float[np.ndarray, "d d"]
    log_determinant: float

    @classmethod
    def of(cls, values: Float[np.ndarray, "n d"]) -> "_Normal":
        """The law with the draws' mean and covariance.

        Singular values of the draws, not eigenvalues of their covariance, keep all digits
        of a direction that is 1e8 times narrower than another.
        """
        mean = values.mean(0)
        missing = max(values.shape[1] - len(values), 0)  # rows, for a basis of all directions
        centred = np.pad(values - mean, ((0, missing), (0, 0)))
        _, singular, directions = np.linalg.svd(centred, full_matrices=False)
        variance = singular**2 / len(values) + _ROUNDING
        return cls(mean, directions.T * variance**-0.5, float(np.sum(np.log(variance))))

    def log_density(self, values: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """At each of the points, up to a constant."""
        white = (values - self.mean) @ self.whitening
        return -0.5 * (np.sum(white**2, axis=1) + self.log_determinant)
