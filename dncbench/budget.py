"""Budgets: how much sampling a run may spend. Their contents are part of every record."""

from dataclasses import asdict, dataclass
from typing import Any

from dncbench.errors import UnknownNameError
from dncbench.registry import nearest


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        name: "smoke", "quick" or "paper".
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


def get(name: str) -> Budget:
    """The budget called ``name``.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in _BUDGETS:
        raise UnknownNameError(
            f"no budget is called {name!r}{nearest(name, NAMES)}; known: {', '.join(NAMES)}"
        )
    return _BUDGETS[name]
