"""The sum over all combinations of particles, in log space, by contraction over the tree of plates.

For K particles of each of n groups and element of their plates, the estimate of the evidence is

    P_MP = K^-n Σ_{k in [K]^n} P(x, z^k) / Π_g q_g(z_g^{k_g}),

whose terms factorise. From the deepest plate outwards, the particles of the groups in a plate are
summed out, in an order that opt_einsum finds, and the logarithms of what remains are added up over
the elements of the plate, which are independent given what is outside of it.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import opt_einsum
from jaxtyping import Array, Float

from dncbench.methods.massively_parallel._factors import (
    Axes,
    Axis,
    Factor,
    Index,
    Terms,
    add,
    factors_at,
    value_axes,
)
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._variables import ModelError, Path


class Step(NamedTuple):
    """One sum of a contraction.

    Attributes:
        axes: before the sum.
        summed: those of the axes that it sums over.
        value: before the sum.
    """

    axes: Axes
    summed: Axes
    value: Float[Array, "..."]


def contract(
    model: Model, terms: Terms, chunks: Mapping[str, int]
) -> tuple[Float[Array, ""], list[Step]]:
    """Sum over all combinations of particles.

    Args:
        model: of the particles.
        terms: particles, offsets and data.
        chunks: of these plates only so many elements are in memory at a time, also of what
            gradients need. Such sums are not among the steps that are returned.

    Returns:
        The logarithm of the sum, and every single sum, from the deepest plate outwards.

    Raises:
        ModelError: a plate is unknown, or a chunk has no element.
    """
    for plate, size in chunks.items():
        if plate not in dict(model.sizes) or size < 1:
            raise ModelError(
                f"chunks of {size} of plate {plate!r}; give a positive number for one of "
                f"{', '.join(dict(model.sizes)) or 'no plates'}"
            )
    factors, steps = _inside(model, (), terms, chunks)
    return functools.reduce(jnp.add, [factor.value for factor in factors]), steps


def _inside(
    model: Model, path: Path, terms: Terms, chunks: Mapping[str, int]
) -> tuple[list[Factor], list[Step]]:
    """Everything on a path and deeper, with the groups there summed out."""
    factors = factors_at(model, path, terms)
    steps: list[Step] = []
    for child in model.paths:
        if child[:-1] == path and child:
            found, below = _plate(model, child, terms, chunks)
            factors, steps = factors + found, steps + below
    here = {Index(group) for group, members in model.groups.items() if members[0].plates == path}
    factors, own = _eliminate(model, factors, here)
    return factors, steps + own


def _plate(
    model: Model, path: Path, terms: Terms, chunks: Mapping[str, int]
) -> tuple[list[Factor], list[Step]]:
    """Everything in a plate, added up over its elements."""
    plate = path[-1]
    size, at_once = dict(model.sizes)[plate], chunks.get(plate)
    if at_once is None or at_once >= size:
        factors, steps = _inside(model, path, terms, chunks)
        return [_over(plate, factor) for factor in factors], steps

    positions = _positions(model, plate)
    axes: list[Axes] = []

    @jax.checkpoint
    def part(pieces: dict[tuple[str, str], Array]) -> list[Array]:
        there = {
            key: jax.tree.map(lambda leaf, at=positions[key]: jnp.moveaxis(leaf, 0, at), piece)
            for key, piece in pieces.items()
        }
        factors, _ = _inside(model, path, _with(terms, there), chunks)
        summed = [_over(plate, factor) for factor in factors]
        axes[:] = [factor.axes for factor in summed]
        return [factor.value for factor in summed]

    first = {
        key: jax.tree.map(lambda leaf, at=at: jnp.moveaxis(leaf, at, 0), _get(terms, key))
        for key, at in positions.items()
    }
    whole = size // at_once
    stacked = jax.tree.map(
        lambda leaf: leaf[: whole * at_once].reshape(whole, at_once, *leaf.shape[1:]), first
    )
    totals = [jnp.sum(values, axis=0) for values in jax.lax.map(part, stacked)]
    if whole * at_once < size:
        rest = part(jax.tree.map(lambda leaf: leaf[whole * at_once :], first))
        totals = [a + b for a, b in zip(totals, rest, strict=True)]
    return [Factor(*each) for each in zip(axes, totals, strict=True)], []


def _over(plate: str, factor: Factor) -> Factor:
    """The sum over a plate."""
    position = factor.axes.index(plate)
    axes = (*factor.axes[:position], *factor.axes[position + 1 :])
    return Factor(axes, jnp.sum(factor.value, axis=position))


def _positions(model: Model, plate: str) -> dict[tuple[str, str], int]:
    """Which arrays have a plate, as (field of the terms, name), and where among their axes."""
    axes: dict[tuple[str, str], Axes] = {}
    for latent in model.latents:
        axes["values", latent.name] = value_axes(latent)
        axes["offsets", latent.group] = (Index(latent.group), *latent.plates)
    for observed in model.observed:
        axes["data", observed.name] = observed.factor_plates
    for each in model.inputs:
        axes["data", each.name] = each.plates
    return {key: names.index(plate) for key, names in axes.items() if plate in names}


def _get(terms: Terms, key: tuple[str, str]) -> Array:
    return getattr(terms, key[0])[key[1]]


def _with(terms: Terms, replaced: Mapping[tuple[str, str], Array]) -> Terms:
    new = {field: dict(named) for field, named in terms._asdict().items()}
    for (field, name), array in replaced.items():
        new[field][name] = array
    return Terms(**new)


def _eliminate(
    model: Model, factors: Sequence[Factor], indices: set[Index]
) -> tuple[list[Factor], list[Step]]:
    """Sum out the particles of groups.

    Factors that no index connects stay apart: their product would have the particles of all
    groups outside as axes.
    """
    left = list(factors)
    done: list[Factor] = []
    steps: list[Step] = []
    while left:
        component = [left.pop()]
        reached: set[Axis] = set()
        while new := {axis for factor in component for axis in factor.axes} & indices - reached:
            reached |= new
            component += [factor for factor in left if new & set(factor.axes)]
            left = [factor for factor in left if not new & set(factor.axes)]
        if reached:
            total, own = _sum_out(model, component, reached)
            done, steps = [*done, total], steps + own
        else:
            done += component
    return done, steps


def _sum_out(model: Model, factors: list[Factor], indices: set[Axis]) -> tuple[Factor, list[Step]]:
    """Sum connected factors over indices, in the order of a path that opt_einsum finds."""
    left = list(factors)
    steps: list[Step] = []
    for positions in _order(factors, indices):
        chosen = [left.pop(position) for position in sorted(positions, reverse=True)]
        total = add(model, chosen)
        elsewhere = {axis for factor in left for axis in factor.axes}
        summed = tuple(axis for axis in total.axes if axis in indices - elsewhere)
        if summed:
            steps.append(Step(total.axes, summed, total.value))
            at = tuple(total.axes.index(axis) for axis in summed)
            kept = tuple(axis for axis in total.axes if axis not in summed)
            total = Factor(kept, log_sum_exp(total.value, at))
        left.append(total)
    (result,) = left
    return result, steps


def _order(factors: list[Factor], indices: set[Axis]) -> list[tuple[int, ...]]:
    """Which factors to multiply at each step, as positions in a list that the product is put at."""
    every = dict.fromkeys(axis for factor in factors for axis in factor.axes)
    symbols = {axis: opt_einsum.get_symbol(number) for number, axis in enumerate(every)}
    inputs = ",".join("".join(symbols[axis] for axis in factor.axes) for factor in factors)
    output = "".join(symbols[axis] for axis in every if axis not in indices)
    shapes = [factor.value.shape for factor in factors]
    path, _ = opt_einsum.contract_path(f"{inputs}->{output}", *shapes, shapes=True)
    return [tuple(positions) for positions in path]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def log_sum_exp(x: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """log Σ exp x over axes; where every term is impossible, its gradient is 0 and not NaN."""
    largest = jnp.max(x, axis=axes, keepdims=True)
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    return jnp.log(jnp.sum(jnp.exp(x - largest), axis=axes)) + jnp.squeeze(largest, axes)


def _forward(x: Array, axes: tuple[int, ...]) -> tuple[Array, tuple[Array, Array]]:
    result = log_sum_exp(x, axes)
    return result, (x, result)


def _backward(axes: tuple[int, ...], kept: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    x, result = kept
    result = jnp.where(jnp.isfinite(result), result, 0.0)
    return (jnp.expand_dims(gradient, axes) * jnp.exp(x - jnp.expand_dims(result, axes)),)


log_sum_exp.defvjp(_forward, _backward)
