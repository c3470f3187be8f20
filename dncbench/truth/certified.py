"""Certified references: draws of the full posterior, and why they can be trusted.

A certificate is a list of checks, each with a limit or only told, whatever made the draws:

- A problem that knows its posterior (an enumeration, a closed form) brings draws and checks
  of its own; nothing is sampled.
- A posterior with exact draws has them held against NUTS on the model, the second opinion,
  which has to find the same posterior. Both of these have grade A.
- For any other posterior two samplers that share no algorithm must agree. NUTS gives the
  draws; elliptical slice sampling gives the second opinion. It starts from dispersed points
  of its own; only the location and scale of its base Gaussian, for any of which it is exact,
  come from NUTS's adaptation. Such a reference has grade B.

A reference that fails any check has grade C. Exchangeable labels are compared sorted.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray, Shaped
from scipy.stats import norm

from dncbench.budget import Budget
from dncbench.draws import Check, Draws, Truth, evenly
from dncbench.errors import ContractError
from dncbench.posterior import Posterior, full_posterior, sort_labels
from dncbench.problem import Data, Problem
from dncbench.sampling import diagnostics
from dncbench.sampling.diagnostics import MAX_RHAT
from dncbench.sampling.elliptical_slice import elliptical_slice
from dncbench.sampling.nuts import sample
from dncbench.sampling.settings import SamplerSettings
from dncbench.storage.cache import Cache, fingerprint
from dncbench.truth.verification import (
    CHECKED_POINTS,
    TOLERANCE,
    check_stored,
    log_densities_at,
)

VERSION = 3
"""Raised when the meaning of a reference changes; cached ones of another version are not used."""

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
        blocks: (B, N, ...) draws in the problem's space; B nearly independent sets of N.
        embedded: (B, N, p) the points that they stand for: natural parameters θ, for
            continuous ones.
        ess: how many independent draws one block is worth.
        certificate: ``grade``, ``checks``, and the sentences of those that failed; plain
            JSON values.
        log_probs: (K,) exact log probabilities of all objects of a finite support, or None.
    """

    blocks: Shaped[np.ndarray, "B N ..."]
    embedded: Float[np.ndarray, "B N p"]
    ess: float
    certificate: dict[str, Any]
    log_probs: Float[np.ndarray, " K"] | None = None

    @property
    def checks(self) -> list[Check]:
        """The lines of the certificate."""
        return [
            Check(**check | {"value": float(check["value"])})
            for check in self.certificate["checks"]
        ]

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the draws: what was computed of them is of these and no others."""
        law = {} if self.log_probs is None else {"log_probs": self.log_probs}
        return fingerprint({"blocks": self.blocks} | law)

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
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    cache: Cache,
    say: Callable[[str], None] = lambda message: None,
) -> Reference:
    """The reference of a problem under a budget, from the cache or made and certified now.

    Args:
        problem: the model.
        identity: what determines the problem (id, settings, data checksum, seed).
        data: as loaded.
        key: derived from (seed, problem).
        budget: how many draws.
        cache: where it is kept.
        say: told what is being done.

    Raises:
        ContractError: the problem neither knows its truth nor can it be sampled.
    """
    kept = recall(problem, identity, data, budget, cache)
    if kept is not None:
        return kept
    wanted = budget.reference_blocks * budget.num_draws
    truth = problem.truth(data, jax.random.fold_in(key, 1), wanted)
    if truth is None:
        truth = _sampled(problem, identity["id"], data, key, budget, say)
    else:
        truth = _checked(problem, identity["id"], truth, wanted)
    failures = [check.sentence() for check in truth.checks if check.failed]
    certificate = {
        "grade": "C" if failures else truth.grade,
        "failures": failures,
        "checks": [_plain(check) for check in truth.checks],
    }
    arrays = {"pool": np.asarray(truth.pool)} | _anchors(problem, data, np.asarray(truth.pool))
    if truth.log_probs is not None:
        arrays["log_probs"] = np.asarray(truth.log_probs, np.float64)
    # Draws whose worth cannot be told, of a coordinate that stands still, count as one.
    independent = float(truth.independent) if np.isfinite(truth.independent) else 1.0
    info = {"certificate": certificate, "independent": independent}
    cache.put("references", _cache_key(identity, budget), arrays, info)
    return _in_blocks(problem, budget, arrays, info)


def _plain(check: Check) -> dict[str, Any]:
    """A check as JSON, which has no number for what is none: "nan", "inf"."""
    finite = np.isfinite(check.value)
    return check._asdict() | ({} if finite else {"value": str(float(check.value))})


def _sampled(
    problem: Problem,
    name: str,
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    say: Callable[[str], None],
) -> Truth:
    if not isinstance(problem, Posterior):
        raise ContractError(
            f"{name}: truth() gave None, and only a dncbench.Posterior can be sampled by the "
            "harness; give the truth as a dncbench.draws.Truth"
        )
    wanted = budget.reference_blocks * budget.num_draws
    exact = problem.exact_draws(data.train, jax.random.fold_in(key, 1), wanted)
    if exact is not None:
        return _certify_exact(problem, data, key, budget, np.asarray(exact, np.float64), say)
    if problem.permutations is not None:
        # The second sampler does not sort labels; nothing could disagree with NUTS.
        raise ContractError(f"{name}: a problem with permutations must give exact_draws as well")
    return _certify(problem, data, key, budget, say)


def _checked(problem: Problem, name: str, truth: Truth, wanted: int) -> Truth:
    """A problem's own truth, held to what a certificate is."""
    if not truth.checks:
        raise ContractError(f"{name}: its truth has no checks; say what makes it trustworthy")
    pool = problem.space.check(np.asarray(truth.pool)[:wanted], wanted, f"{name}.truth()")
    if truth.log_probs is None:
        return truth._replace(pool=pool)
    total = float(np.sum(np.exp(np.asarray(truth.log_probs, np.float64))))
    adds_up = Check("probabilities: |sum - 1|", abs(total - 1.0), 1e-9)
    return truth._replace(pool=pool, checks=(*truth.checks, adds_up))


def recall(
    problem: Problem, identity: dict[str, Any], data: Data, budget: Budget, cache: Cache
) -> Reference | None:
    """The reference that an earlier run left in the cache, or None; nothing is sampled.

    It is held against the model: log densities of some of its draws are computed again, and
    where they differ from what they were, the model or the draws are not what they were either.

    Args:
        problem, identity, data, budget, cache: as for :func:`reference`.
    """

    def check(arrays: dict[str, np.ndarray], info: Any) -> None:
        _in_blocks(problem, budget, arrays, info)
        for name, now in _anchors(problem, data, arrays["pool"]).items():
            gap = np.abs(arrays[name] - now) / np.maximum(1.0, np.abs(now))
            if not np.max(gap) <= TOLERANCE:
                raise ValueError(
                    f"its draws had other log densities when they were made: they differ by "
                    f"{np.max(gap):.1e} from those of the present model"
                )

    found = cache.get("references", _cache_key(identity, budget), check)
    return None if found is None else _in_blocks(problem, budget, *found)


def _anchors(problem: Problem, data: Data, pool: np.ndarray) -> dict[str, np.ndarray]:
    """Log densities of evenly spread draws; none where the problem has no density."""
    density = problem.density(data, problem.whole(data), "full", problem.space)
    if density is None:
        return {}
    rows = evenly(len(pool), min(CHECKED_POINTS, len(pool)))
    return {"log_density": log_densities_at(density, pool[rows])}


def _cache_key(identity: dict[str, Any], budget: Budget) -> dict[str, Any]:
    return {
        "version": VERSION,
        "problem": identity,
        "blocks": budget.reference_blocks,
        "num_draws": budget.num_draws,
        "sampler": vars(settings_for(budget)),
    }


def _in_blocks(
    problem: Problem, budget: Budget, arrays: dict[str, np.ndarray], info: dict[str, Any]
) -> Reference:
    shape = (budget.reference_blocks, budget.num_draws)
    num_draws = shape[0] * shape[1]
    pool = problem.space.check(arrays["pool"], num_draws, "an earlier run")
    embedded = problem.space.embed(pool)
    ess = min(info["independent"] / budget.reference_blocks, budget.num_draws)
    certificate = info["certificate"]
    for check in certificate["checks"]:
        Check(**check)
    return Reference(
        pool.reshape(*shape, *pool.shape[1:]),
        embedded.reshape(*shape, -1),
        float(ess),
        {name: certificate[name] for name in ("grade", "failures", "checks")},
        arrays.get("log_probs"),
    )


# ---------------------------------------------------------------- certifying


def _certify(
    problem: Posterior,
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    say: Callable[[str], None],
) -> Truth:
    key_nuts, key_slice, key_check = jax.random.split(key, 3)
    density = full_posterior(problem, data)
    names = problem.parameter_names
    settings = settings_for(budget)
    draws, geometry = sample(
        density, key_nuts, settings, names, lambda what: say(f"reference: {what}")
    )
    nuts_chains = draws.by_chain(0)
    slice_chains, second = elliptical_slice(
        density,
        geometry,
        key_slice,
        settings.num_chains,
        # Twice as fine as the certificate asks for.
        resolution=0.5 * MAX_RESOLUTION,
        say=lambda what: say(f"reference: {what}"),
    )
    (nuts,) = draws.info["diagnostics"]
    checks = (
        *_nuts_checks(nuts, draws, settings, budget.min_reference_ess),
        Check(
            "second sampler: chains without a start",
            second["chains_without_start"],
            0,
            "no finite log density",
        ),
        Check("second sampler: R-hat", second["max_rhat"], MAX_RHAT),
        Check("second sampler: bulk ESS", second["min_ess_bulk"]),
        Check("second sampler: tail ESS", second["min_ess_tail"]),
        Check("second sampler: steps", second["steps"], None, "elliptical slice sampling"),
        Check("second sampler: seconds", second["seconds"], None, "without compilation"),
        *_agreement_checks(agreement(nuts_chains, slice_chains, names), "second sampler"),
        _recomputed(problem, data, draws, key_check),
    )
    # Block b is the b-th stretch of every chain: blocks are nearly independent.
    stretches = nuts_chains.reshape(settings.num_chains, budget.reference_blocks, -1, problem.dim)
    pool = np.swapaxes(stretches, 0, 1).reshape(-1, problem.dim)
    return Truth(pool, nuts["min_ess_bulk"], None, checks, "B")


def _certify_exact(
    problem: Posterior,
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    exact: Float[np.ndarray, "BN d"],
    say: Callable[[str], None],
) -> Truth:
    key_nuts, key_check = jax.random.split(key)
    settings = settings_for(budget)
    draws, _ = sample(
        full_posterior(problem, data),
        key_nuts,
        settings,
        problem.parameter_names,
        lambda what: say(f"reference: {what}"),
    )
    (nuts,) = draws.info["diagnostics"]
    # Independent draws are chains of any length.
    chains = exact.reshape(settings.num_chains, -1, problem.dim)
    agreed = agreement(
        _sorted_labels(problem, chains),
        _sorted_labels(problem, draws.by_chain(0)),
        problem.parameter_names,
    )
    checks = (
        Check("exact draws", len(exact), None, "independent; NUTS only has to agree"),
        *_nuts_checks(nuts, draws, settings, None),
        *_agreement_checks(agreed, "NUTS"),
        _recomputed(problem, data, draws, key_check),
    )
    return Truth(exact, len(exact), None, checks, "A")


def _nuts_checks(
    nuts: dict[str, Any], draws: Draws, settings: SamplerSettings, min_ess: float | None
) -> tuple[Check, ...]:
    return (
        Check("NUTS: R-hat", nuts["max_rhat"], MAX_RHAT, nuts["max_rhat_parameter"]),
        *(
            Check(
                f"NUTS: {kind} ESS",
                nuts[f"min_ess_{kind}"],
                min_ess,
                nuts[f"min_ess_{kind}_parameter"],
                at_least=True,
            )
            for kind in ("bulk", "tail")
        ),
        Check("NUTS: divergences", nuts["divergences"]),
        Check("NUTS: smallest E-BFMI", nuts["min_bfmi"]),
        Check("NUTS: draws kept", settings.num_draws, None, f"{settings.num_chains} chains"),
        Check("NUTS: thinned by", draws.info["rounds"]),
        Check("NUTS: seconds", draws.info["seconds"], None, "without compilation"),
    )


def _agreement_checks(agreed: dict[str, Any], other: str) -> tuple[Check, ...]:
    return (
        Check(
            "agreement: largest difference in standard errors",
            agreed["largest_z"],
            agreed["threshold_z"],
            agreed["largest_z_at"],
        ),
        Check(
            f"agreement: resolution of the {other} in posterior sds",
            agreed["resolution_sds"],
            MAX_RESOLUTION,
            "the least certain mean",
        ),
    )


def _recomputed(problem: Posterior, data: Data, draws: Draws, key: PRNGKeyArray) -> Check:
    whole = problem.whole(data)
    error = check_stored(problem, data, whole, 0, draws, key, (1.0, 1.0, 1.0))
    return Check(
        "recomputed from the model: largest relative error",
        error,
        TOLERANCE,
        f"{CHECKED_POINTS} draws, log densities and scores",
    )


def _sorted_labels(
    problem: Posterior, chains: Float[np.ndarray, "C T d"]
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
