"""Draws of the posterior over particles' indices: the contraction, run backwards."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Shaped

from dncbench.methods.massively_parallel._contraction import Step, contract
from dncbench.methods.massively_parallel._factors import Axes, Index, Named, Terms, mapped
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._particles import Particles

_DRAWS = Index("")
"""The axis of draws; no group has an empty name."""


def posterior_indices(
    model: Model,
    particles: Particles,
    data: Mapping[str, PyTree[Array]],
    key: PRNGKeyArray,
    num_draws: int,
) -> dict[str, Int[Array, "num_draws ..."]]:
    """Draw jointly which particle of each group, at each element of its plates.

    The last sum of the contraction is over a tensor of the marginal of its own indices; each
    earlier one is of theirs given those that are drawn.

    Args:
        model: of the particles.
        particles: K of each group and element.
        data: from ``summarised``.
        key: random key.
        num_draws: independent draws.

    Returns:
        Of each group, (num_draws, *plates).
    """
    offsets = {group: -log_q for group, log_q in particles.log_q.items()}
    _, steps = contract(model, Terms(particles.values, offsets, dict(data)), {})
    drawn: dict[Index, Named] = {}
    for step, each in zip(reversed(steps), jax.random.split(key, len(steps)), strict=True):
        drawn |= _draw(step, drawn, each, num_draws)
    return {index.group: named.value for index, named in drawn.items()}


def _draw(
    step: Step, drawn: Mapping[Index, Named], key: PRNGKeyArray, num_draws: int
) -> dict[Index, Named]:
    """Draw the indices that a step sums over, given the others, which are drawn already."""
    plates: Axes = tuple(axis for axis in step.axes if not isinstance(axis, Index))
    given = [axis for axis in step.axes if isinstance(axis, Index) and axis not in step.summed]
    order = (*plates, *given, *step.summed)
    tensor = jnp.transpose(step.value, [step.axes.index(axis) for axis in order])

    def at(table: Array, *indices: Array) -> Array:
        return table[indices]

    arguments = [Named(plates, tensor), *(drawn[index] for index in given)]
    if given:
        logits = mapped(at, arguments, (_DRAWS, *plates))
    else:
        logits = jnp.broadcast_to(tensor, (num_draws, *tensor.shape))
    sizes = logits.shape[1 + len(plates) :]
    flat = jax.random.categorical(key, logits.reshape(*logits.shape[: 1 + len(plates)], -1))
    found = jnp.unravel_index(flat, sizes)
    return {
        index: Named((_DRAWS, *plates), each)
        for index, each in zip(step.summed, found, strict=True)
        if isinstance(index, Index)
    }


def take(
    model: Model, particles: Particles, indices: Mapping[str, Int[Array, "num_draws ..."]]
) -> dict[str, Shaped[Array, "num_draws ..."]]:
    """Values of latents at indices: of each, (num_draws, *plates, *event)."""
    found = {}
    for latent in model.latents:
        x, index = particles.values[latent.name], indices[latent.group]
        if latent.enumerated:
            found[latent.name] = x[index]
        else:
            events = tuple(range(index.ndim, x.ndim))
            found[latent.name] = jnp.take_along_axis(x, jnp.expand_dims(index, events), axis=0)
    return found
