"""Factors of a hierarchical model, arrays with named axes: plates, and particles of groups.

Axes have one order everywhere: particles of groups as the model declares them, then plates from
the outermost to the innermost.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._variables import Latent, Observed, Path


class Index(NamedTuple):
    """The axis of a group's particles."""

    group: str


Axis = str | Index
Axes = tuple[Axis, ...]


class Factor(NamedTuple):
    """A term of a log density.

    Attributes:
        axes: their names.
        value: as many axes.
    """

    axes: Axes
    value: Float[Array, "..."]


class Named(NamedTuple):
    """An array, or a tree of arrays, whose leading axes have names; events follow."""

    axes: Axes
    value: PyTree[Array]


class Terms(NamedTuple):
    """All that the density of a model's particles is computed from.

    Attributes:
        values: of latents, (K, *plates, *event); (n, *event) where enumerated.
        offsets: of groups, (K, *plates): what is added to the log prior of each particle.
        data: summarised, where the model has sufficient statistics.
    """

    values: dict[str, Shaped[Array, "K ..."]]
    offsets: dict[str, Float[Array, "K ..."]]
    data: dict[str, PyTree[Array]]


def ordered(model: Model, axes: Iterable[Axis]) -> Axes:
    """Axes in the order that they have everywhere."""
    unique = set(axes)
    groups = tuple(Index(group) for group in model.groups)
    # Plates of one factor lie inside one another, so that any order of depth is theirs.
    plates = tuple(path[-1] for path in model.paths if path)
    return tuple(axis for axis in (*groups, *plates) if axis in unique)


def value_axes(latent: Latent) -> Axes:
    """Leading axes of a latent's particles; those that are enumerated are the same everywhere."""
    return (Index(latent.group), *(() if latent.enumerated else latent.plates))


def arrays(model: Model, terms: Terms) -> dict[str, Named]:
    """Values and data by name."""
    found = {each.name: Named(each.plates, terms.data[each.name]) for each in model.inputs}
    for observed in model.observed:
        found[observed.name] = Named(observed.factor_plates, terms.data[observed.name])
    for latent in model.latents:
        found[latent.name] = Named(value_axes(latent), terms.values[latent.name])
    return found


def mapped(function: Callable[..., Array], arguments: Sequence[Named], axes: Axes) -> Array:
    """Map a function of one element over named axes, which become the leading ones in this order.

    An argument that lacks an axis is the same along it, and what depends on that argument alone is
    computed once.
    """
    for axis in reversed(axes):
        function = jax.vmap(function, tuple(0 if axis in each.axes else None for each in arguments))
    return function(*(each.value for each in arguments))


def log_density(model: Model, variable: Latent | Observed, named: Mapping[str, Named]) -> Factor:
    """Log density of one variable, for each element of its plates and value of its parents."""
    parents = [named[name] for name in variable.parents]
    arguments = [named[variable.name], *parents, *(named[name] for name in variable.inputs)]
    summary = variable.summary if isinstance(variable, Observed) else None
    if summary is not None:
        arguments = [named[variable.name], *parents]
    law = variable.prior if isinstance(variable, Latent) else variable.law

    def single(x: PyTree[Array], *given: Array) -> Float[Array, ""]:
        return law(*given).log_prob(x) if summary is None else summary.log_prob(*given, x)

    axes = ordered(model, [axis for each in arguments for axis in each.axes])
    return Factor(axes, mapped(single, arguments, axes))


def factors_at(model: Model, path: Path, terms: Terms) -> list[Factor]:
    """Factors of the variables on a path of plates; those with the same axes are added up."""
    named = arrays(model, terms)
    found = [
        Factor((Index(group), *path), terms.offsets[group])
        for group, members in model.groups.items()
        if members[0].plates == path
    ]
    for latent in model.latents:
        if latent.plates == path:
            found.append(log_density(model, latent, named))
    for observed in model.observed:
        if observed.factor_plates == path:
            found.append(log_density(model, observed, named))
    by_axes: dict[Axes, Factor] = {}
    for factor in found:
        by_axes[factor.axes] = (
            add(model, [by_axes[factor.axes], factor]) if factor.axes in by_axes else factor
        )
    return list(by_axes.values())


def add(model: Model, factors: Sequence[Factor]) -> Factor:
    """The sum of factors, which has the axes of all; small ones are added first."""
    total, *others = sorted(factors, key=lambda factor: factor.value.size)
    for other in others:
        axes = ordered(model, total.axes + other.axes)
        total = Factor(axes, _aligned(total, axes) + _aligned(other, axes))
    return total


def _aligned(factor: Factor, axes: Axes) -> Float[Array, "..."]:
    missing = [position for position, axis in enumerate(axes) if axis not in factor.axes]
    return jnp.expand_dims(factor.value, missing)
