"""Boards, each with the very records that its rows were made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dncbench import leaderboard
from dncbench.leaderboard import Board
from dncbench.store import latest


@dataclass
class Group:
    """One board and its records.

    Attributes:
        board: with every metric.
        records: by method label, by split; stale ones are left out.
    """

    board: Board
    records: dict[str, list[dict[str, Any]]]

    @property
    def identity(self) -> dict[str, Any]:
        """Of any record: problem, scheme, budget, seed and space are those of all."""
        return next(iter(self.records.values()))[0]["identity"]


def groups(
    records: list[dict[str, Any]], problems: Iterable[str] = (), budgets: Iterable[str] = ()
) -> list[Group]:
    """All boards that have a row, with their records.

    Args:
        records: from a store.
        problems: names to keep; all where empty.
        budgets: names to keep; all where empty.
    """
    records, problems, budgets = latest(records), set(problems), set(budgets)
    current = leaderboard.current_ids(records)
    found: dict[tuple, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        identity = record["identity"]
        if problems and identity["problem"]["name"] not in problems:
            continue
        if budgets and identity["budget"]["name"] not in budgets:
            continue
        methods = found.setdefault(leaderboard.terms(identity), {})
        if all(
            leaderboard.is_current(identity[kind]["id"], current[kind])
            for kind in ("problem", "method")
        ):
            methods.setdefault(identity["method"]["label"], []).append(record)
    # The boards come in the order of the same terms.
    boards = leaderboard.boards(
        records, problems, budgets, metrics=(), ranked_by=leaderboard.HEADLINE
    )
    paired = zip(boards, sorted(found.items()), strict=True)
    return [
        Group(
            board,
            {
                method: sorted(group, key=lambda record: record["identity"]["split"]["index"])
                for method, group in methods.items()
            },
        )
        for board, (_, methods) in paired
        if board.rows
    ]
