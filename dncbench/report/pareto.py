"""Accuracy against time, and the methods that no other beats in both."""

from dataclasses import dataclass

from dncbench.boards.board import Board, Row
from dncbench.storage.identity import REFERENCE_TRACK


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes:
        method: label.
        seconds: slowest fit and merge: what the method adds to sampling the shards.
        value: of the metric, mean over splits.
        unreliable: the merge's own sampling did not converge.
        front: nothing reliable is both faster and nearer.
    """

    method: str
    seconds: float
    value: float
    unreliable: bool
    front: bool


def seconds_of(row: Row) -> float | None:
    """Seconds that a method adds to sampling; None where the board has none."""
    phases = ("fit_slowest_shard", "merge")
    if not all(phase in row.seconds for phase in phases):
        return None
    return sum(row.seconds[phase] for phase in phases)


def points(board: Board, metric: str) -> list[Point]:
    """The methods with a figure and seconds, fastest first; the reference is not one."""
    found = []
    for row in board.rows:
        seconds, score = seconds_of(row), row.scores.get(metric)
        if row.track != REFERENCE_TRACK and score and seconds and score.mean > 0:
            found.append((seconds, score.mean, row.method, score.unreliable))
    made, best = [], float("inf")
    for seconds, value, method, unreliable in sorted(found):
        front = not unreliable and value < best
        best = value if front else best
        made.append(Point(method, seconds, value, unreliable, front))
    return made


def untimed(board: Board) -> list[str]:
    """Methods with figures and no seconds: everything they ran was beside other work."""
    return [
        row.method
        for row in board.rows
        if row.track != REFERENCE_TRACK and row.scores and seconds_of(row) is None
    ]
