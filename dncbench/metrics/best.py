"""Whether independent draws of a law would find the objects that matter most.

A user of objects often wants the best of them, not a mean. These metrics say what is to be
expected of :data:`NUM_DRAWS` independent draws of a merge: exactly, from a law that is known; of
draws, from their shares. They need the posterior's exact law, and do not apply without it.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import bdtr, bdtrc

from dncbench.errors import DrawsError
from dncbench.metrics.laws import figure_of
from dncbench.metrics.sample import Figure, Sample
from dncbench.registry import register_metric

NUM_DRAWS = 10_000
"""M, how many draws somebody is thought to make."""

BEST = 800
"""Of so many of them the log probabilities are averaged."""

MODES = 100
"""At most so many objects, and at most a tenth of all, are to be found."""

_SURELY_FULL = 1.5 * BEST / NUM_DRAWS
"""Where better objects have this probability, there are fewer than BEST with one of 1e-38."""

_MAY_MISS = 0.01  # probability with which perfect draws may miss an object that is to be found
_TIE = 1e-9  # of log probabilities
_DECIMALS = 12  # smaller probabilities of missing an object are none


@register_metric("top-log-prob", version=1, reads=("codes",))
def top_log_prob(approximation: Sample, reference: Sample) -> Figure | None:
    """Difference of the mean log probability of the best 800 of 10 000 draws, in nats.

    |T(p_a) - T(p_f)|, where T(p) is the expected mean of log p_f over those 800 of 10 000
    independent draws of p that p_f makes likeliest. Da Silva et al. (2024) report the mean log
    reward of the 800 best draws, which is that and a constant. It says whether what is found is
    good, not whether all of it is found: where one object has more than 8 % in both laws, it is
    all of the 800, and the figure 0.
    """
    log_f = reference.log_probs
    if log_f is None:
        return None
    order = np.argsort(-log_f, kind="stable")

    top = lambda law: _top_mean(log_f[order], law[..., order])  # noqa: E731
    return figure_of(approximation, reference, lambda p, q: np.abs(top(p) - top(q)))


def _top_mean(values: Float[np.ndarray, " K"], law: Float[np.ndarray, "*G K"]) -> Any:
    """Expected mean of the BEST largest values of NUM_DRAWS draws.

    The number N_j of draws among the first j objects is binomial, and those of the BEST that are
    object j are min(BEST, N_j) - min(BEST, N_{j-1}).

    Args:
        values: of the objects, in decreasing order.
        law: probabilities of the objects, in that order.

    Raises:
        DrawsError: it is minus infinity.
    """
    upto = np.minimum(np.cumsum(law, axis=-1), 1.0)
    before = np.concatenate([np.zeros_like(upto[..., :1]), upto[..., :-1]], axis=-1)
    matters = before < _SURELY_FULL
    places = int(np.max(matters.sum(-1)))
    # E[N; N < k] = M F P(Bin(M - 1, F) < k - 1)
    upto, matters = upto[..., :places], matters[..., :places]
    expected = NUM_DRAWS * upto * bdtr(BEST - 2, NUM_DRAWS - 1, upto)
    expected += BEST * bdtrc(BEST - 1, NUM_DRAWS, upto)
    often = np.where(matters, np.diff(expected, prepend=0.0, axis=-1), 0.0)
    possible = np.isfinite(values[:places])
    if np.any(often[..., ~possible]):
        raise DrawsError(
            f"it is infinite: the best {BEST} of {NUM_DRAWS} draws may hold objects that the "
            "posterior rules out"
        )
    return often[..., possible] @ values[:places][possible] / BEST


@register_metric("modes-missed", version=1, reads=("codes",))
def modes_missed(approximation: Sample, reference: Sample) -> Figure | None:
    """Share of the most probable objects that 10 000 draws are expected to miss; 0 to 1.

    (1/k) Σ_j max(0, (1 - p_a(x_j))^M - (1 - p_f(x_j))^M) with M = 10 000, over the objects that
    are to be found: the 100 likeliest under p_f, a tenth of all where that is less, with those
    that tie, but none that M perfect draws miss with a probability above 1 %. Not applicable
    where that leaves no object. Of fewer than M draws an object that was not drawn counts as
    missed: the noise floor says how many of them perfect draws miss.
    """
    if reference.log_probs is None:
        return None
    modes = _modes(reference.log_probs)
    if not len(modes):
        return None

    def missed(law: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # an object that is certain
            return np.exp(NUM_DRAWS * np.log1p(-np.minimum(law[..., modes], 1.0)))

    def excess(p: np.ndarray, q: np.ndarray) -> Any:
        return np.maximum(missed(p) - missed(q), 0.0).mean(-1).round(_DECIMALS)

    return figure_of(approximation, reference, excess)


def _modes(log_probs: Float[np.ndarray, " K"]) -> np.ndarray:
    """Codes of the objects that are to be found."""
    most = min(MODES, max(len(log_probs) // 10, 1))
    last = np.sort(log_probs)[-most]
    found = np.log(-np.expm1(np.log(_MAY_MISS) / NUM_DRAWS))  # log p where (1 - p)^M is that
    return np.flatnonzero(log_probs >= max(last - _TIE, found))
