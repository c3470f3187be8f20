"""Certified references: draws of the full posterior, and what each metric reads on perfect draws.

Two samplers that share no algorithm must agree. NUTS gives the draws; elliptical slice
sampling gives the second opinion. It starts from dispersed points of its own; only the
location and scale of its base Gaussian, for any of which it is exact, come from NUTS's
adaptation. Such a reference has grade B.

Where a problem gives exact draws (closed form, quadrature), those are the reference, of
grade A, and NUTS on the model is the second opinion: it has to find the same posterior.

A reference that fails any check has grade C. Exchangeable labels are compared sorted.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from scipy.stats import norm

from dncbench import diagnostics
from dncbench.budget import Budget
from dncbench.draws import Draws
from dncbench.elliptical_slice import elliptical_slice
from dncbench.errors import ContractError
from dncbench.metrics import Sample, read
from dncbench.problem import Problem, full_posterior, num_observations, sort_labels
from dncbench.registry import Entry
from dncbench.sampling import SamplerSettings, sample
from dncbench.store import Cache
from dncbench.verification import CHECKED_POINTS, TOLERANCE, check_stored

VERSION = 1
"""Raised when the meaning of a reference changes; cached ones of another version are not used."""

MAX_RHAT = 1.01
REFERENCE_EFFICIENCY = 0.7
"""Share of the kept draws that their bulk ESS must reach, or sampling goes on and is thinned."""

FALSE_ALARM = 1e-3
"""Probability that two correct samplers are said to disagree, over all comparisons together."""

MAX_RESOLUTION = 0.05
"""Largest standard error of a compared mean, in posterior sds: agreement must mean something."""


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
    kept = recall(problem, identity, budget, cache)
    if kept is not None:
        return kept
    wanted = budget.reference_blocks * budget.num_draws
    exact = problem.exact_draws(data, jax.random.fold_in(key, 1), wanted)
    if exact is None and problem.permutations is not None:
        # The second sampler does not sort labels; nothing could disagree with NUTS.
        raise ContractError(
            f"{identity['id']}: a problem with permutations must give exact_draws as well"
        )
    if exact is None:
        pool, certificate = _certify(problem, data, key, budget, say)
    else:
        pool, certificate = _certify_exact(
            problem, data, key, budget, np.asarray(exact, np.float64), say
        )
    cache.put("references", _cache_key(identity, budget), {"pool": pool}, certificate)
    return _in_blocks(problem, budget, pool, certificate)


def recall(
    problem: Problem, identity: dict[str, Any], budget: Budget, cache: Cache
) -> Reference | None:
    """The reference that an earlier run left in the cache, or None; nothing is sampled.

    Args:
        problem, identity, budget, cache: as for :func:`reference`.
    """
    found = cache.get("references", _cache_key(identity, budget))
    return None if found is None else _in_blocks(problem, budget, found[0]["pool"], found[1])


def _cache_key(identity: dict[str, Any], budget: Budget) -> dict[str, Any]:
    return {
        "version": VERSION,
        "problem": identity,
        "blocks": budget.reference_blocks,
        "num_draws": budget.num_draws,
        "sampler": vars(settings_for(budget)),
    }


def _in_blocks(
    problem: Problem,
    budget: Budget,
    pool: Float[np.ndarray, "BN d"],
    certificate: dict[str, Any],
) -> Reference:
    shape = (budget.reference_blocks, budget.num_draws, problem.dim)
    theta = np.asarray(jax.vmap(problem.constrain)(jnp.asarray(pool)))
    independent = len(theta) if "exact" in certificate else certificate["nuts"]["min_ess_bulk"]
    ess = min(independent / budget.reference_blocks, budget.num_draws)
    return Reference(pool.reshape(shape), theta.reshape(shape), float(ess), certificate)


def noise_floor(
    blocks: list[Sample], metrics: list[Entry], identity: dict[str, Any], cache: Cache
) -> dict[str, dict[str, float]]:
    """What each metric reads between independent sets of reference draws of the same size.

    Args:
        blocks: the sets.
        metrics: entries whose targets are imported.
        identity: of the problem, for the cache.
        cache: where the readings are kept.

    Returns:
        For each metric id its mean, sd and largest value over all pairs of blocks; a
        metric that does not apply to the problem is left out.

    Raises:
        ContractError: a metric raised, or did not return a figure.
    """
    pairs = list(itertools.combinations(blocks, 2))
    floors = {}
    for entry in metrics:
        cache_key = {
            "version": VERSION,
            "problem": identity,
            "metric": entry.id,
            "blocks": [len(blocks), *blocks[0].values.shape],
        }
        found = cache.get("floors", cache_key)
        if found is None:
            figures = [read(entry, *pair) for pair in pairs]
            values = [figure.value for figure in figures if figure is not None]
            found = {"values": np.array(values)}, {}
            cache.put("floors", cache_key, *found)
        readings = found[0]["values"]
        if len(readings):
            floors[entry.id] = {
                "mean": float(np.mean(readings)),
                "sd": float(np.std(readings, ddof=1)),
                "max": float(np.max(readings)),
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
    slice_chains, slice_info = elliptical_slice(
        density,
        geometry,
        key_slice,
        settings.num_chains,
        # Twice as fine as the certificate asks for.
        resolution=0.5 * MAX_RESOLUTION,
        say=lambda what: say(f"reference: {what}"),
    )
    (diagnosed,) = draws.info["diagnostics"]
    certificate = {
        "nuts": _nuts_summary(diagnosed, draws, settings),
        "elliptical_slice": slice_info,
        "agreement": agreement(nuts_chains, slice_chains, names),
        "recomputed": _recompute_error(
            problem, data, draws.values[0], draws.log_density[0], draws.score[0], key_check
        ),
    }
    certificate.update(_grade(certificate, budget))
    # Block b is the b-th stretch of every chain: blocks are nearly independent.
    stretches = nuts_chains.reshape(settings.num_chains, budget.reference_blocks, -1, problem.dim)
    return np.swapaxes(stretches, 0, 1).reshape(-1, problem.dim), certificate


def _certify_exact(
    problem: Problem,
    data: PyTree[Array],
    key: PRNGKeyArray,
    budget: Budget,
    exact: Float[np.ndarray, "BN d"],
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "BN d"], dict[str, Any]]:
    key_nuts, key_check = jax.random.split(key)
    settings = settings_for(budget)
    draws, _ = sample(
        full_posterior(problem, data),
        key_nuts,
        settings,
        problem.parameter_names,
        lambda what: say(f"reference: {what}"),
    )
    (diagnosed,) = draws.info["diagnostics"]
    # Independent draws are chains of any length.
    chains = exact.reshape(settings.num_chains, -1, problem.dim)
    certificate = {
        "exact": {"draws": len(exact)},
        "nuts": _nuts_summary(diagnosed, draws, settings),
        "agreement": agreement(
            _sorted_labels(problem, chains),
            _sorted_labels(problem, draws.by_chain(0)),
            problem.parameter_names,
        ),
        "recomputed": _recompute_error(
            problem, data, draws.values[0], draws.log_density[0], draws.score[0], key_check
        ),
    }
    agreed, nuts = certificate["agreement"], certificate["nuts"]
    failures = _complaints(
        (not nuts["max_rhat"] <= MAX_RHAT, f"NUTS: R-hat {nuts['max_rhat']:.4f} above {MAX_RHAT}"),
        *_shared_checks(agreed, certificate["recomputed"], "NUTS"),
    )
    return exact, certificate | {"grade": "C" if failures else "A", "failures": failures}


def _nuts_summary(
    diagnosed: dict[str, Any], draws: Draws, settings: SamplerSettings
) -> dict[str, Any]:
    return {
        **diagnosed,
        "chains": settings.num_chains,
        "draws": settings.num_draws,
        "thinned_by": draws.info["rounds"],
        "seconds": draws.info["seconds"],
        "compile_seconds": draws.info["compile_seconds"],
    }


def _sorted_labels(
    problem: Problem, chains: Float[np.ndarray, "C T d"]
) -> Float[np.ndarray, "C T d"]:
    if problem.permutations is None:
        return chains
    each = jax.vmap(jax.vmap(lambda eta: sort_labels(problem, eta)))
    return np.asarray(each(jnp.asarray(chains)))


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
    ess = min(nuts["min_ess_bulk"], nuts["min_ess_tail"])
    failures = _complaints(
        (not nuts["max_rhat"] <= MAX_RHAT, f"R-hat {nuts['max_rhat']:.4f} above {MAX_RHAT}"),
        (not ess >= budget.min_reference_ess, f"ESS {ess:.0f} below {budget.min_reference_ess}"),
        (
            not second["max_rhat"] <= MAX_RHAT,
            f"second sampler: R-hat {second['max_rhat']:.4f} above {MAX_RHAT}",
        ),
        *_shared_checks(certificate["agreement"], certificate["recomputed"], "second sampler"),
    )
    return {"grade": "C" if failures else "B", "failures": failures}


def _shared_checks(
    agreed: dict[str, Any], recomputed: dict[str, Any], other: str
) -> list[tuple[bool, str]]:
    error = recomputed["largest_relative_error"]
    return [
        (
            not agreed["largest_z"] <= agreed["threshold_z"],
            f"samplers disagree on the {agreed['largest_z_at']}: "
            f"{agreed['largest_z']:.1f} standard errors",
        ),
        (
            not agreed["resolution_sds"] <= MAX_RESOLUTION,
            f"{other} resolves only {agreed['resolution_sds']:.3f} posterior sds",
        ),
        (
            not error <= TOLERANCE,
            f"stored log densities or scores differ from the model by {error:.1e}",
        ),
    ]


def _complaints(*checks: tuple[bool, str]) -> list[str]:
    return [complaint for failed, complaint in checks if failed]


def _recompute_error(
    problem: Problem,
    data: PyTree[Array],
    values: Float[np.ndarray, "T d"],
    log_density: Float[np.ndarray, " T"],
    score: Float[np.ndarray, "T d"],
    key: PRNGKeyArray,
) -> dict[str, Any]:
    everything = problem.counted(np.arange(num_observations(data)))
    error = check_stored(
        problem, data, everything, values, log_density, score, key, weights=(1.0, 1.0, 1.0)
    )
    return {"points": CHECKED_POINTS, "largest_relative_error": error}
