"""Weights of modes that are known: those which exchangeable labels make."""

import numpy as np
from jaxtyping import Float, Int

from dncbench.metrics.sample import Figure, Sample, groups, jackknife_error
from dncbench.registry import register_metric


@register_metric("modes", version=1, reads=("values", "permutations"))
def mode_weights(approximation: Sample, reference: Sample) -> Figure:
    """Total variation between the weights of the modes that exchangeable labels make; 0 to 1.

    A draw belongs to the permutation that sorts it. Not applicable to problems without
    exchangeable labels.
    """
    assert reference.permutations is not None
    counts = [
        _counts(sample.values, reference.permutations) for sample in (approximation, reference)
    ]
    whole = [count.sum(0) / count.sum() for count in counts]
    without = [(count.sum(0) - count) / (count.sum() - count.sum(1))[:, None] for count in counts]
    distance = lambda a, f: 0.5 * np.sum(np.abs(a - f), axis=-1)  # noqa: E731
    left_out = distance(without[0], whole[1]), distance(whole[0], without[1])
    return Figure(float(distance(*whole)), jackknife_error((approximation, reference), left_out))


def _counts(values: Float[np.ndarray, "n d"], permutations: Int[np.ndarray, "G d"]) -> np.ndarray:
    """(NUM_GROUPS, G) draws of each mode, by jackknife group."""
    copies = values[:, permutations]  # (n, G, d)
    first = np.ones(copies.shape[:2], dtype=bool)
    for column in np.moveaxis(copies, -1, 0):  # the first in dictionary order is left
        smallest = np.min(np.where(first, column, np.inf), axis=1, keepdims=True)
        first &= column == smallest
    mode = np.argmax(first, axis=1)
    return np.stack(
        [np.bincount(mode[rows], minlength=len(permutations)) for rows in groups(len(values))]
    )
