"""Distances between laws on a finite number of objects."""

import numpy as np
from jaxtyping import Float, Int

from dncbench.metrics.sample import NUM_GROUPS, Figure, Sample, groups, jackknife_error
from dncbench.registry import register_metric


@register_metric("tv", version=1, reads=("codes",))
def total_variation(approximation: Sample, reference: Sample) -> Figure:
    """Total variation distance of the laws on integer-coded objects; 0 to 1.

    ½ Σ_x |p_a(x) - p_f(x)|. A law that is known exactly is read exactly; of draws the
    shares are read, which for N draws of K objects lie about ½ Σ_x sqrt(2 p(x) / (π N)) from
    their own law: the noise floor says so.
    """
    objects = _objects(approximation, reference)
    (whole_a, without_a), (whole_f, without_f) = (
        _laws(sample, objects) for sample in (approximation, reference)
    )
    distance = lambda p, q: 0.5 * np.abs(p - q).sum(-1)  # noqa: E731
    left_out = distance(without_a, whole_f), distance(whole_a, without_f)
    return Figure(
        float(distance(whole_a, whole_f)), jackknife_error((approximation, reference), left_out)
    )


def _objects(*samples: Sample) -> Int[np.ndarray, " K"]:
    """In order, all objects that one of the samples may have: those of laws, and of draws."""
    codes = [np.unique(sample.codes) for sample in samples if sample.codes is not None]
    laws = [np.arange(len(sample.law)) for sample in samples if sample.law is not None]
    return np.unique(np.concatenate(codes + laws))


def _laws(
    sample: Sample, objects: Int[np.ndarray, " K"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "groups K"]]:
    """Probabilities (K,), and (NUM_GROUPS, K) with one group of draws left out."""
    assert sample.codes is not None
    if sample.law is not None:
        law = np.zeros(len(objects))
        law[: len(sample.law)] = sample.law  # which come first
        return law, np.tile(law, (NUM_GROUPS, 1))
    place = np.searchsorted(objects, sample.codes)
    counts = np.stack(
        [np.bincount(place[rows], minlength=len(objects)) for rows in groups(len(place))]
    )
    others = counts.sum(0) - counts
    return counts.sum(0) / counts.sum(), others / others.sum(1, keepdims=True)
