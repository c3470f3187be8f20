"""Boards, each with the very records that its rows were made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dncbench import leaderboard
from dncbench.leaderboard import Board


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
    problems, budgets = list(problems), list(budgets)
    boards = leaderboard.boards(
        records, problems, budgets, metrics=(), ranked_by=leaderboard.HEADLINE
    )
    own = leaderboard.by_terms(records, problems, budgets).values()
    return [
        Group(board, _by_method(fresh))
        for board, (fresh, _) in zip(boards, own, strict=True)
        if board.rows
    ]


def _by_method(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: record["identity"]["split"]["index"]):
        found.setdefault(record["identity"]["method"]["label"], []).append(record)
    return found
