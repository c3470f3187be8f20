"""What a reader should know of a cell: its status, and warnings about its draws."""

from collections.abc import Callable
from typing import Any

from dncbench.draws import Draws
from dncbench.sampling.diagnostics import MAX_RHAT
from dncbench.storage.ratios import LOW_SHARE, misses_posterior

MAX_DIVERGENT = 0.01
"""Share of divergent transitions above which a shard's draws come with a warning."""

MAX_MERGE_RHAT = 1.05
MIN_MERGE_ESS = 100.0
"""A merge whose inner MCMC has a larger R-hat or a smaller ESS is marked unreliable."""

MAX_PERSISTENCE = 0.2
"""Correlation of many short chains' first and last places, up to which a large R-hat is no alarm.

Four standard errors for 500 chains that do not stay; at an autocorrelation of 0.86 it is as much.
"""


def status(info: dict[str, Any]) -> dict[str, str]:
    """Unreliable where the merge's own sampling did not converge, or it says so itself."""
    reasons = list(info.get("unreliable", []))
    # Of many short chains R-hat is large whether they mix or not.
    moved = info.get("persistence", 1.0) <= MAX_PERSISTENCE
    if info.get("max_rhat", 1.0) > MAX_MERGE_RHAT and not moved:
        reasons.append(f"R-hat of the merge's own sampling {info['max_rhat']:.2f}")
    if info["ess"] < MIN_MERGE_ESS:
        reasons.append(f"the merged draws are worth {info['ess']:.0f} independent ones")
    if reasons:
        return {"status": "unreliable", "reason": "; ".join(reasons)}
    return {"status": "ok"}


def untrusted(ratios: dict[str, Any] | None) -> list[str]:
    """A warning where the importance ratios say that the fitted density is far off."""
    if ratios is None:
        return []
    if misses_posterior(ratios):
        k_hat = "not finite" if ratios["k_hat"] is None else f"{ratios['k_hat']:.2f}"
        return [f"Pareto k-hat {k_hat}: the fitted density misses parts of the posterior"]
    if ratios["ess_share"] < LOW_SHARE:
        return [
            f"the importance ratios leave {ratios['ess_share']:.0%} of the draws: the fitted "
            "density is off; a further round (rounds=2, where the method has it) or a correction "
            "(+ psis) asks the shards where the merged draws are"
        ]
    return []


_WORST: dict[str, Callable] = {
    "max_rhat": max,
    "min_ess_bulk": min,
    "min_ess_tail": min,
    "divergences": sum,
    "min_bfmi": min,
}


def summary_of(draws: Draws) -> dict[str, Any]:
    """The worst diagnostics over a split's shards, as the record keeps them."""
    worst = draws.info["diagnostics"]
    return {
        "sizes": draws.info["sizes"],
        **{
            name: over(shard[name] for shard in worst)
            for name, over in _WORST.items()
            if all(name in shard for shard in worst)
        },
        "thinned_by": draws.info["rounds"],
        "gradient_evaluations": draws.info["gradient_evaluations"],
    }


def complaints(draws: Draws, kind: str, min_ess: float) -> list[str]:
    """What a reader should know of shards that were not sampled as well as was asked."""
    num_steps = draws.info["rounds"] * draws.values.shape[1]
    lines = []
    for number, shard in enumerate(draws.info["diagnostics"]):
        if shard["max_rhat"] > MAX_RHAT or shard["min_ess_bulk"] < min_ess:
            lines.append(
                f"{kind} shard {number}: R-hat {shard['max_rhat']:.3f} in "
                f"{shard['max_rhat_parameter']}, bulk ESS {shard['min_ess_bulk']:.0f} in "
                f"{shard['min_ess_bulk_parameter']}"
            )
        if shard.get("divergences", 0) > MAX_DIVERGENT * num_steps:
            lines.append(
                f"{kind} shard {number}: {shard['divergences'] / num_steps:.1%} of the "
                "transitions diverged"
            )
    return lines
