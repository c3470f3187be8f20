"""Hierarchical models: plates in a tree, latents in groups, observations, checked when built."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dncbench.methods.massively_parallel._counts import Finite
from dncbench.methods.massively_parallel._family import Family, Law
from dncbench.methods.massively_parallel._variables import (
    Input,
    Latent,
    ModelError,
    Observed,
    Path,
    find,
)


@dataclass(frozen=True, init=False)
class Model:
    """A hierarchical model; hashable, so that compiled programs are kept by it.

    Attributes:
        sizes: (plate, number of elements) of each plate.
        latents: parents before children.
        observed: at least one.
        inputs: covariates.
        paths: of every plate, () included, parents before children; found from the variables.

    Raises:
        ModelError: the parts do not fit together.
    """

    sizes: tuple[tuple[str, int], ...]
    latents: tuple[Latent, ...]
    observed: tuple[Observed, ...]
    inputs: tuple[Input, ...]
    paths: tuple[Path, ...] = field(compare=False)

    def __init__(
        self,
        sizes: Mapping[str, int],
        latents: Iterable[Latent],
        observed: Iterable[Observed],
        inputs: Iterable[Input] = (),
    ) -> None:
        object.__setattr__(self, "sizes", tuple(sizes.items()))
        object.__setattr__(self, "latents", tuple(latents))
        object.__setattr__(self, "observed", tuple(observed))
        object.__setattr__(self, "inputs", tuple(inputs))
        _check_names(self)
        object.__setattr__(self, "paths", _paths(self))
        for latent in self.latents:
            _check_latent(self, latent)
        for observed_ in self.observed:
            _check_observed(self, observed_)

    @property
    def variables(self) -> tuple[Latent | Observed | Input, ...]:
        """All latents, observed variables and inputs."""
        return (*self.latents, *self.observed, *self.inputs)

    def input(self, name: str) -> Input:
        """The covariate of a name."""
        return next(each for each in self.inputs if each.name == name)

    @property
    def groups(self) -> dict[str, tuple[Latent, ...]]:
        """Latents of each group, in the order of the declaration."""
        found: dict[str, tuple[Latent, ...]] = {}
        for latent in self.latents:
            found[latent.group] = (*found.get(latent.group, ()), latent)
        return found

    def shape(self, plates: Path) -> tuple[int, ...]:
        """Sizes of plates."""
        sizes = dict(self.sizes)
        return tuple(sizes[plate] for plate in plates)


def _check_names(model: Model) -> None:
    if not model.observed or not model.latents:
        raise ModelError("a model needs at least one latent and one observed variable; add them")
    seen: set[str] = set()
    for variable in model.variables:
        if variable.name in seen:
            raise ModelError(f"two variables are named {variable.name!r}; rename one")
        seen.add(variable.name)
    for plate, size in model.sizes:
        if size < 1:
            raise ModelError(f"plate {plate!r} has {size} elements; it needs at least one")


def _paths(model: Model) -> tuple[Path, ...]:
    """Every plate has one way to it."""
    inside: dict[str, Path] = {}
    for variable in model.variables:
        for depth, plate in enumerate(variable.plates):
            find(repr(variable.name), plate, "plate", dict(model.sizes))
            path = variable.plates[: depth + 1]
            if inside.setdefault(plate, path) != path:
                raise ModelError(
                    f"{variable.name!r} has plate {plate!r} as {path}, another variable as "
                    f"{inside[plate]}; plates form a tree: give each the same path, from the "
                    "outermost, everywhere"
                )
    for plate, _ in model.sizes:
        if plate not in inside:
            raise ModelError(f"no variable is on plate {plate!r}; remove it from the sizes")
    # Not from a set, whose order changes from one process to the next.
    return tuple(sorted(dict.fromkeys([(), *inside.values()]), key=len))


def _check_parents(
    variable: Latent | Observed, plates: Path, before: Mapping[str, Latent], model: Model
) -> None:
    for name in variable.parents:
        parent = find(f"{variable.name!r} (parents come first)", name, "latent", before)
        if plates[: len(parent.plates)] != parent.plates:
            raise ModelError(
                f"{variable.name!r} has a term for each element of {plates}, its parent {name!r} "
                f"is on {parent.plates}; a parent's plates must be the first of its child's"
            )
    inputs = {each.name: each for each in model.inputs}
    for name in variable.inputs:
        given = find(repr(variable.name), name, "input", inputs)
        if variable.plates[: len(given.plates)] != given.plates:
            raise ModelError(
                f"{variable.name!r} is on {variable.plates}, its input {name!r} on {given.plates}; "
                "an input's plates must be the first of its variable's"
            )


def _check_latent(model: Model, latent: Latent) -> None:
    name = latent.name
    before: dict[str, Latent] = {}
    for other in model.latents:
        if other.name == name:
            break
        before[other.name] = other
    _check_parents(latent, latent.plates, before, model)
    members = model.groups[latent.group]
    if members[0].plates != latent.plates:
        raise ModelError(
            f"{name!r} is on {latent.plates}, {members[0].name!r} of its group {latent.group!r} on "
            f"{members[0].plates}; put it into another group"
        )
    if len(latent.event) < latent.family.core:
        raise ModelError(
            f"{name!r} is of {latent.family.__name__}, whose values are vectors; give event=(d,)"
        )
    law = start(model, latent)
    if latent.enumerated:
        if not isinstance(law, Finite) or latent.event or latent.enumerated != law.num_values():
            raise ModelError(
                f"{name!r} is enumerated={latent.enumerated}, of {latent.family.__name__} and "
                f"event {latent.event}; it should be a single Bernoulli, Categorical or Binomial "
                "number, and enumerated how many values that has"
            )
        if len(members) > 1:
            raise ModelError(
                f"{name!r} is enumerated and shares group {latent.group!r}; "
                "give it a group of its own"
            )


def start(model: Model, latent: Latent) -> Family:
    """The law of the first proposals, for all elements of the plates.

    Raises:
        ModelError: the latent gives none, and its prior is not one.
    """
    if latent.start is not None:
        law: Law = latent.start()
    elif latent.parents or latent.inputs:
        raise ModelError(
            f"{latent.name!r} has parents or inputs, so that its prior is not one law to start "
            f"from; give start=lambda: {latent.family.__name__}(...)"
        )
    else:
        law = latent.prior()
    if not isinstance(law, latent.family):
        raise ModelError(
            f"{latent.name!r} starts from a {type(law).__name__}; "
            f"give start=lambda: {latent.family.__name__}(...)"
        )
    try:
        return law.expand(model.shape(latent.plates) + latent.event)
    except ValueError as error:
        raise ModelError(
            f"{latent.name!r} starts from parameters that do not fit its plates "
            f"{model.shape(latent.plates)} and event {latent.event}: {error}; give scalars or "
            "parameters of the event's shape"
        ) from error


def _check_observed(model: Model, observed: Observed) -> None:
    if observed.summary and not observed.plates:
        raise ModelError(
            f"{observed.name!r} has a summary but no plate to sum over; give plates or no summary"
        )
    every = {latent.name: latent for latent in model.latents}
    _check_parents(observed, observed.factor_plates, every, model)
