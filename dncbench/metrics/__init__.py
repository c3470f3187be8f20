"""Metrics: how far merged draws are from reference draws, with a standard error.

A metric is a registered function of two samples; lower is better, zero is perfect.

    >>> @register_metric("worst-shift")
    ... def worst_shift(approximation: Sample, reference: Sample) -> Figure:
    ...     \"\"\"Largest difference of marginal means, in reference sds.\"\"\"
    ...     shift = approximation.values.mean(0) - reference.values.mean(0)
    ...     worst = np.max(np.abs(shift / reference.values.std(0)))
    ...     return Figure(worst, (1 / approximation.ess + 1 / reference.ess) ** 0.5)
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_GROUPS = 20
"""Groups of the delete-a-group jackknife."""


@dataclass(frozen=True)
class Sample:
    """Draws to be scored.

    Attributes:
        values: (n, d) natural parameters θ, float64.
        ess: how many independent draws they are worth, at most n.
    """

    values: Float[np.ndarray, "n d"]
    ess: float


class Figure(NamedTuple):
    """A metric's value and its Monte Carlo standard error."""

    value: float
    standard_error: float


def groups(num_draws: int) -> list[np.ndarray]:
    """Row numbers of the jackknife's groups.

    Dealt out at random (the same way every time), because rows have an order: draws of
    the shards in turn, or of a chain in time, would make the groups unlike random samples.
    """
    order = np.random.default_rng(0).permutation(num_draws)
    return [order[start::NUM_GROUPS] for start in range(NUM_GROUPS)]


def jackknife_error(
    samples: tuple[Sample, Sample], left_out: tuple[np.ndarray, np.ndarray]
) -> float:
    """Standard error of a metric from its values with one group left out.

    The jackknife variance of each sample is that of independent draws; autocorrelated
    ones are worth fewer, so it is multiplied by n / ESS.

    Args:
        samples: approximation and reference.
        left_out: for each of them, the metric's (NUM_GROUPS,) values when one group
            of that sample is left out.
    """
    variance = 0.0
    for sample, values in zip(samples, left_out, strict=True):
        jackknife = (NUM_GROUPS - 1) / NUM_GROUPS * np.sum((values - values.mean()) ** 2)
        variance += jackknife * len(sample.values) / sample.ess
    return float(np.sqrt(variance))
