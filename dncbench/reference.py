"""Certified references: draws of the full posterior, and what each metric reads on perfect draws.

Two samplers that share no algorithm must agree. NUTS gives the draws; an elliptical
slice sampler (Murray, Adams & MacKay 2010, in the generalised form of Nishihara,
Murray & Adams 2014) gives the second opinion: it uses no gradient, no momentum and no
step size, and is exact for any base Gaussian. It starts from dispersed points of its
own; only the base's location and scale come from NUTS's adaptation.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from scipy.stats import norm

from dncbench import diagnostics
from dncbench.budget import Budget
from dncbench.metrics import Sample
from dncbench.problem import Density, Problem, full_posterior, num_observations, recompute
from dncbench.registry import Entry
from dncbench.sampling import Geometry, SamplerSettings, sample
from dncbench.store import Cache
from dncbench.timing import Program

VERSION = 1
"""Raised when the meaning of a reference changes; cached ones of another version are not used."""

MAX_RHAT = 1.01
REFERENCE_EFFICIENCY = 0.7
"""Share of the kept draws that their bulk ESS must reach, or sampling goes on and is thinned."""

FALSE_ALARM = 1e-3
"""Probability that two correct samplers are said to disagree, over all comparisons together."""

MAX_RESOLUTION = 0.05
"""Largest standard error of a compared mean, in posterior sds: agreement must mean something."""

_BASE_INFLATION = 1.25  # variance of the base against the target's: keeps its tails covered
_STEPS_PER_DRAW = 10
_DRAWS_PER_ROUND = 250
_BURN_IN_DRAWS = 100
_MOST_ROUNDS = 12
_CHECKED_POINTS = 32
_CHECK_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Reference:
    """Draws of the full posterior with their certificate.

    Attributes:
        eta_blocks: (B, N, d) unconstrained η; B nearly independent sets of N draws.
        blocks: the same as natural parameters θ.
        ess: how many independent draws one block is worth (smallest bulk ESS).
        certificate: diagnostics, agreement, grade and its reasons; plain JSON values.
    """

    eta_blocks: Float[np.ndarray, "B N d"]
    blocks: Float[np.ndarray, "B N d"]
    ess: float
    certificate: dict[str, Any]

    def sample(self, block: int = 0) -> Sample:
        """One block as a sample; 0 is what methods are scored against."""
        return Sample(self.blocks[block], self.ess)

    def fresh(self, split: int) -> int:
        """The block that the oracle scores in a split; the splits take them in turn."""
        return 1 + split % (len(self.blocks) - 1)


def settings_for(budget: Budget) -> SamplerSettings:
    """How the full posterior is sampled under a budget."""
    num_draws = budget.reference_blocks * budget.num_draws
    return SamplerSettings(
        num_draws=num_draws,
        num_chains=budget.num_chains,
        min_ess=max(REFERENCE_EFFICIENCY * num_draws, budget.min_reference_ess),
        window_steps=budget.window_steps,
        target_acceptance=0.9,  # fewer divergences than the usual 0.8, for the truth's sake
    )


def reference(
    problem: Problem,
    identity: dict[str, Any],
    data: PyTree[Array],
    key: PRNGKeyArray,
    budget: Budget,
    cache: Cache,
    say: Callable[[str], None] = lambda message: None,
) -> Reference:
    """The reference of a problem under a budget, from the cache or made and certified now.

    Args:
        problem: the model.
        identity: what determines the problem (id, settings, data checksum, seed).
        data: its observations.
        key: derived from (seed, problem).
        budget: how many draws.
        cache: where it is kept.
        say: told what is being done.
    """
    cache_key = {
        "version": VERSION, "problem": identity, "blocks": budget.reference_blocks,
        "num_draws": budget.num_draws, "sampler": vars(settings_for(budget)),
    }
    found = cache.get("references", cache_key)
    if found is None:
        pool, certificate = _certify(problem, data, key, budget, say)
        found = {"pool": pool}, certificate
        cache.put("references", cache_key, *found)
    arrays, certificate = found
    theta = np.asarray(jax.vmap(problem.constrain)(jnp.asarray(arrays["pool"])))
    shape = (budget.reference_blocks, budget.num_draws, problem.dim)
    ess = min(certificate["nuts"]["min_ess_bulk"] / budget.reference_blocks, budget.num_draws)
    return Reference(arrays["pool"].reshape(shape), theta.reshape(shape), float(ess), certificate)


def noise_floor(
    reference: Reference, metrics: list[Entry], identity: dict[str, Any], cache: Cache
) -> dict[str, dict[str, float]]:
    """What each metric reads between independent sets of reference draws of the same size.

    Returns:
        For each metric id its mean, sd and largest value over all pairs of blocks.
    """
    pairs = list(itertools.combinations(range(len(reference.blocks)), 2))
    floors = {}
    for entry in metrics:
        cache_key = {
            "version": VERSION, "problem": identity, "metric": entry.id,
            "blocks": list(reference.blocks.shape),
        }
        found = cache.get("floors", cache_key)
        if found is None:
            values = [
                entry.target(reference.sample(i), reference.sample(j)).value for i, j in pairs
            ]
            found = {"values": np.array(values)}, {}
            cache.put("floors", cache_key, *found)
        values = found[0]["values"]
        floors[entry.id] = {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)),
            "max": float(np.max(values)),
        }
    return floors


# ---------------------------------------------------------------- certifying


def _certify(
    problem: Problem,
    data: PyTree[Array],
    key: PRNGKeyArray,
    budget: Budget,
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "BN d"], dict[str, Any]]:
    key_nuts, key_slice, key_check = jax.random.split(key, 3)
    density = full_posterior(problem, data)
    names = problem.parameter_names
    settings = settings_for(budget)
    draws, geometry = sample(
        density, key_nuts, settings, names, lambda what: say(f"reference: {what}")
    )
    nuts_chains = draws.by_chain(0)
    slice_chains, slice_info = _elliptical_slice(density, geometry, key_slice, problem.dim, say)
    (diagnosed,) = draws.info["diagnostics"]
    certificate = {
        "nuts": {
            **diagnosed,
            "chains": settings.num_chains,
            "draws": settings.num_draws,
            "thinned_by": draws.info["rounds"],
            "seconds": draws.info["seconds"],
            "compile_seconds": draws.info["compile_seconds"],
        },
        "elliptical_slice": slice_info,
        "agreement": agreement(nuts_chains, slice_chains, names),
        "recomputed": _recompute_error(problem, data, draws.values[0], draws.log_density[0],
                                       draws.score[0], key_check),
    }
    certificate.update(_grade(certificate, budget))
    # Block b is the b-th stretch of every chain: blocks are nearly independent.
    stretches = nuts_chains.reshape(settings.num_chains, budget.reference_blocks, -1, problem.dim)
    return np.swapaxes(stretches, 0, 1).reshape(-1, problem.dim), certificate


def agreement(
    first: Float[np.ndarray, "C1 T1 d"],
    second: Float[np.ndarray, "C2 T2 d"],
    names: tuple[str, ...],
) -> dict[str, Any]:
    """Compare every marginal mean and standard deviation of two samplers' draws.

    Returns:
        The largest |difference| / standard error, where it is, the threshold that
        keeps false alarms at ``FALSE_ALARM`` over all comparisons (Bonferroni), and
        the largest standard error of a difference of means, in posterior sds.
    """
    spread = first.std((0, 1), ddof=1)
    scores, resolution = {}, 0.0
    for what, estimate in (("mean", np.mean), ("sd", np.std)):
        gap = estimate(first, (0, 1)) - estimate(second, (0, 1))
        error = np.hypot(diagnostics.mcse(first, what), diagnostics.mcse(second, what))
        scores[what] = np.abs(gap) / error
        if what == "mean":
            resolution = float(np.max(error / spread))
    worst = max(scores, key=lambda what: np.max(scores[what]))
    return {
        "largest_z": float(np.max(scores[worst])),
        "largest_z_at": f"{worst} of {names[int(np.argmax(scores[worst]))]}",
        "threshold_z": float(norm.isf(FALSE_ALARM / (2 * 2 * len(names)))),
        "resolution_sds": resolution,
    }


def _grade(certificate: dict[str, Any], budget: Budget) -> dict[str, Any]:
    nuts, second = certificate["nuts"], certificate["elliptical_slice"]
    agreed = certificate["agreement"]
    recomputed = certificate["recomputed"]["largest_relative_error"]
    ess = min(nuts["min_ess_bulk"], nuts["min_ess_tail"])
    failures = [
        complaint
        for failed, complaint in (
            (not nuts["max_rhat"] <= MAX_RHAT, f"R-hat {nuts['max_rhat']:.4f} above {MAX_RHAT}"),
            (
                not ess >= budget.min_reference_ess,
                f"ESS {ess:.0f} below {budget.min_reference_ess}",
            ),
            (
                not second["max_rhat"] <= MAX_RHAT,
                f"second sampler: R-hat {second['max_rhat']:.4f} above {MAX_RHAT}",
            ),
            (
                not agreed["largest_z"] <= agreed["threshold_z"],
                f"samplers disagree on the {agreed['largest_z_at']}: "
                f"{agreed['largest_z']:.1f} standard errors",
            ),
            (
                not agreed["resolution_sds"] <= MAX_RESOLUTION,
                f"second sampler resolves only {agreed['resolution_sds']:.3f} posterior sds",
            ),
            (
                not recomputed <= _CHECK_TOLERANCE,
                f"stored log densities or scores differ from the model by {recomputed:.1e}",
            ),
        )
        if failed
    ]
    return {"grade": "C" if failures else "B", "failures": failures}


def _recompute_error(
    problem: Problem,
    data: PyTree[Array],
    values: Float[np.ndarray, "T d"],
    log_density: Float[np.ndarray, " T"],
    score: Float[np.ndarray, "T d"],
    key: PRNGKeyArray,
) -> dict[str, Any]:
    everything = np.arange(num_observations(data))
    error = check_stored(
        problem, data, everything, values, log_density, score, key, weights=(1.0, 1.0)
    )
    return {"points": _CHECKED_POINTS, "largest_relative_error": error}


def check_stored(
    problem: Problem,
    data: PyTree[Array],
    rows: np.ndarray,
    values: Float[np.ndarray, "T d"],
    log_density: Float[np.ndarray, " T"],
    score: Float[np.ndarray, "T d"],
    key: PRNGKeyArray,
    weights: tuple[float, float],
) -> float:
    """Recompute log densities and scores of a random subset of draws from the model.

    A wrong prior exponent or a stale gradient is caught here.

    Args:
        problem: the model.
        data: its observations.
        rows: those of the shard.
        values: stored draws, with their
        log_density: log densities and
        score: scores.
        key: picks the subset.
        weights: exponents of the prior and of the likelihood.

    Returns:
        The largest error: of log densities relative to their size, of scores relative
        to the root mean square of the score in that coordinate.
    """
    picked = np.asarray(jax.random.choice(key, len(values), (_CHECKED_POINTS,), replace=False))
    true_value, true_score = recompute(problem, data, rows, values[picked], *weights)
    of_value = np.abs(log_density[picked] - true_value) / np.maximum(1.0, np.abs(true_value))
    size = np.sqrt(np.mean(true_score**2, axis=0)) + 1e-300
    of_score = np.abs(score[picked] - true_score) / size
    return float(max(of_value.max(), of_score.max()))


# ---------------------------------------------------------------- the second sampler


def _elliptical_slice(
    density: Density,
    geometry: Geometry,
    key: PRNGKeyArray,
    dim: int,
    say: Callable[[str], None],
    num_chains: int = 16,
) -> tuple[Float[np.ndarray, "C T d"], dict[str, Any]]:
    """Run the slice sampler until the certificate's resolution is had; it starts dispersed."""
    key_start, key_run = jax.random.split(key)
    z = 1.5 * jax.random.normal(key_start, (num_chains, dim))
    rounds: list[np.ndarray] = []
    seconds = compile_seconds = 0.0
    resolution = np.inf
    for number in range(_MOST_ROUNDS + 1):
        say(f"reference: second sampler, round {number + 1}")
        keys = jax.random.split(jax.random.fold_in(key_run, number), num_chains)
        done = _slice_program(density, geometry, z, keys, _DRAWS_PER_ROUND)
        z, visited = done.value
        seconds, compile_seconds = seconds + done.run, compile_seconds + done.compile
        rounds.append(np.asarray(visited))
        if number == 0:
            rounds = [rounds[0][:, _BURN_IN_DRAWS:]]
            continue
        chains = np.concatenate(rounds, axis=1)
        error = diagnostics.mcse(chains, "mean") / chains.std((0, 1))
        resolution = float(np.max(error))
        if resolution <= 0.5 * MAX_RESOLUTION and np.max(diagnostics.rhat(chains)) <= MAX_RHAT:
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


def _slice_chains(
    density: Density, geometry: Geometry, z: Array, keys: PRNGKeyArray, num_draws: int
) -> tuple[Float[Array, "C d"], Float[Array, "C T d"]]:
    from blackjax.mcmc import elliptical_slice

    one = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, density)
    mean, factor = geometry.mean[0], geometry.factor[0]

    def residual(z: Array) -> Array:
        return one(mean + factor @ z) + 0.5 * jnp.sum(z**2) / _BASE_INFLATION

    base = jnp.full(z.shape[1], _BASE_INFLATION)
    algorithm = elliptical_slice.as_top_level_api(residual, mean=jnp.zeros_like(base), cov=base)

    def chain(key: PRNGKeyArray, z: Array) -> Array:
        def keep(state: Any, key: PRNGKeyArray) -> tuple:
            def move(state: Any, key: PRNGKeyArray) -> tuple:
                return algorithm.step(key, state)[0], None

            state, _ = jax.lax.scan(move, state, jax.random.split(key, _STEPS_PER_DRAW))
            return state, state.position

        return jax.lax.scan(keep, algorithm.init(z), jax.random.split(key, num_draws))[1]

    path = jax.vmap(chain)(keys, z)
    return path[:, -1], mean + path @ factor.T


_slice_program = Program(_slice_chains)
