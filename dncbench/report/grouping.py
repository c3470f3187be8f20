"""Boards, each with the very records that its rows were made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dncbench.boards import leaderboard
from dncbench.boards.board import Board
from dncbench.boards.leaderboard import by_label
from dncbench.storage.identity import identity_of


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
    def record(self) -> dict[str, Any]:
        """Any record: scheme, budget, seed and space are those of all, and the problem but for
        which of its repetitions it is."""
        return next(iter(self.records.values()))[0]


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
    boards = leaderboard.boards(records, problems, budgets, metrics=())
    own = leaderboard.by_terms(records, problems, budgets).values()
    return [
        Group(board, by_label(sorted(fresh, key=lambda record: identity_of(record).split)))
        for board, (fresh, _) in zip(boards, own, strict=True)
        if board.rows
    ]
