"""How far a merge's own density is from the posterior's: importance ratios, and ranks.

Merged draws θ come from exp(log_density), up to a constant. The ratios
p(θ given Y) / exp(log_density) at some of them show what no comparison of marginals can:
a k-hat below 0.5 says that the ratios can be reweighted, at a price that the effective share
tells, one above 0.7 that the merge misses regions which matter (Vehtari et al. 2024). Neither
says that the merge is good: a density that misses half of the mass has ratios that hardly vary
where it has draws. The rank correlation of the two log densities says whether the merge orders
its draws as the posterior does, however far apart the densities are: of objects that nobody can
list, how well it knows which of them are likely. All is read by the harness, which knows the
posterior; no method sees it.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped
from scipy.stats import spearmanr

from dncbench.draws import at_most, one

NUM_POINTS = 2_000
_AGAIN = 5  # times that a largest ratio is seen, for it to be known as the bound
_EQUAL = 1e-9  # a spread of the log ratios that is rounding alone


def importance(
    posterior: Callable, eta: Shaped[np.ndarray, "N ..."], log_density: Float[np.ndarray, " N"]
) -> dict[str, Any]:
    """What importance ratios and ranks at evenly thinned draws say.

    Args:
        posterior: log density of the full posterior, an Equinox module with a leading axis of one.
        eta: merged draws, points or codes.
        log_density: of the merge's own density at them, up to a constant.

    Returns:
        ``k_hat``, ``ess_share`` ((Σ w)² / (n Σ w²), of the smoothed weights) and
        ``points``; None for both figures where a ratio is not a number, all draws lie
        outside the posterior's support, or one outweighs all others beyond what can be fitted.
        ``rank_correlation``: Spearman's, of the two log densities; None where one of them
        is constant or not a number.
    """
    rows = at_most(len(eta), NUM_POINTS)
    own, true = log_density[rows], np.asarray(_evaluate(posterior, jnp.asarray(eta[rows])))
    return smooth(true - own)[1] | {"rank_correlation": _rank_correlation(own, true)}


def _rank_correlation(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]
) -> float | None:
    if any(np.isnan(values).any() or np.all(values == values[0]) for values in (first, second)):
        return None
    return float(spearmanr(first, second).statistic)


def smooth(
    log_ratios: Float[np.ndarray, " N"],
) -> tuple[Float[np.ndarray, " N"] | None, dict[str, Any]]:
    """Pareto-smoothed importance weights (Vehtari et al. 2024), and what they are worth.

    Args:
        log_ratios: log target - log proposal at draws of the proposal, up to a constant;
            -inf where a draw lies outside the target's support: its weight is zero.

    Returns:
        Weights that sum to one, and ``k_hat``, ``ess_share`` and ``points`` as
        :func:`importance`; None for the weights where the figures are None.
    """
    from arviz_stats.base import array_stats

    num_points = len(log_ratios)
    inside = log_ratios != -np.inf  # what is not a number counts, and is refused
    finite = log_ratios[inside]
    if not (len(finite) and np.all(np.isfinite(finite))):
        return None, {"k_hat": None, "ess_share": None, "points": num_points}
    weights = np.zeros(num_points)
    if np.ptp(finite) < _EQUAL:
        weights[inside], k_hat = 1 / len(finite), 0.0
    elif _tied(finite):
        # Objects repeat, and with them their ratios: no tail can be fitted. Where the largest was
        # seen again and again, it is the bound, and the weights need no smoothing.
        weights[inside] = np.exp(finite - finite.max())
        weights /= weights.sum()
        k_hat = 0.0 if np.sum(finite == finite.max()) >= _AGAIN else np.inf
    else:
        # Where one ratio outweighs the others by more than a float can hold, no tail fits.
        with np.errstate(divide="ignore", invalid="ignore"):
            # ArviZ takes the negative of the log ratios: it was written for cross-validation.
            smoothed, k_hat = array_stats.psislw(-finite, r_eff=1.0)
            weights[inside] = np.exp(smoothed - np.max(smoothed))
            weights /= weights.sum()
    share = 1 / (num_points * np.sum(weights**2))
    if not (np.isfinite(k_hat) and np.isfinite(share)):
        return None, {"k_hat": None, "ess_share": None, "points": num_points}
    return weights, {"k_hat": float(k_hat), "ess_share": float(share), "points": num_points}


def _tied(log_ratios: Float[np.ndarray, " N"]) -> bool:
    """Whether most of the largest ratios, to which a tail is fitted, equal others."""
    num = len(log_ratios)
    tail = np.sort(log_ratios)[-int(np.ceil(min(num / 5, 3 * num**0.5))) :]
    return bool(len(np.unique(tail)) < 0.5 * len(tail))


@eqx.filter_jit
def _evaluate(posterior: Callable, eta: Shaped[Array, "N ..."]) -> Float[Array, " N"]:
    return jax.lax.map(one(posterior), eta)
