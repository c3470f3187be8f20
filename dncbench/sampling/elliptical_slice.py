"""The second sampler of a certificate: generalised elliptical slice sampling.

Murray, Adams & MacKay (2010), in the form of Nishihara, Murray & Adams (2014): the
target is written as a base Gaussian times a remainder, and each step slices the
remainder along a random ellipse of the base. No gradient, no momentum, no step size;
exact for any base.

The step is written here because BlackJAX's has a loop without a bound: where the log density
is -inf it never ends, and a proposal whose log density is NaN is accepted. The random numbers
are used as there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from dncbench.draws import one
from dncbench.posterior import Density
from dncbench.sampling import diagnostics
from dncbench.sampling.adaptation import Geometry
from dncbench.timing import Program

_BASE_INFLATION = 1.25  # variance of the base against the target's: keeps its tails covered
_STEPS_PER_DRAW = 10
_DRAWS_PER_ROUND = 250
_BURN_IN_DRAWS = 100
_MOST_ROUNDS = 12
_MOST_STARTS = 100
# Each proposal halves the bracket or so: after these it is a chain's own position, to rounding.
_MOST_PROPOSALS = 128


def elliptical_slice(
    density: Density,
    geometry: Geometry,
    key: PRNGKeyArray,
    num_chains: int,
    resolution: float,
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "C T d"], dict[str, Any]]:
    """Draw from one density until every mean is known well enough.

    Args:
        density: stacked, with a leading axis of one.
        geometry: location and scale of the base Gaussian, likewise stacked.
        key: random key.
        num_chains: C; each starts at a dispersed point of its own.
        resolution: standard error of a mean to stop at, in posterior sds.
        say: told what is being done.

    Returns:
        Draws (C, T, d), each of them several steps after the one before, and diagnostics as
        plain JSON values. ``chains_without_start`` counts those that find no finite log
        density to start from; where there are any, nothing is sampled, and the draws and
        what is said of them are NaN.
    """
    key_start, key_run = jax.random.split(key)
    shape = (num_chains, geometry.mean.shape[-1])
    say("second sampler: starting")
    first = _start(density, geometry, key_start, num_chains)
    z, found = first.value
    seconds, compile_seconds = first.run, first.compile
    rounds: list[np.ndarray] = []
    lost = int(num_chains - np.sum(found))
    chains = np.full((num_chains, _DRAWS_PER_ROUND, shape[1]), np.nan)
    for number in range(0 if lost else _MOST_ROUNDS + 1):
        say(f"second sampler, round {number + 1}")
        keys = jax.random.split(jax.random.fold_in(key_run, number), num_chains)
        done = _program(density, geometry, z, keys, _DRAWS_PER_ROUND)
        z, visited = done.value
        seconds, compile_seconds = seconds + done.run, compile_seconds + done.compile
        rounds.append(np.asarray(visited))
        if number == 0:
            rounds = [rounds[0][:, _BURN_IN_DRAWS:]]
            continue
        chains = np.concatenate(rounds, axis=1)
        error = diagnostics.mcse(chains, "mean") / chains.std((0, 1))
        if np.max(error) <= resolution and np.max(diagnostics.rhat(chains)) <= diagnostics.MAX_RHAT:
            break
    return chains, {
        "chains": num_chains,
        "chains_without_start": lost,
        "steps": 0 if lost else int(chains.shape[1] * _STEPS_PER_DRAW * num_chains),
        "max_rhat": float(np.max(diagnostics.rhat(chains))),
        "min_ess_bulk": float(np.min(diagnostics.ess_bulk(chains))),
        "min_ess_tail": float(np.min(diagnostics.ess_tail(chains))),
        "seconds": seconds,
        "compile_seconds": compile_seconds,
    }


class _State(NamedTuple):
    """A chain's position in the base's coordinates, and the log of the remainder there."""

    z: Float[Array, " d"]
    value: Float[Array, ""]


class _Slice(NamedTuple):
    """Where along the ellipse a step looks: the bracket, and the last proposal in it."""

    state: _State
    low: Float[Array, ""]
    high: Float[Array, ""]
    number: Int[Array, ""]


def _remainder(density: Density, geometry: Geometry) -> Callable[[Array], Array]:
    """The log of target over base in z; -inf wherever it is not a finite number."""
    target = one(density)
    mean, factor = geometry.mean[0], geometry.factor[0]

    def remainder(z: Array) -> Array:
        value = target(mean + factor @ z) + 0.5 * jnp.sum(z**2) / _BASE_INFLATION
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    return remainder


def _starts(
    density: Density, geometry: Geometry, key: PRNGKeyArray, num_chains: int
) -> tuple[Float[Array, "C d"], Bool[Array, " C"]]:
    """A dispersed point for each chain, drawn anew where the log density is not finite.

    Also which chains found one in ``_MOST_STARTS`` draws.
    """
    remainder = jax.vmap(_remainder(density, geometry))

    def dispersed(number: Array | int) -> tuple[Array, Array]:
        own = jax.lax.select(number == 0, key, jax.random.fold_in(key, number))
        z = 1.5 * jax.random.normal(own, (num_chains, geometry.mean.shape[-1]))
        return z, remainder(z) > -jnp.inf

    def again(state: tuple) -> tuple:
        number, z, found = state
        other, there = dispersed(number)
        return number + 1, jnp.where(found[:, None], z, other), found | there

    def unfinished(state: tuple) -> Array:
        number, _, found = state
        return ~jnp.all(found) & (number < _MOST_STARTS)

    _, z, found = jax.lax.while_loop(unfinished, again, (1, *dispersed(0)))
    return z, found


def _step(remainder: Callable[[Array], Array], state: _State, key: PRNGKeyArray) -> _State:
    """One step; it stays where no proposal of the bracket lies above the slice."""
    key_shrink, key_momentum, key_height, key_angle = jax.random.split(key, 4)
    momentum = np.sqrt(_BASE_INFLATION) * jax.random.normal(key_momentum, state.z.shape)
    height = state.value + jnp.log(jax.random.uniform(key_height))

    def proposed(angle: Array) -> _State:
        z = state.z * jnp.cos(angle) + momentum * jnp.sin(angle)
        return _State(z, remainder(z))

    def shrink(inside: _Slice) -> _Slice:
        own = jax.random.fold_in(key_shrink, inside.number)
        angle = jax.random.uniform(own, minval=inside.low, maxval=inside.high)
        return _Slice(
            proposed(angle),
            jnp.where(angle < 0, angle, inside.low),
            jnp.where(angle > 0, angle, inside.high),
            inside.number + 1,
        )

    def below(inside: _Slice) -> Array:
        return (inside.state.value <= height) & (inside.number < _MOST_PROPOSALS)

    angle = 2 * jnp.pi * jax.random.uniform(key_angle)
    whole = _Slice(proposed(angle), angle - 2 * jnp.pi, angle, jnp.array(1))
    last = jax.lax.while_loop(below, shrink, whole).state
    return jax.tree.map(lambda new, old: jnp.where(last.value > height, new, old), last, state)


def _chains(
    density: Density, geometry: Geometry, z: Array, keys: Key[Array, " C"], num_draws: int
) -> tuple[Float[Array, "C d"], Float[Array, "C T d"]]:
    remainder = _remainder(density, geometry)
    mean, factor = geometry.mean[0], geometry.factor[0]

    def chain(key: PRNGKeyArray, z: Array) -> Array:
        def keep(state: _State, key: PRNGKeyArray) -> tuple:
            def move(state: _State, key: PRNGKeyArray) -> tuple:
                return _step(remainder, state, key), None

            state, _ = jax.lax.scan(move, state, jax.random.split(key, _STEPS_PER_DRAW))
            return state, state.z

        start = _State(z, remainder(z))
        return jax.lax.scan(keep, start, jax.random.split(key, num_draws))[1]

    path = jax.vmap(chain)(keys, z)
    return path[:, -1], mean[None, None, :] + path @ factor.T


_start = Program(_starts)
_program = Program(_chains)
