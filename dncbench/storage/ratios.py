"""What the importance ratios of a record say of its merge's own density."""

from typing import Any

UNTRUSTED = 0.7
"""A Pareto k-hat above it says that the merge misses regions that matter (Vehtari et al. 2024)."""

EQUAL_SHARE = 0.99
"""An effective share above which the ratios are equal to all purposes, whatever k-hat is."""

LOW_SHARE = 0.9
"""An effective share below which the merge's density is visibly off, whatever k-hat is.

From it on a second round keeps the first one's surrogate. Of Gaussians of one covariance it is
exp(-δ²) at a Mahalanobis distance δ: 0.9 at 0.32.
"""


def misses_posterior(ratios: dict[str, Any] | None) -> bool:
    """Whether no reweighting can put the density right: k-hat is too large, or is no number.

    False where there are no ratios. k-hat tells the shape of the ratios' tail, whatever their size:
    where they hardly vary at all it says nothing.
    """
    if ratios is None:
        return False
    if ratios["k_hat"] is None:
        return True
    return bool(ratios["k_hat"] > UNTRUSTED and ratios["ess_share"] <= EQUAL_SHARE)
