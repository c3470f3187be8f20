"""Two samplers that must agree: how a posterior is sampled whose truth nobody knows.

NUTS gives the draws, its chains dealt over all modes that are found from dispersed points. The
second opinion comes from tempered sequential Monte Carlo, which takes nothing from NUTS, or,
where the problem has exact draws, from those: then they are the reference, and NUTS on the
model has to find the same posterior.
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
from dncbench.sampling.nuts import sample
from dncbench.sampling.settings import SamplerSettings
from dncbench.sampling.tempered import tempered
from dncbench.truth.verification import CHECKED_POINTS, TOLERANCE, check_stored

REFERENCE_EFFICIENCY = 0.7
"""Share of the kept draws that their bulk ESS must reach, or sampling goes on and is thinned."""

FALSE_ALARM = 1e-3
"""Probability that two correct samplers are said to disagree, over all comparisons together."""

MAX_EVIDENCE_Z = float(norm.isf(FALSE_ALARM / 2))
"""Standard errors that the log evidence of the second sampler's two runs may lie apart."""

POWER = 0.9
"""Probability of noticing the shift that a certificate states."""

_LEAST_SHARE = 0.5  # of the resolution, that the second sampler is at most asked for
_MARGIN = 0.95  # of what NUTS leaves of it

_QUANTILES = (0.05, 0.95)


def required_resolution(budget: Budget) -> float:
    """Largest standard error of a difference of means, in posterior sds: the metrics' floor.

    Means of two sets of ``num_draws`` perfect draws differ by so much: an error of the
    reference that agreement cannot resolve is then none that a metric could read.
    """
    return float(np.sqrt(2.0 / budget.num_draws))


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
    """Draws of NUTS, grade B: tempered sequential Monte Carlo must find the same posterior.

    Args:
        problem: the model.
        data: as loaded.
        key: derived from (seed, problem).
        budget: how many draws.
        say: told what is being done.
    """
    key_nuts, key_second, key_check = jax.random.split(key, 3)
    density = full_posterior(problem, data)
    settings = settings_for(budget)
    told = lambda what: say(f"reference: {what}")  # noqa: E731
    draws = sample(density, key_nuts, settings, problem.parameter_names, told, all_modes=True)
    resolution = required_resolution(budget)
    (nuts,) = draws.info["diagnostics"]
    nuts_chains = draws.by_chain(0)
    asked = _remaining_resolution(nuts_chains, resolution)
    chains, log_densities, second = tempered(density, key_second, asked, told)
    assert draws.log_density is not None
    nuts_log_densities = draws.log_density[0].reshape(nuts_chains.shape[:2])
    agreed = agreement(
        np.concatenate([nuts_chains, nuts_log_densities[..., None]], axis=-1),
        np.concatenate([chains, log_densities[..., None]], axis=-1),
        (*problem.parameter_names, "the log density"),
    )
    checks = (
        *_nuts_checks(draws, settings, budget.min_reference_ess),
        *_second_checks(second),
        *_agreement_checks(agreed, "second sampler", resolution),
        _recomputed(problem, data, draws, key_check),
    )
    return Truth(draws.values[0], nuts["min_ess_bulk"], None, checks, "B")


def _remaining_resolution(nuts_chains: Float[np.ndarray, "C T d"], resolution: float) -> float:
    """The second sampler's largest error of a mean, in posterior sds, if NUTS has its own."""
    error = np.max(diagnostics.mcse(nuts_chains, "mean") / nuts_chains.std((0, 1)))
    left = resolution**2 - float(error) ** 2
    return _MARGIN * float(np.sqrt(max(left, (_LEAST_SHARE * resolution) ** 2)))


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
    draws = sample(
        full_posterior(problem, data),
        key_nuts,
        settings,
        problem.parameter_names,
        lambda what: say(f"reference: {what}"),
        all_modes=True,
    )
    # Independent draws are chains of any length.
    chains = exact.reshape(settings.num_chains, -1, problem.dim)
    agreed = agreement(
        _sorted_labels(problem, chains),
        _sorted_labels(problem, draws.by_chain(0)),
        problem.parameter_names,
    )
    checks = (
        Check("exact draws", len(exact), None, "independent; NUTS only has to agree"),
        *_nuts_checks(draws, settings, None),
        *_agreement_checks(agreed, "NUTS", required_resolution(budget)),
        _recomputed(problem, data, draws, key_check),
    )
    return Truth(exact, len(exact), None, checks, "A")


def _nuts_checks(
    draws: Draws, settings: SamplerSettings, min_ess: float | None
) -> tuple[Check, ...]:
    ((nuts,), (modes,)) = draws.info["diagnostics"], draws.info["modes"]
    where = nuts["max_rhat_parameter"]
    if modes > 1 and not nuts["max_rhat"] <= MAX_RHAT:
        where += (
            f"; chains stay in the {modes} modes they started in: give the problem exact_draws, "
            "permutations, or a parametrisation that joins its modes"
        )
    return (
        Check("NUTS: modes found", modes, None, "chains start around each of them"),
        Check("NUTS: R-hat", nuts["max_rhat"], MAX_RHAT, where),
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


def _second_checks(second: dict[str, Any]) -> tuple[Check, ...]:
    """What is said of the second sampler, whose draws are checked for agreement elsewhere."""
    return (
        Check(
            "second sampler: inverse temperature reached",
            second["beta"],
            1.0,
            "tempered sequential Monte Carlo",
            at_least=True,
        ),
        Check(
            "second sampler: temperatures",
            second["temperatures"],
            None,
            f"{second['runs']} runs of {second['particles']} particles",
        ),
        Check("second sampler: log evidence", second["log_evidence"], None, "bridge sampling"),
        Check(
            "second sampler: log evidence of the weights",
            second["log_evidence_of_weights"],
            None,
            "off where particles lagged behind the temperature",
        ),
        Check(
            "second sampler: two runs' log evidence apart in standard errors",
            second["evidence_z"],
            MAX_EVIDENCE_Z,
            f"standard error {second['evidence_error']:.2g}",
        ),
        Check(
            "second sampler: nested R-hat",
            second["max_rhat"],
            MAX_RHAT,
            f"{second['chains']} chains in {second['groups']} groups",
        ),
        Check("second sampler: bulk ESS", second["min_ess_bulk"]),
        Check("second sampler: tail ESS", second["min_ess_tail"]),
        Check("second sampler: densities evaluated", second["evaluations"]),
        Check("second sampler: seconds", second["seconds"], None, "without compilation"),
    )


def _agreement_checks(agreed: dict[str, Any], other: str, resolution: float) -> tuple[Check, ...]:
    noticed = (agreed["threshold_z"] + norm.isf(1.0 - POWER)) * agreed["resolution_sds"]
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
            resolution,
            "the least certain mean",
        ),
        Check(
            "agreement: shift of a mean that would be noticed, in posterior sds",
            noticed,
            None,
            f"with {100 * POWER:.0f} % probability",
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
    """Compare every marginal mean, standard deviation and tail of two samplers' draws.

    Returns:
        The largest |difference| / standard error, where it is, the threshold that
        keeps false alarms at ``FALSE_ALARM`` over all comparisons (Bonferroni), and
        the largest standard error of a difference of means, in posterior sds.
    """
    compared: list[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = [
        ("mean", {"of": "mean"}, lambda draws: np.mean(draws, (0, 1))),
        ("sd", {"of": "sd"}, lambda draws: np.std(draws, (0, 1))),
        *(
            (
                f"{100 * prob:.0f} % quantile",
                {"of": "quantile", "prob": prob},
                lambda draws, prob=prob: np.quantile(draws, prob, (0, 1)),
            )
            for prob in _QUANTILES
        ),
    ]
    scores, errors = {}, {}
    for what, of, estimate in compared:
        errors[what] = np.hypot(diagnostics.mcse(first, **of), diagnostics.mcse(second, **of))
        scores[what] = np.abs(estimate(first) - estimate(second)) / errors[what]
    worst = max(scores, key=lambda what: np.max(scores[what]))
    return {
        "largest_z": float(np.max(scores[worst])),
        "largest_z_at": f"{worst} of {names[int(np.argmax(scores[worst]))]}",
        "threshold_z": float(norm.isf(FALSE_ALARM / (2 * len(compared) * len(names)))),
        "resolution_sds": float(np.max(errors["mean"] / first.std((0, 1), ddof=1))),
    }
