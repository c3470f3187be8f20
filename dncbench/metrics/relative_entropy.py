"""Relative entropies of laws on a finite number of objects that are known exactly.

Draws of many objects lack some, and a relative entropy of their shares would be infinite, or that
of an arbitrary pseudo-count: for merges that are known by draws alone these metrics do not apply
(``jsd`` does). Perfect laws read 0, and there is no Monte Carlo error.
"""

import numpy as np

from dncbench.errors import DrawsError
from dncbench.metrics.sample import Figure, Sample
from dncbench.registry import register_metric


@register_metric("kl-forward", version=1, reads=("codes", "log_probs"))
def forward(approximation: Sample, reference: Sample) -> Figure:
    """Relative entropy KL(p_f || p_a) of exact laws on objects, in nats; large where p_a misses.

    Σ_x p_f(x) log(p_f(x) / p_a(x)). Not applicable to draws; infinite, which is recorded as the
    reason for no figure, where p_a rules out an object that p_f does not.
    """
    return Figure(_to_posterior(approximation, reference), 0.0)


@register_metric("kl-reverse", version=1, reads=("codes", "log_probs"))
def reverse(approximation: Sample, reference: Sample) -> Figure:
    """Relative entropy KL(p_a || p_f) of exact laws on objects, in nats; large where p_a is alone.

    Σ_x p_a(x) log(p_a(x) / p_f(x)), what variational inference minimises. Not applicable to
    draws; infinite, which is recorded as the reason for no figure, where p_f rules out an object
    that p_a does not.
    """
    return Figure(_from_posterior(approximation, reference), 0.0)


@register_metric("jeffreys", version=1, reads=("codes", "log_probs"))
def jeffreys(approximation: Sample, reference: Sample) -> Figure:
    """Jeffreys divergence KL(p_f || p_a) + KL(p_a || p_f) of exact laws on objects, in nats.

    What da Silva et al. (2024) bound by the errors of the clients (Theorem 3.4).
    """
    both = _to_posterior(approximation, reference) + _from_posterior(approximation, reference)
    return Figure(both, 0.0)


def _to_posterior(approximation: Sample, reference: Sample) -> float:
    """KL(p_f || p_a)."""
    return _relative_entropy(reference, approximation, "the merge rules out", "of the posterior")


def _from_posterior(approximation: Sample, reference: Sample) -> float:
    """KL(p_a || p_f)."""
    return _relative_entropy(approximation, reference, "the posterior rules out", "of the merge")


def _relative_entropy(first: Sample, second: Sample, rules_out: str, whose: str) -> float:
    """Σ_x p(x) (log p(x) - log q(x)), of logarithms: probabilities may be below 1e-308.

    Raises:
        DrawsError: it is infinite.
    """
    log_p, log_q = first.log_probs, second.log_probs
    assert log_p is not None
    assert log_q is not None
    there = log_p > -np.inf
    p = np.exp(log_p[there])
    excluded = np.isneginf(log_q[there])
    if excluded.any():
        raise DrawsError(
            f"it is infinite: {rules_out} {excluded.sum()} objects, which have probability "
            f"{p[excluded].sum():.3g} {whose}"
        )
    return max(float(p @ (log_p[there] - log_q[there])), 0.0)  # rounding may fall below
