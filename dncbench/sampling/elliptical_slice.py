"""The second sampler of a certificate: generalised elliptical slice sampling (BlackJAX).

Murray, Adams & MacKay (2010), in the form of Nishihara, Murray & Adams (2014): the
target is written as a base Gaussian times a remainder, and each step slices the
remainder along a random ellipse of the base. No gradient, no momentum, no step size;
exact for any base.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

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
        Draws (C, T, d), each of them several steps after the one before, and
        diagnostics as plain JSON values.
    """
    key_start, key_run = jax.random.split(key)
    z = 1.5 * jax.random.normal(key_start, (num_chains, geometry.mean.shape[-1]))
    rounds: list[np.ndarray] = []
    seconds = compile_seconds = 0.0
    for number in range(_MOST_ROUNDS + 1):
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
        "steps": int(chains.shape[1] * _STEPS_PER_DRAW * num_chains),
        "max_rhat": float(np.max(diagnostics.rhat(chains))),
        "min_ess_bulk": float(np.min(diagnostics.ess_bulk(chains))),
        "min_ess_tail": float(np.min(diagnostics.ess_tail(chains))),
        "seconds": seconds,
        "compile_seconds": compile_seconds,
    }


def _chains(
    density: Density, geometry: Geometry, z: Array, keys: Key[Array, " C"], num_draws: int
) -> tuple[Float[Array, "C d"], Float[Array, "C T d"]]:
    from blackjax.mcmc import elliptical_slice as blackjax_slice

    target = one(density)
    mean, factor = geometry.mean[0], geometry.factor[0]

    def residual(z: Array) -> Array:
        return target(mean + factor @ z) + 0.5 * jnp.sum(z**2) / _BASE_INFLATION

    base = jnp.full(z.shape[1], _BASE_INFLATION)
    algorithm = blackjax_slice.as_top_level_api(residual, mean=jnp.zeros_like(base), cov=base)

    def chain(key: PRNGKeyArray, z: Array) -> Array:
        def keep(state: Any, key: PRNGKeyArray) -> tuple:
            def move(state: Any, key: PRNGKeyArray) -> tuple:
                return algorithm.step(key, state)[0], None

            state, _ = jax.lax.scan(move, state, jax.random.split(key, _STEPS_PER_DRAW))
            return state, state.position

        return jax.lax.scan(keep, algorithm.init(z), jax.random.split(key, num_draws))[1]

    path = jax.vmap(chain)(keys, z)
    return path[:, -1], mean[None, None, :] + path @ factor.T


_program = Program(_chains)
