"""What a problem is like, so that a reader can find the ones that are like theirs.

Measured on the problem, its reference and its shards; nothing is typed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

UNKNOWN = "not known"


@dataclass(frozen=True)
class Features:
    """Of one problem under one set of terms; None where it could not be measured.

    Attributes:
        dim: d, parameters.
        shards: S.
        skew: largest absolute skewness of the reference's marginals.
        modes: how many the posterior has by exchangeable labels; 1 without them.
        heterogeneity: see :func:`heterogeneity`.
        constrained: whether a parameter has bounds.
    """

    dim: int | None = None
    shards: int | None = None
    skew: float | None = None
    modes: int | None = None
    heterogeneity: float | None = None
    constrained: bool | None = None


@dataclass(frozen=True)
class Question:
    """Something a reader knows of their problem.

    Attributes:
        field: of :class:`Features`.
        title: column and label.
        help: what it is.
        limits: upper ends of all classes but the last; empty for a yes or no.
        names: of the classes.
        text: writes a value.
    """

    field: str
    title: str
    help: str
    limits: tuple[float, ...]
    names: tuple[str, ...]
    text: Callable[[Any], str] = str


QUESTIONS = (
    Question("dim", "d", "parameters", (5, 20), ("1 to 5", "6 to 20", "above 20")),
    Question("shards", "S", "shards", (4, 10), ("2 to 4", "5 to 10", "above 10")),
    Question(
        "skew",
        "skewness",
        "largest absolute skewness of a marginal of the true posterior",
        (0.25, 0.75),
        ("below 0.25: near Gaussian", "0.25 to 0.75", "above 0.75"),
        lambda value: f"{value:.2f}",
    ),
    Question("modes", "modes", "by exchangeable labels", (1,), ("one", "several")),
    Question(
        "heterogeneity",
        "shard spread",
        "spread of the subposterior means in subposterior sds; about 1 where shards are "
        "random samples of the same data",
        (1.5, 3.0),
        ("below 1.5: alike", "1.5 to 3", "above 3: far apart"),
        lambda value: f"{value:.2f}",
    ),
    Question(
        "constrained",
        "constrained",
        "whether a parameter has bounds",
        (0,),
        ("no", "yes"),
        lambda value: "yes" if value else "no",
    ),
)


def answer(features: Features, question: Question) -> tuple[str, str]:
    """The class that a problem falls into, and the value as text."""
    value = getattr(features, question.field)
    if value is None:
        return UNKNOWN, "-"
    place = sum(value > limit for limit in question.limits)
    return question.names[place], question.text(value)


def largest_skew(theta: Float[np.ndarray, "N d"]) -> float:
    """Largest absolute skewness over coordinates."""
    centred = (theta - theta.mean(0)) / theta.std(0)
    return float(np.max(np.abs(np.mean(centred**3, axis=0))))


def heterogeneity(values: Float[np.ndarray, "S T d"]) -> float | None:
    """Between-shard sd of subposterior means over their sds, root mean square over coordinates.

    In regular models the mean of a random shard's subposterior varies between shards by
    about its own posterior sd, so that 1 is what a random split gives. None for one shard.
    """
    if len(values) < 2:
        return None
    between = values.mean(1).var(0, ddof=1)
    within = values.var(1, ddof=1).mean(0)
    return float(np.sqrt(np.mean(between / within)))
