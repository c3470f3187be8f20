"""Metrics: how far merged draws are from reference draws, with a standard error.

A metric is a registered function of two samples; lower is better, zero is perfect. What it
reads is said at registration; it is not applicable where a sample lacks that.

    >>> @register_metric("worst-shift")
    ... def worst_shift(approximation: Sample, reference: Sample) -> Figure:
    ...     \"\"\"Largest difference of marginal means, in reference sds.\"\"\"
    ...     shift = approximation.values.mean(0) - reference.values.mean(0)
    ...     worst = np.max(np.abs(shift / reference.values.std(0)))
    ...     return Figure(worst, (1 / approximation.ess + 1 / reference.ess) ** 0.5)
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular

from dncbench.entry import Entry
from dncbench.errors import ContractError, DncbenchError, DrawsError
from dncbench.undisturbed import undisturbed

NUM_GROUPS = 20
"""Groups of the delete-a-group jackknife."""

_DEPENDENT = 1e-7  # of singular values: the root of the rounding errors of a covariance


@dataclass(frozen=True, eq=False)
class Sample:
    """Draws to be scored.

    Attributes:
        values: (n, d) natural parameters θ, or whatever points the draws stand for, float64.
        ess: how many independent draws they are worth, at most n.
        eta: (n, d) the same in unconstrained coordinates; None where natural
            parameters were merged, which need not lie where the posterior does.
        score: gradient (m, d) of the full posterior's log density at points η (m, d).
        permutations: (G, d) permutations of the coordinates that leave the posterior as
            it is; None where there are none.
        codes: (n,) draws that are integer-coded objects; None for others.
        log_probs: (K,) exact log probabilities of all K objects, where they are known; None
            else.
        predictions: (n, m) log density of each held-out observation under each draw; None
            where nothing is held out.
        objects: (K, p) points that all K objects stand for, where they can be enumerated; None
            else.
    """

    values: Float[np.ndarray, "n d"]
    ess: float
    eta: Float[np.ndarray, "n d"] | None = None
    score: Callable[[np.ndarray], np.ndarray] | None = None
    permutations: Int[np.ndarray, "G d"] | None = None
    codes: Int[np.ndarray, " n"] | None = None
    log_probs: Float[np.ndarray, " K"] | None = None
    predictions: Float[np.ndarray, "n m"] | None = None
    objects: Float[np.ndarray, "K p"] | None = None


READABLE = tuple(field.name for field in dataclasses.fields(Sample))
"""What a metric may say that it reads."""


class Figure(NamedTuple):
    """A metric's value and its Monte Carlo standard error."""

    value: float
    standard_error: float


def read(
    entry: Entry, approximation: Sample, reference: Sample, lenient: bool = False
) -> Figure | None:
    """The metric's figure; None where the samples do not have what it reads.

    Args:
        entry: of the metric, its target imported.
        approximation, reference: samples.
        lenient: None as well where a covariance is singular.

    Raises:
        DrawsError: it has no value because of the draws: coordinates that depend on others.
        ContractError: it raised, or returned anything else.
    """
    unknown = sorted(set(entry.reads) - set(READABLE))
    if unknown:
        raise _broken(entry, f"reads {', '.join(unknown)}; a Sample has {', '.join(READABLE)}")
    if any(getattr(s, name) is None for s in (approximation, reference) for name in entry.reads):
        return None
    try:
        # What is not finite is told as such.
        with undisturbed(_to_stderr(entry)), np.errstate(all="ignore"):
            figure = entry.target(approximation, reference)
            if figure is not None and isinstance(figure, Figure):
                figure = Figure(float(figure.value), float(figure.standard_error))
    except DncbenchError:
        raise
    except Exception as error:
        singular = isinstance(error, np.linalg.LinAlgError)
        if singular and lenient:
            return None
        reason = _degenerate(approximation, reference)
        if reason:
            raise DrawsError(f"metric {entry.name!r} has no value: {reason}") from error
        first_line = str(error).partition("\n")[0]
        raise _broken(entry, f"raised {type(error).__name__}: {first_line}") from error
    if figure is not None and not isinstance(figure, Figure):
        raise _broken(entry, f"returned {type(figure).__name__}")
    return figure


def _to_stderr(entry: Entry) -> Callable[[str], None]:
    return lambda what: print(f"dncbench: metric {entry.name!r}: {what}", file=sys.stderr)


def _broken(entry: Entry, what: str) -> ContractError:
    return ContractError(
        f"metric {entry.name!r} {what}. A metric takes two Samples, whose draws are `.values`, "
        "and returns a Figure or None; `dncbench check FILE` holds it to that"
    )


def _few(num_draws: int) -> str:
    return f"{num_draws} draws are too few for a standard error: there must be {NUM_GROUPS}"


def _degenerate(approximation: Sample, reference: Sample) -> str:
    """What is wrong with the draws themselves; "" where nothing is."""
    for sample, whose in ((reference, "the reference's"), (approximation, "the merged")):
        for values in (sample.values, sample.eta):
            if values is None:
                continue
            if len(values) < NUM_GROUPS:
                return _few(len(values))
            with np.errstate(all="ignore"):
                spread = values.std(0)
            if not np.all(np.isfinite(spread)):
                return f"{whose} draws are not all finite, or too large to be squared"
            stuck = np.flatnonzero(spread == 0)
            if len(stuck):
                return f"coordinate {stuck[0]} of {whose} draws is constant"
            standard = (values - values.mean(0)) / spread
            singular = np.linalg.svd(standard, compute_uv=False)
            if len(values) <= values.shape[1] or singular[-1] < _DEPENDENT * singular[0]:
                return (
                    f"{whose} draws lie in a plane: to rounding, a coordinate is a linear function "
                    "of others; leave it out of the model"
                )
    return ""


def groups(num_draws: int) -> list[np.ndarray]:
    """Row numbers of the jackknife's groups.

    Dealt out at random (the same way every time), because rows have an order: draws of
    the shards in turn, or of a chain in time, would make the groups unlike random samples.
    """
    order = np.random.default_rng(0).permutation(num_draws)
    return [order[start::NUM_GROUPS] for start in range(NUM_GROUPS)]


def whitened(
    approximation: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Both samples in coordinates where the reference has mean 0 and covariance I.

    Distances in them are in posterior standard deviations.
    """
    mean, spread = reference.mean(0), reference.std(0)
    standard = (reference - mean) / spread  # first, so that the covariance keeps its digits
    factor = np.linalg.cholesky(np.cov(standard.T).reshape(len(mean), -1))
    into = lambda values: solve_triangular(factor, values.T, lower=True).T  # noqa: E731
    return into((approximation - mean) / spread), into(standard)


def jackknife_error(samples: tuple[Sample, ...], left_out: tuple[np.ndarray, ...]) -> float:
    """Standard error of a metric from its values with one group left out.

    The jackknife variance of each sample is that of independent draws; autocorrelated
    ones are worth fewer, so it is multiplied by n / ESS.

    Args:
        samples: approximation and reference, or the one of them that is read.
        left_out: for each of them, the metric's (NUM_GROUPS,) values when one group
            of that sample is left out.

    Raises:
        DrawsError: fewer draws than groups, some of which would leave nothing out.
    """
    variance = 0.0
    for sample, values in zip(samples, left_out, strict=True):
        if len(sample.values) < NUM_GROUPS:
            raise DrawsError(_few(len(sample.values)))
        jackknife = (NUM_GROUPS - 1) / NUM_GROUPS * np.sum((values - values.mean()) ** 2)
        variance += jackknife * len(sample.values) / sample.ess
    return float(np.sqrt(variance))
