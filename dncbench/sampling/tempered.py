"""The second sampler of a certificate: tempered sequential Monte Carlo.

Del Moral, Doucet & Jasra (2006). Particles start from a wide base that covers the prior and
are led to the posterior along base^(1-β) posterior^β. Each β is as far from the one before as
the effective sample size of the weights allows; particles are then resampled and moved until
they have forgotten where they were. Two runs that share nothing are made. Chains of the same
moves go on from their particles at β = 1, until the means are as well known as is asked, and
each run's chains give an estimate of the log evidence, by bridge sampling.

The weights along the way give another one, which is right where particles kept up with the
temperature at every β. Through a phase transition (a scale that shrinks a hundredfold at once)
they lag behind, though they end where they should; so that one is only told.

A move is a t-preconditioned Crank-Nicolson step (Grumitt, Karamanis & Seljak 2024) with the
particles' own mean and covariance: reversible for a multivariate t, from which the density
differs by a remainder that decides on acceptance. No gradient, no momentum, and nothing of
NUTS.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import evenly, one, systematic
from dncbench.posterior import Density
from dncbench.sampling import diagnostics
from dncbench.sampling.bridge import Evidence, bridge
from dncbench.sampling.crank_nicolson import (
    BATCH,
    Geometry,
    State,
    finite,
    fitted,
    log_t,
    move,
    proposals,
    tuned,
)
from dncbench.sampling.wide_base import wide_base
from dncbench.timing import Program, Timed

NUM_RUNS = 2

_PARTICLES = 512  # of a run, or
_PARTICLES_PER_DIM = 20  # so many for each coordinate: their covariance has to be known
_KEPT_ESS = 0.5  # share of the particles that weights of the next temperature are worth
_MOST_TEMPERATURES = 2_000
_REMEMBERED = 0.3  # correlation with where they were, below which particles have moved enough
_MOST_MOVES = 30  # at one temperature
_HALVINGS = 60
_LOG_SMALLEST_STEP = -100.0

_CHAINS = 128
_GROUPS = 8  # of chains, for R-hat
_LEAST_MOVES_PER_DRAW = 3
_DIMS_PER_MOVE = 10  # a draw takes a move for so many coordinates
_BURN_INS = 4  # rounds that are not kept, each with a t fitted to the one before
_DRAWS_PER_ROUND = 100
_MOST_ROUNDS = 20


class Tempered(NamedTuple):
    """One run.

    Attributes:
        eta: (N, d) particles at the last β.
        value: (N,) log densities at them.
        step: () of their last moves.
        beta: () the last β; 1 unless the run was given up.
        log_evidence: () estimate of the log of the density's integral, from the weights.
        variance: () of that estimate, from the variance of each temperature's weights, as if
            particles had forgotten everything when they were moved.
        temperatures: ().
        moves: () of each particle.
    """

    eta: Float[Array, "N d"]
    value: Float[Array, " N"]
    step: Float[Array, ""]
    beta: Float[Array, ""]
    log_evidence: Float[Array, ""]
    variance: Float[Array, ""]
    temperatures: Int[Array, ""]
    moves: Int[Array, ""]


def num_particles(dim: int) -> int:
    """N, particles of a run."""
    return max(_PARTICLES, -(-_PARTICLES_PER_DIM * dim // BATCH) * BATCH)


def tempered(
    density: Density,
    key: PRNGKeyArray,
    resolution: float,
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "C T d"], Float[np.ndarray, "C T"], dict[str, Any]]:
    """Draw from one density until every mean is known well enough.

    Args:
        density: stacked, with a leading axis of one.
        key: random key.
        resolution: standard error of a mean to stop at, in posterior sds.
        say: told what is being done.

    Returns:
        Draws (C, T, d), each several moves after the one before; their log densities; and
        what is to be told of them, as plain JSON values. Where a run does not reach the
        posterior (the density is finite at none of its starting points), nothing is drawn:
        the draws and what is said of them are NaN.
    """
    dim = len(density.problem.start)
    number = num_particles(dim)
    done = []
    for place in range(NUM_RUNS):
        say(f"second sampler, run {place + 1}")
        done.append(_temper(density, jax.random.fold_in(key, place), number))
    runs: list[Tempered] = [jax.tree.map(np.asarray, each.value) for each in done]
    evaluations = sum(number * int(run.moves) for run in runs)
    beta = min(float(run.beta) for run in runs)
    chains = np.full((_CHAINS, _DRAWS_PER_ROUND, dim), np.nan)
    values = np.full(chains.shape[:2], np.nan)
    if beta == 1.0:
        going_on = _going_on(density, runs, jax.random.fold_in(key, NUM_RUNS), resolution, say)
        chains, values, timed = going_on
        done += timed
        evaluations += (
            _CHAINS * _moves_per_draw(dim) * (_BURN_INS * _DRAWS_PER_ROUND + chains.shape[1])
        )
    say("second sampler, evidence")
    estimates = []
    for place, run in enumerate(runs):
        own = slice(place, None, NUM_RUNS)
        own_key = jax.random.fold_in(key, NUM_RUNS + 1 + place)
        ratios = _ratios(density, run.eta, chains[own], values[own], own_key, number)
        done.append(ratios)
        evaluations += number
        estimates.append(bridge(*map(np.asarray, ratios.value)))
    told = {
        "runs": NUM_RUNS,
        "particles": number,
        "beta": beta,
        "temperatures": max(int(run.temperatures) for run in runs),
        "log_evidence": float(np.mean([estimate.log for estimate in estimates])),
        "log_evidence_of_weights": float(np.mean([run.log_evidence for run in runs])),
        "evidence_z": evidence_gap(estimates[0], estimates[1]),
        "evidence_error": float(np.hypot(estimates[0].error, estimates[1].error)),
        "chains": _CHAINS,
        "evaluations": evaluations,
        "groups": _GROUPS,
        "max_rhat": float(np.max(_nested_rhat(chains))),
        "min_ess_bulk": float(np.min(diagnostics.ess_bulk(chains))),
        "min_ess_tail": float(np.min(diagnostics.ess_tail(chains))),
        "seconds": sum(each.run for each in done),
        "compile_seconds": sum(each.compile for each in done),
    }
    return chains, values, told


def _moves_per_draw(dim: int) -> int:
    return max(_LEAST_MOVES_PER_DRAW, -(-dim // _DIMS_PER_MOVE))


def _going_on(
    density: Density,
    runs: list[Tempered],
    key: PRNGKeyArray,
    resolution: float,
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "C T d"], Float[np.ndarray, "C T"], list[Timed]]:
    """Chains from the particles of all runs, which they take in turn; what each program took."""
    each = evenly(len(runs[0].eta), _CHAINS // NUM_RUNS)
    state = State(
        jnp.asarray(np.stack([run.eta[each] for run in runs], axis=1).reshape(_CHAINS, -1)),
        jnp.asarray(np.stack([run.value[each] for run in runs], axis=1).reshape(_CHAINS)),
        jnp.asarray(np.mean([run.step for run in runs])),
    )
    geometry = fitted(jnp.asarray(np.concatenate([run.eta for run in runs])))
    say("second sampler, burning in")
    done: list[Timed] = []
    for number in range(_BURN_INS):
        own_key = jax.random.fold_in(key, _MOST_ROUNDS + number)
        done.append(_chains(density, geometry, state, own_key, _DRAWS_PER_ROUND, True))
        state, (eta, _) = done[-1].value
        # Particles of many dimensions are narrower than the posterior, and so is their t.
        geometry = fitted(eta.reshape(-1, eta.shape[-1]))
    visited: list[tuple[np.ndarray, np.ndarray]] = []
    for number in range(_MOST_ROUNDS):
        say(f"second sampler, round {number + 1}")
        round_key = jax.random.fold_in(key, number)
        done.append(_chains(density, geometry, state, round_key, _DRAWS_PER_ROUND, False))
        state, (eta, value) = done[-1].value
        visited.append((np.asarray(eta), np.asarray(value)))
        chains, values = (np.concatenate(parts, 1) for parts in zip(*visited, strict=True))
        error = np.max(diagnostics.mcse(chains, "mean") / chains.std((0, 1)))
        if error <= resolution and np.max(_nested_rhat(chains)) <= diagnostics.MAX_RHAT:
            break
    return chains, values, done


def _nested_rhat(chains: Float[np.ndarray, "C T d"]) -> Float[np.ndarray, " d"]:
    """R-hat of groups of chains, each of one run."""
    by_run = np.concatenate([chains[place::NUM_RUNS] for place in range(NUM_RUNS)])
    return diagnostics.nested_rhat(by_run, _GROUPS)


def evidence_gap(first: Evidence, second: Evidence) -> float:
    """|difference| of two runs' log evidence in its standard errors."""
    with np.errstate(all="ignore"):
        return float(abs(first.log - second.log) / np.hypot(first.error, second.error))


# ---------------------------------------------------------------- one run


def _run(stack: Density, key: PRNGKeyArray, number: int) -> Tempered:
    density = one(stack)
    base = wide_base(density)
    key_start, key_run = jax.random.split(key)
    eta = base.draw(key_start, number)
    posterior, log_base = finite(density), jax.vmap(base.log_density)

    def remainder_of(points: Any) -> Array:
        return points.value - log_base(points.eta)

    def temperature(run: Tempered) -> Tempered:
        weight_key, move_key = jax.random.split(jax.random.fold_in(key_run, run.temperatures))
        remainder = remainder_of(run)
        step = _next_step(remainder, run.beta)
        beta = jnp.where(step >= 1.0 - run.beta, 1.0, run.beta + step)
        log_weights = step * remainder
        highest = jnp.max(log_weights)
        weights = jnp.exp(log_weights - highest)
        mean = jnp.mean(weights)
        rows = systematic(weight_key, weights / jnp.sum(weights), number)

        def path(eta: Array, value: Array) -> Array:
            return (1.0 - beta) * log_base(eta) + beta * value

        state = State(run.eta[rows], run.value[rows], run.step)
        state, moves = _moved(posterior, path, remainder_of, state, move_key)
        return Tempered(
            state.eta,
            state.value,
            state.step,
            beta,
            run.log_evidence + highest + jnp.log(mean),
            run.variance + jnp.var(weights) / mean**2 / number,
            run.temperatures + 1,
            run.moves + moves,
        )

    def unfinished(run: Tempered) -> Array:
        return (
            (run.beta < 1.0)
            & (run.temperatures < _MOST_TEMPERATURES)
            & jnp.any(run.value > -jnp.inf)
        )

    zero, none = jnp.array(0.0), jnp.array(0)
    start = Tempered(eta, posterior(eta), jnp.array(0.5), zero, zero, zero, none, none)
    return jax.lax.while_loop(unfinished, temperature, start)


def _next_step(remainder: Float[Array, " N"], beta: Float[Array, ""]) -> Float[Array, ""]:
    """The largest step of β that leaves the weights worth enough, of those not zero anyway."""
    highest = jnp.max(remainder)
    wanted = _KEPT_ESS * jnp.sum(remainder > -jnp.inf)

    def enough(log_share: Array) -> Array:
        weights = jnp.exp((1.0 - beta) * jnp.exp(log_share) * (remainder - highest))
        return jnp.sum(weights) ** 2 >= wanted * jnp.sum(weights**2)

    def halve(_: Array | int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        fine = enough(middle)
        return jnp.where(fine, middle, low), jnp.where(fine, high, middle)

    bracket = (jnp.array(_LOG_SMALLEST_STEP), jnp.array(0.0))
    low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, bracket)
    return (1.0 - beta) * jnp.exp(jnp.where(enough(jnp.array(0.0)), 0.0, low))


def _moved(
    posterior: Callable[[Array], Array],
    path: Callable[[Array, Array], Array],
    remainder: Callable[[State], Array],
    state: State,
    key: PRNGKeyArray,
) -> tuple[State, Int[Array, ""]]:
    """Move particles until none of their coordinates remembers where it was; also how often."""

    def places(state: State) -> Array:
        """Coordinates and log density on the path, in which weights are known."""
        return _standardised(jnp.column_stack([state.eta, remainder(state)]))

    origin = places(state)

    def again(carry: tuple) -> tuple:
        number, state, _ = carry
        own = jax.random.fold_in(key, number)
        state, acceptance = move(posterior, path, fitted(state.eta), state, own)
        state = state._replace(step=tuned(state.step, acceptance))
        remembered = jnp.max(jnp.mean(origin * places(state), axis=0))
        return number + 1, state, remembered

    def unfinished(carry: tuple) -> Array:
        number, _, remembered = carry
        return (number < _MOST_MOVES) & (remembered > _REMEMBERED)

    number, state, _ = jax.lax.while_loop(unfinished, again, (jnp.array(0), state, jnp.array(1.0)))
    return state, number


def _standardised(eta: Float[Array, "N d"]) -> Float[Array, "N d"]:
    centred = eta - jnp.mean(eta, axis=0)[None, :]
    return centred / jnp.maximum(jnp.std(eta, axis=0), 1e-300)[None, :]


# ---------------------------------------------------------------- chains


def _draw(
    stack: Density,
    geometry: Geometry,
    state: State,
    key: PRNGKeyArray,
    num_draws: int,
    tuning: bool,
) -> tuple[State, tuple[Float[Array, "C T d"], Float[Array, "C T"]]]:
    """Draws of every chain, and their log densities; the step is tuned while burning in."""
    posterior = finite(one(stack))
    moves = _moves_per_draw(state.eta.shape[1])

    def step(state: State, key: PRNGKeyArray) -> tuple[State, None]:
        state, acceptance = move(posterior, lambda eta, value: value, geometry, state, key)
        if tuning:
            state = state._replace(step=tuned(state.step, acceptance))
        return state, None

    def draw(state: State, key: PRNGKeyArray) -> tuple[State, tuple[Array, Array]]:
        state, _ = jax.lax.scan(step, state, jax.random.split(key, moves))
        return state, (state.eta, state.value)

    state, visited = jax.lax.scan(draw, state, jax.random.split(key, num_draws))
    eta, value = (jnp.swapaxes(part, 0, 1) for part in visited)
    return state, (eta, value)


def _log_ratios(
    stack: Density,
    eta: Float[Array, "N d"],
    chains: Float[Array, "C T d"],
    values: Float[Array, "C T"],
    key: PRNGKeyArray,
    number: int,
) -> tuple[Float[Array, "C T"], Float[Array, " number"]]:
    """Log ratios to the t fitted to a run's particles, at its chains' draws and at the t's own."""
    geometry = fitted(eta)
    ratios = proposals(finite(one(stack)), geometry, key, number)
    return values - log_t(geometry, chains), ratios


_temper = Program(_run)
_chains = Program(_draw)
_ratios = Program(_log_ratios)
