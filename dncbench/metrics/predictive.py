"""How well draws predict observations that no shard has seen."""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from dncbench.metrics.sample import Figure, Sample, groups, jackknife_error
from dncbench.registry import register_metric


@register_metric("log-predictive", version=1, reads=("predictions",), log=True)
def log_predictive(approximation: Sample, reference: Sample) -> Figure:
    """Minus the mean held-out log predictive density, nats an observation; lower is better.

    -(1/m) Σ_j log (1/n) Σ_i p(y_j given θ_i) over m held-out observations. It needs no
    reference, and has no zero: what perfect draws read stands beside it, and what a merge
    reads above that is its loss. The observations are those of the problem, so that the
    standard error is that of the draws alone.
    """
    predictions = approximation.predictions
    assert predictions is not None
    rows = groups(len(predictions))
    sums = np.stack([logsumexp(predictions[members], axis=0) for members in rows])
    sizes = [len(members) for members in rows]
    everything = logsumexp(sums, axis=0)
    without = [
        _loss(logsumexp(np.delete(sums, group, axis=0), axis=0), len(predictions) - size)
        for group, size in enumerate(sizes)
    ]
    value = _loss(everything, len(predictions))
    return Figure(value, jackknife_error((approximation,), (np.array(without),)))


def _loss(summed: Float[np.ndarray, " m"], num_draws: int) -> float:
    return float(-np.mean(summed - np.log(num_draws)))
