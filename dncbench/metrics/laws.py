"""Laws on a finite number of objects, as samples tell them: exactly, or by shares of draws."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dncbench.metrics.sample import Figure, Sample, groups, jackknife_error

Distance = Callable[[np.ndarray, np.ndarray], Any]
"""From laws (..., K) of the approximation and of the reference to numbers (...,)."""


def figure_of(approximation: Sample, reference: Sample, distance: Distance) -> Figure:
    """A function of the two laws, with its standard error.

    A law that is known exactly is read exactly and has no error; of draws the shares are read.
    """
    objects = _objects(approximation, reference)
    p, q = (_law(sample, objects) for sample in (approximation, reference))
    drawn, left_out = [], []
    if approximation.log_probs is None:
        drawn.append(approximation)
        left_out.append(distance(_without_groups(approximation, objects), q))
    if reference.log_probs is None:
        drawn.append(reference)
        left_out.append(distance(p, _without_groups(reference, objects)))
    return Figure(float(distance(p, q)), jackknife_error(tuple(drawn), tuple(left_out)))


def _objects(*samples: Sample) -> Int[np.ndarray, " K"]:
    """In order, the codes of all objects: of all there are where that is known, or of draws."""
    known = [len(each) for s in samples for each in (s.log_probs, s.objects) if each is not None]
    every = [np.arange(max(known, default=0))]
    drawn = [sample.codes for sample in samples if sample.codes is not None]
    return np.unique(np.concatenate(every + drawn))


def _law(sample: Sample, objects: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    if sample.log_probs is not None:
        law = np.zeros(len(objects))
        law[: len(sample.log_probs)] = np.exp(sample.log_probs)  # whose codes come first
        return law
    return _counts(sample, objects).sum(0) / len(_codes(sample))


def _without_groups(
    sample: Sample, objects: Int[np.ndarray, " K"]
) -> Float[np.ndarray, "groups K"]:
    """Shares of draws with one jackknife group left out."""
    counts = _counts(sample, objects)
    others = counts.sum(0) - counts
    return others / others.sum(1, keepdims=True)


def _counts(sample: Sample, objects: Int[np.ndarray, " K"]) -> Int[np.ndarray, "groups K"]:
    """How often each group of draws holds each object."""
    place = np.searchsorted(objects, _codes(sample))
    return np.stack(
        [np.bincount(place[rows], minlength=len(objects)) for rows in groups(len(place))]
    )


def _codes(sample: Sample) -> Int[np.ndarray, " n"]:
    assert sample.codes is not None
    return sample.codes
