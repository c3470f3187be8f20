"""Two samplers that must agree: how a posterior is sampled whose truth nobody knows.

NUTS gives the draws. The second opinion comes from elliptical slice sampling, or, where the
problem has exact draws, from those: then they are the reference, and NUTS on the model has to
find the same posterior.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.stats import norm

from dncbench.budget import Budget
from dncbench.draws import Check, Draws, Truth
from dncbench.posterior import Posterior, full_posterior, sort_labels
from dncbench.problem import Data
from dncbench.sampling import diagnostics
from dncbench.sampling.diagnostics import MAX_RHAT
from dncbench.sampling.elliptical_slice import elliptical_slice
from dncbench.sampling.nuts import sample
from dncbench.sampling.settings import SamplerSettings
from dncbench.truth.verification import CHECKED_POINTS, TOLERANCE, check_stored

REFERENCE_EFFICIENCY = 0.7
"""Share of the kept draws that their bulk ESS must reach, or sampling goes on and is thinned."""

FALSE_ALARM = 1e-3
"""Probability that two correct samplers are said to disagree, over all comparisons together."""

MAX_RESOLUTION = 0.05
"""Largest standard error of a compared mean, in posterior sds: agreement must mean something."""


def settings_for(budget: Budget) -> SamplerSettings:
    """How the full posterior is sampled under a budget."""
    num_draws = budget.reference_blocks * budget.num_draws
    return SamplerSettings(
        num_draws=num_draws,
        num_chains=budget.num_chains,
        min_ess=max(REFERENCE_EFFICIENCY * num_draws, budget.min_reference_ess),
        window_steps=budget.window_steps,
    )


def certify(
    problem: Posterior,
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    say: Callable[[str], None],
) -> Truth:
    """Draws of NUTS, grade B: elliptical slice sampling must find the same means and sds.

    Args:
        problem: the model.
        data: as loaded.
        key: derived from (seed, problem).
        budget: how many draws.
        say: told what is being done.
    """
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


def certify_exact(
    problem: Posterior,
    data: Data,
    key: PRNGKeyArray,
    budget: Budget,
    exact: Float[np.ndarray, "BN d"],
    say: Callable[[str], None],
) -> Truth:
    """Exact draws, grade A: NUTS on the model must find the same means and sds.

    Args:
        problem, data, key, budget, say: as for :func:`certify`.
        exact: independent draws η of the posterior.
    """
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
