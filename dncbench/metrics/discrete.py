"""Distances between laws on a finite number of objects that draws have as well."""

from typing import Any

import numpy as np
from scipy.special import rel_entr

from dncbench.metrics.laws import figure_of
from dncbench.metrics.sample import Figure, Sample
from dncbench.registry import register_metric


@register_metric("tv", version=1, reads=("codes",))
def total_variation(approximation: Sample, reference: Sample) -> Figure:
    """Total variation distance of the laws on integer-coded objects; 0 to 1.

    ½ Σ_x |p_a(x) - p_f(x)|. A law that is known exactly is read exactly; of draws the
    shares are read, which for N draws of K objects lie about ½ Σ_x sqrt(2 p(x) / (π N)) from
    their own law: the noise floor says so.
    """
    return figure_of(approximation, reference, lambda p, q: 0.5 * np.abs(p - q).sum(-1))


@register_metric("l1", version=1, reads=("codes",))
def l1_distance(approximation: Sample, reference: Sample) -> Figure:
    """L1 distance of the laws on integer-coded objects, twice the total variation; 0 to 2.

    Σ_x |p_a(x) - p_f(x)|, in which da Silva et al. (2024) report.
    """
    return figure_of(approximation, reference, lambda p, q: np.abs(p - q).sum(-1))


@register_metric("jsd", version=1, reads=("codes",))
def jensen_shannon(approximation: Sample, reference: Sample) -> Figure:
    """Jensen-Shannon divergence of the laws on integer-coded objects, in nats; 0 to log 2.

    ½ KL(p_a || m) + ½ KL(p_f || m) with m = ½ (p_a + p_f). It is finite where one law lacks an
    object of the other, and so can be read of draws, by their shares.
    """
    return figure_of(approximation, reference, _jensen_shannon)


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> Any:
    middle = 0.5 * (p + q)
    both = rel_entr(p, middle) + rel_entr(q, middle)
    return np.maximum(0.5 * both.sum(-1), 0.0)  # rounding may fall below


@register_metric("marginal-tv", version=1, reads=("codes", "objects"))
def marginal_total_variation(approximation: Sample, reference: Sample) -> Figure:
    """Mean over coordinates of the total variation of marginal laws of objects; 0 to 1.

    (1/p) Σ_j ½ Σ_v |P_a(x_j = v) - P_f(x_j = v)|, v going over all values that coordinate j of
    the objects' points takes. What ``iad`` is to densities, without a kernel that would smooth
    whole numbers; for coordinates of two values the mean difference of their probabilities. Laws
    with the same marginals may have nothing else in common: read ``tv`` beside it.
    """
    assert reference.objects is not None
    marginals = []
    for column in reference.objects.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        marginals.append((order, first))

    def distance(p: np.ndarray, q: np.ndarray) -> Any:
        gap = p - q
        each = [
            np.abs(np.add.reduceat(gap[..., order], first, axis=-1)).sum(-1)
            for order, first in marginals
        ]
        return 0.5 * np.mean(each, axis=0)

    return figure_of(approximation, reference, distance)
