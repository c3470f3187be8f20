"""QEM: expectation maximisation of the approximate posterior, by massively parallel weighting.

Heap, Bowyer & Aitchison (2025). The state is an exponential moving average of mean parameters;
in iteration t the approximation with these parameters proposes K particles of each group, and

    m_t = (1 - λ_t) m_{t-1} + λ_t (moments of the particles under their posterior marginals).

The average is of moments, never of conventional parameters, so that trajectories do not depend on
how an affine family is parameterised.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

from dncbench.methods.massively_parallel._data import summarised
from dncbench.methods.massively_parallel._family import Family, Mean
from dncbench.methods.massively_parallel._model import Model, start
from dncbench.methods.massively_parallel._particles import (
    Randomness,
    draw,
    effective_sample_size,
    estimate,
    moments,
    randomness,
)
from dncbench.methods.massively_parallel._variables import ModelError

LONGEST_STEP = 1.0 - 1e-6
"""Longer steps are shortened to this: a share of the old moments stays, hence no variance
falls below a millionth of the one before, whatever the weights."""

MOST_NUMBERS = 2**20
"""Random numbers in memory: those of so many iterations are drawn at once as this allows, and as
divides the number of iterations evenly."""

COLLAPSED = 1.5
"""Effective sample size below which an element's moments are those of one particle."""


class Schedule(eqx.Module):
    """Step sizes λ_t: constant, then falling.

    λ_t = first for t < burn_in, then first (1 + rate (t - burn_in))^-power. Steps that fall from
    the first iteration collapse in groups of high dimension, where few particles have weight.

    Attributes:
        first: between 0 and 1.
        burn_in: iterations of constant steps.
        rate: of the decay; 0 for constant steps.
        power: between 0 and 1, so that the steps' sum diverges.
    """

    first: float = 0.1
    burn_in: int = 50
    rate: float = 0.1
    power: float = 0.7

    def __call__(self, iteration: Int[Array, ""]) -> Float[Array, ""]:
        """The step of an iteration, counted from 0."""
        late = jnp.maximum(iteration - self.burn_in, 0)
        return jnp.minimum(self.first * (1.0 + self.rate * late) ** -self.power, LONGEST_STEP)


def constant(step: float) -> Schedule:
    """The same step for ever."""
    return Schedule(step, rate=0.0)


class State(NamedTuple):
    """Where a run is.

    Attributes:
        means: mean parameters of each latent, for all elements of its plates.
        iteration: how many are done.
    """

    means: dict[str, Mean]
    iteration: Int[Array, ""]


class Trace(NamedTuple):
    """What iterations said.

    Attributes:
        elbo: log P_MP of the iteration's particles.
        smallest_ess: of each group, over the elements of its plates.
        collapsed: of each group, the share of elements with an effective sample size below
            :data:`COLLAPSED`.
    """

    elbo: Float[Array, "..."]
    smallest_ess: dict[str, Float[Array, "..."]]
    collapsed: dict[str, Float[Array, "..."]]


def begin(model: Model) -> State:
    """The state before the first iteration."""
    means = {latent.name: start(model, latent).mean() for latent in model.latents}
    return State(means, jnp.zeros((), int))


def laws(model: Model, state: State) -> dict[str, Family]:
    """The approximate posterior of each latent: the M-step."""
    return {
        latent.name: latent.family.from_mean(state.means[latent.name]) for latent in model.latents
    }


def iterate(
    model: Model,
    state: State,
    data: Mapping[str, PyTree[Array]],
    numbers: Randomness,
    schedule: Schedule,
    num_particles: int,
    chunks: Mapping[str, int],
) -> tuple[State, Trace]:
    """One iteration.

    Args:
        model: whose posterior to approximate.
        state: before the iteration.
        data: from ``summarised``.
        numbers: random numbers of the iteration.
        schedule: step sizes.
        num_particles: K.
        chunks: how many elements of a plate to look at together, of those that are named.
    """
    proposals = laws(model, state)
    particles = draw(model, proposals, numbers, num_particles)
    found = estimate(model, particles, data, chunks)
    new = moments(model, proposals, particles, found.weights)
    step = schedule(state.iteration)
    means = {
        latent.name: latent.family.blend(state.means[latent.name], new[latent.name], step)
        for latent in model.latents
    }
    sizes = {group: effective_sample_size(each) for group, each in found.weights.items()}
    trace = Trace(
        found.log_evidence,
        {group: jnp.min(size) for group, size in sizes.items()},
        {group: jnp.mean(size < COLLAPSED, dtype=float) for group, size in sizes.items()},
    )
    return State(means, state.iteration + 1), trace


def run(
    model: Model,
    data: Mapping[str, Shaped[Array, "..."]],
    key: PRNGKeyArray,
    *,
    iterations: int,
    num_particles: int,
    schedule: Schedule,
    state: State | None = None,
    chunks: Mapping[str, int] | None = None,
) -> tuple[State, Trace]:
    """Iterate, in one compiled loop.

    A run in stretches, each from the last one's state and with the same key, is the same run.

    Args:
        model: whose posterior to approximate.
        data: observations and inputs.
        key: random key.
        iterations: how many.
        num_particles: K, particles of each group and element of its plates.
        schedule: step sizes.
        state: where to begin; by default at the start that the model says.
        chunks: how many elements of a plate to look at together, of those that are named; the
            result is the same and needs less memory.

    Returns:
        The last state, and each iteration's trace, stacked.

    Raises:
        ModelError: the data do not fit the model, a chunk does not, or there is nothing to do.
    """
    if iterations < 1 or num_particles < 1:
        raise ModelError(f"{iterations=} of {num_particles=}; both must be at least 1")
    return _run(
        model,
        summarised(model, data),
        key,
        schedule,
        begin(model) if state is None else state,
        iterations,
        num_particles,
        tuple((chunks or {}).items()),
    )


@functools.partial(jax.jit, static_argnames=("model", "iterations", "num_particles", "chunks"))
def _run(
    model: Model,
    data: dict[str, PyTree[Array]],
    key: PRNGKeyArray,
    schedule: Schedule,
    state: State,
    iterations: int,
    num_particles: int,
    chunks: tuple[tuple[str, int], ...],
) -> tuple[State, Trace]:
    def own(iteration: Array) -> Randomness:
        return randomness(model, jax.random.fold_in(key, iteration), num_particles)

    numbers = jax.eval_shape(own, state.iteration).noise.size
    most = min(iterations, max(1, MOST_NUMBERS // max(numbers, 1)))
    together = max(each for each in range(1, most + 1) if iterations % each == 0)

    def step(state: State, numbers: Randomness) -> tuple[State, Trace]:
        return iterate(model, state, data, numbers, schedule, num_particles, dict(chunks))

    def block(state: State, _: None) -> tuple[State, Trace]:
        return jax.lax.scan(step, state, jax.vmap(own)(state.iteration + jnp.arange(together)))

    state, trace = jax.lax.scan(block, state, length=iterations // together)
    return state, jax.tree.map(lambda leaf: leaf.reshape(iterations), trace)
