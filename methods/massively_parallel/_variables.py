"""The variables of a hierarchical model: latents, observations, covariates.

Priors and likelihoods are functions of *one* element of their plates and one value of each parent;
the engine maps them over plates and particles, so that no function broadcasts by hand and a linear
predictor ``x @ beta`` becomes one matrix product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from jaxtyping import Array, Float, PyTree

from dncbench.errors import DncbenchError, nearest
from dncbench.methods.massively_parallel._family import Family, Law

Path = tuple[str, ...]
"""Plates from the outermost to the innermost; () is outside of all."""


class ModelError(DncbenchError, ValueError):
    """A hierarchical model, or data for one, that does not fit together."""


@dataclass(frozen=True)
class Input:
    """A covariate.

    Attributes:
        name: of the array in the data.
        plates: its leading axes.
    """

    name: str
    plates: Path = ()


@dataclass(frozen=True)
class Latent:
    """A latent variable.

    Attributes:
        name: unique in the model.
        family: of the proposals and of the approximate posterior.
        prior: from one value of each parent and input, in their order, to a law. It is kept by
            identity: define it once, at module level.
        plates: whose elements each have one.
        parents: latents declared before, on the same plates or outside of them.
        inputs: covariates that the prior depends on.
        event: shape of one value.
        group: latents of one group share their particles' index, which costs K for the group and
            not for each of its members. By default a group of its own.
        start: returns the member of the family that the first proposals are drawn from; by
            default the prior, if that has no parents or inputs and is of the family.
        enumerated: how many values there are, if they are to be summed over and not drawn.
    """

    name: str
    family: type[Family]
    prior: Callable[..., Law]
    plates: Path = ()
    parents: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    event: tuple[int, ...] = ()
    group: str = ""
    start: Callable[[], Family] | None = None
    enumerated: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.name)


class Summary(NamedTuple):
    """Sufficient statistics of all observations in the innermost plate.

    Attributes:
        statistics: from the observations (N, ...), and the inputs, those of the innermost plate
            (N, ...) too, to a tree of arrays.
        log_prob: from one value of each parent, and the statistics, to the log likelihood of all N.
    """

    statistics: Callable[..., PyTree[Array]]
    log_prob: Callable[..., Float[Array, ""]]


@dataclass(frozen=True)
class Observed:
    """An observed variable.

    Attributes:
        name: of the array in the data.
        law: from one value of each parent and input, in their order, to the law of one observation.
        plates: leading axes of the data.
        parents: latents.
        inputs: covariates.
        event: shape of one observation.
        summary: sufficient statistics; the engine then never visits single observations.
    """

    name: str
    law: Callable[..., Law]
    plates: Path = ()
    parents: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    event: tuple[int, ...] = ()
    summary: Summary | None = None

    @property
    def factor_plates(self) -> Path:
        """The plates whose elements each have a term in the log likelihood."""
        return self.plates[:-1] if self.summary else self.plates


Found = TypeVar("Found")


def find(culprit: str, name: str, what: str, known: Mapping[str, Found]) -> Found:
    """What has a name.

    Raises:
        ModelError: nothing has; near names are suggested.
    """
    if name not in known:
        hint = nearest(name, known) or f"; known are {', '.join(known) or 'none'}"
        raise ModelError(f"{culprit}: no {what} {name!r} is declared{hint}")
    return known[name]
