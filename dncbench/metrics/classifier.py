"""Classifier two-sample test: can anybody tell merged draws from true ones?"""

import numpy as np

from dncbench.metrics.sample import Figure, Sample, groups
from dncbench.registry import register_metric

_FOLDS = 5


@register_metric("c2st", version=1)
def classifier_two_sample(approximation: Sample, reference: Sample) -> Figure:
    """|2 · accuracy - 1| of a quadratic classifier told merged from true draws; 0 to 1.

    Lopez-Paz & Oquab (2017), with scikit-learn's quadratic discriminant analysis, whose
    decision function has all products of two coordinates as features, on five
    held-out folds. 0 is guessing, 1 is certainty.
    """
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    mean, spread = reference.values.mean(0), reference.values.std(0)
    samples = [(sample.values - mean) / spread for sample in (approximation, reference)]
    right = [np.zeros(len(values)) for values in samples]
    for fold in range(_FOLDS):
        held_out = [np.concatenate(groups(len(values))[fold::_FOLDS]) for values in samples]
        kept = [
            np.delete(values, rows, axis=0) for values, rows in zip(samples, held_out, strict=True)
        ]
        model = QuadraticDiscriminantAnalysis(priors=[0.5, 0.5])
        model.fit(np.concatenate(kept), np.repeat([0, 1], [len(values) for values in kept]))
        for label, (values, rows) in enumerate(zip(samples, held_out, strict=True)):
            right[label][rows] = model.predict(values[rows]) == label
    shares = [part.mean() for part in right]
    # Accuracy is the mean of two binomial shares; its doubling doubles their errors.
    variance = sum(
        max(share * (1 - share), 1 / len(part)) / sample.ess
        for share, part, sample in zip(shares, right, (approximation, reference), strict=True)
    )
    return Figure(float(abs(sum(shares) - 1)), float(np.sqrt(variance)))
