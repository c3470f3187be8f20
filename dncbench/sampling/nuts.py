"""Many-chain NUTS (BlackJAX) on a stack of densities, all in one program.

A dense mass matrix M^-1 = L Lᵀ (see :mod:`dncbench.sampling.adaptation`) is applied as the
change of variables η = m + L z with a unit mass matrix on z: the same Markov chain, without
factorising M at every step.

Where a problem's labels are exchangeable, every step ends by sorting them: the chain
then samples one copy of the posterior, which the others repeat. That is right only for a
kernel to which all copies look alike, so the mass matrix is averaged over the
permutations. The kept draws are dealt out over the copies at random, each with its score.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from dncbench.draws import Draws
from dncbench.errors import DrawsError
from dncbench.posterior import Density, deal_labels
from dncbench.sampling import diagnostics
from dncbench.sampling.adaptation import Geometry, adapt_all, sorted_state, to_z, whitened
from dncbench.sampling.settings import SamplerSettings
from dncbench.sampling.starts import find_starts
from dncbench.timing import Program, Timed


def sample(
    densities: Density,
    key: PRNGKeyArray,
    settings: SamplerSettings,
    names: tuple[str, ...],
    on_round: Callable[[str], None] = lambda message: None,
    all_modes: bool = False,
) -> Draws:
    """Draw from every density of a stack.

    Args:
        densities: arrays with a leading axis of S densities.
        key: random key.
        settings: see :class:`SamplerSettings`.
        names: d parameter names, for messages and diagnostics.
        on_round: told what is being done, for a progress display.
        all_modes: whether to look for all modes and start chains around each of them, as a
            reference asks for. On many shards of many observations it takes as long as sampling.

    Returns:
        Draws (S, T, d) with log densities, scores and diagnostics (those of exchangeable
        labels sorted); where modes were looked for, their numbers as ``modes`` in ``info``.

    Raises:
        DrawsError: a density or its gradient is not finite where sampling starts.
    """
    num_densities, dim = densities.mask.shape[0], len(names)
    key_adapt, key_sample = jax.random.split(key)
    key_deal = jax.random.fold_in(key, 2)
    starts, run_seconds, compile_seconds, found = None, 0.0, 0.0, {}
    if all_modes:
        on_round("looking for modes")
        starts, modes, run_seconds, compile_seconds = find_starts(
            densities, jax.random.fold_in(key, 3), settings.num_chains
        )
        found = {"modes": modes}
    on_round("adapting")
    adapt_keys = jax.random.split(key_adapt, num_densities)
    adapted: Timed = _adapt(densities, adapt_keys, dim, settings, starts)
    geometry, positions, at_mode = adapted.value
    _require_finite(at_mode, names)
    compile_seconds, run_seconds = compile_seconds + adapted.compile, run_seconds + adapted.run

    steps = settings.num_draws // settings.num_chains
    collected: list[_Trace] = []
    per_density: list[dict[str, Any]] = []
    for number in range(settings.most_rounds):
        on_round(f"sampling, round {number + 1}")
        keys = jax.random.split(jax.random.fold_in(key_sample, number), num_densities)
        done: Timed = _advance(densities, geometry, positions, keys, steps, settings)
        compile_seconds, run_seconds = compile_seconds + done.compile, run_seconds + done.run
        positions, trace = done.value
        collected.append(jax.tree.map(np.asarray, trace))
        kept = _Trace(
            *(
                np.concatenate(parts, 2)[:, :, number :: number + 1]
                for parts in zip(*collected, strict=True)
            )
        )
        per_density = _diagnose(kept, collected, names)
        if min(each["min_ess_bulk"] for each in per_density) >= settings.min_ess:
            break
    info = {
        "diagnostics": per_density,
        **found,
        "rounds": len(collected),
        "seconds": run_seconds,
        "compile_seconds": compile_seconds,
        "gradient_evaluations": int(sum(trace.leapfrogs.sum() for trace in collected)),
        "mean_acceptance": float(np.mean(kept.acceptance)),
    }
    flat = lambda array: array.reshape(num_densities, settings.num_draws, *array.shape[3:])  # noqa: E731
    values, scores = deal_labels(densities.problem, key_deal, flat(kept.value), flat(kept.score))
    return Draws(
        np.asarray(values),
        flat(kept.log_density),
        np.asarray(scores),
        settings.num_chains,
        info,
    )


class _Trace(NamedTuple):
    """What each step leaves; arrays (S, C, steps, ...)."""

    value: Any
    log_density: Any
    score: Any
    energy: Any
    divergent: Any
    leapfrogs: Any
    acceptance: Any


def _diagnose(
    kept: _Trace, collected: list[_Trace], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    return [
        diagnostics.summarise(
            kept.value[s],
            names,
            kept.energy[s],
            sum(int(trace.divergent[s].sum()) for trace in collected),
        )
        for s in range(len(kept.value))
    ]


def _require_finite(at_mode: tuple[Array, Array], names: tuple[str, ...]) -> None:
    values, scores = (np.asarray(part) for part in at_mode)
    for shard, (value, score) in enumerate(zip(values, scores, strict=True)):
        bad = np.flatnonzero(~np.isfinite(score))
        if np.isfinite(value) and not len(bad):
            continue
        what = f"its score in {names[bad[0]]}" if np.isfinite(value) else f"it is {value}"
        raise DrawsError(
            f"shard {shard}: the log density is not finite where sampling starts ({what}); "
            "check log_prior and log_likelihood there, that the prior is proper, and that the "
            "problem's start (by default zero) lies where neither is zero"
        )


# ---------------------------------------------------------------- one round


def _advance_one(
    density: Density,
    geometry: Geometry,
    eta: Float[Array, "chains dim"],
    key: PRNGKeyArray,
    num_steps: int,
    settings: SamplerSettings,
) -> tuple[Float[Array, "chains dim"], _Trace]:
    from blackjax.mcmc import nuts

    kernel = nuts.build_kernel()
    target = whitened(density, geometry)
    unit = jnp.ones(eta.shape[1])
    solve = jax.scipy.linalg.solve_triangular

    def chain(key: PRNGKeyArray, z: Array) -> _Trace:
        def step(state: Any, key: PRNGKeyArray) -> tuple:
            state, info = kernel(key, state, target, geometry.step_size, unit)
            state = sorted_state(density, geometry, state)
            return state, _Trace(
                state.position,
                state.logdensity,
                state.logdensity_grad,
                info.energy,
                info.is_divergent,
                info.num_integration_steps,
                info.acceptance_rate,
            )

        return jax.lax.scan(step, nuts.init(z, target), jax.random.split(key, num_steps))[1]

    z = to_z(geometry, eta)
    trace = jax.vmap(chain)(jax.random.split(key, len(eta)), z)
    values = geometry.mean[None, None, :] + trace.value @ geometry.factor.T
    # d/dη = L^-T d/dz: the stored score costs no further evaluation.
    flat = trace.score.reshape(-1, trace.score.shape[-1])
    score = solve(geometry.factor, flat.T, lower=True, trans=1).T.reshape(trace.score.shape)
    return values[:, -1], trace._replace(value=values, score=score)


def _advance_all(
    densities: Density,
    geometry: Geometry,
    positions: Float[Array, "S chains dim"],
    keys: Key[Array, " S"],
    num_steps: int,
    settings: SamplerSettings,
) -> tuple[Float[Array, "S chains dim"], _Trace]:
    return eqx.filter_vmap(_advance_one, in_axes=(eqx.if_array(0), 0, 0, 0, None, None))(
        densities, geometry, positions, keys, num_steps, settings
    )


_adapt = Program(adapt_all)
_advance = Program(_advance_all)
