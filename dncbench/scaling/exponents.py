"""Exponents of power laws, by least squares on logarithms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_POINTS = 3
"""Two points have a slope, but nothing to judge it by."""


@dataclass(frozen=True)
class Exponent:
    """The slope of log(reading) against log(value).

    Attributes:
        slope: None where a fit would mean nothing.
        standard_error: from the scatter about the line (divisor n - 2). A curve that is
            no power law has a large one too.
        num_points: n, how many readings were fitted, or could have been.
        reason: why there is no slope, or why some readings were left out; "" otherwise.
    """

    slope: float | None
    standard_error: float | None
    num_points: int
    reason: str = ""


def fit(
    values: Sequence[float], readings: Sequence[float], left_out: Sequence[str] = ()
) -> Exponent:
    """Fit reading = constant · value^slope.

    Args:
        values: above 0, all different.
        readings: above 0, one for each value.
        left_out: why other readings of the curve say nothing, each reason once.
    """
    reason, num_points = "; ".join(left_out), len(values)
    if num_points < FEWEST_POINTS:
        return Exponent(None, None, num_points, reason or "too few values")
    x, y = np.log(values), np.log(readings)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    scatter = y - y.mean() - slope * x
    variance = float(scatter @ scatter) / (num_points - 2) / float(x @ x)
    return Exponent(slope, variance**0.5, num_points, reason)
