"""Budgets: how much sampling a run may spend. Their contents are part of every record.

A budget's numbers are settings, written in brackets as those of a method:
``quick[draws_per_shard=2000,num_draws=2000]``.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from dncbench.configure import checked, parse
from dncbench.errors import UnknownNameError, nearest


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        name: "smoke", "quick" or "paper", with what was changed of it in brackets.
        draws_per_shard: T, draws kept of each subposterior.
        num_draws: merged draws scored, and draws in each reference block: the same
            number for every method, because IAD and skew depend on it.
        shard_ess: share of T that the smallest bulk ESS of a shard must reach.
        reference_blocks: blocks of ``num_draws`` reference draws; the first is what
            methods are scored against, the others are the oracle and the noise floor.
        min_reference_ess: bulk and tail ESS that a certified reference must reach.
        num_chains: C, chains of every sampler.
        window_steps: steps of each adaptation window.
    """

    name: str
    draws_per_shard: int
    num_draws: int
    shard_ess: float
    reference_blocks: int
    min_reference_ess: int
    num_chains: int
    window_steps: int

    def contents(self) -> dict[str, Any]:
        """All of it, for the record."""
        return asdict(self)


_BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("smoke", 1_200, 1_200, 0.3, 3, 1_200, 8, 50),
        Budget("quick", 10_000, 10_000, 0.5, 6, 10_000, 16, 75),
        Budget("paper", 50_000, 10_000, 0.5, 6, 10_000, 16, 75),
    )
}
NAMES = tuple(_BUDGETS)

_LIMITS: dict[str, tuple[float, float]] = {
    # Chains are compared with one another; a noise floor's sd needs three blocks.
    "num_chains": (2, 10_000),
    "reference_blocks": (3, 1_000),
    "shard_ess": (1e-6, 1.0),
}
"""Of a budget's numbers; the others are between 1 and 10^9."""


def get(spec: str) -> Budget:
    """The budget that ``spec`` describes: ``"smoke"``, ``"quick[num_draws=2000]"``.

    Raises:
        UnknownNameError: no such budget or setting, or numbers that cannot be sampled.
    """
    name, settings = parse(spec)
    if name not in _BUDGETS:
        raise UnknownNameError(
            f"no budget is called {name!r}{nearest(name, NAMES)}; known: {', '.join(NAMES)}"
        )
    base = _BUDGETS[name]
    known = {key: value for key, value in base.contents().items() if key != "name"}
    settings = checked(f"budget {name!r}", settings, known)
    changed = {key: settings[key] for key in known if settings.get(key, known[key]) != known[key]}
    if not changed:
        return base
    written = ",".join(f"{key}={value}" for key, value in changed.items())
    budget = replace(base, name=f"{name}[{written}]", **changed)
    for key, value in changed.items():
        least, most = _LIMITS.get(key, (1, 10**9))
        if not least <= value <= most:
            raise UnknownNameError(
                f"budget {budget.name!r}: {key} must be between {least} and {most}"
            )
    for key in ("draws_per_shard", "num_draws"):
        draws = getattr(budget, key)
        if draws % budget.num_chains:
            raise UnknownNameError(
                f"budget {budget.name!r}: {key} is {draws}; its {budget.num_chains} chains "
                f"need a multiple of {budget.num_chains}"
            )
    return budget
