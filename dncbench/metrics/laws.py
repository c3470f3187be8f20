"""Laws on a finite number of objects, as samples tell them: exactly, or by shares of draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from dncbench.metrics.sample import Figure, Sample, groups, jackknife_error

Distance = Callable[[np.ndarray, np.ndarray], Any]
"""From laws (..., K) of the approximation and of the reference to numbers (...,)."""


def figure_of(approximation: Sample, reference: Sample, distance: Distance) -> Figure:
    """A function of the two laws, with its standard error.

    A law that is known exactly is read exactly and has no error; of draws the shares are read.
    """
    size = max(map(_num_objects, (approximation, reference)))
    p, q = (_law(sample, size) for sample in (approximation, reference))
    drawn, left_out = [], []
    if approximation.log_probs is None:
        drawn.append(approximation)
        left_out.append(distance(_without_groups(approximation, size), q))
    if reference.log_probs is None:
        drawn.append(reference)
        left_out.append(distance(p, _without_groups(reference, size)))
    return Figure(float(distance(p, q)), jackknife_error(tuple(drawn), tuple(left_out)))


def _num_objects(sample: Sample) -> int:
    for known in (sample.log_probs, sample.objects):
        if known is not None:
            return len(known)
    assert sample.codes is not None
    return int(sample.codes.max()) + 1


def _law(sample: Sample, size: int) -> Float[np.ndarray, " K"]:
    if sample.log_probs is not None:
        return np.pad(np.exp(sample.log_probs), (0, size - len(sample.log_probs)))
    assert sample.codes is not None
    return np.bincount(sample.codes, minlength=size) / len(sample.codes)


def _without_groups(sample: Sample, size: int) -> Float[np.ndarray, "groups K"]:
    """Shares of draws with one jackknife group left out."""
    assert sample.codes is not None
    counts = np.stack(
        [np.bincount(sample.codes[rows], minlength=size) for rows in groups(len(sample.codes))]
    )
    others = counts.sum(0) - counts
    return others / others.sum(1, keepdims=True)
