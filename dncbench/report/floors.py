"""How far above the noise floor: the one number that makes metrics and problems comparable."""

from dataclasses import dataclass

from dncbench.leaderboard import HEADLINE, Board, Row

WORST = "worst"
"""The largest multiple over the headline metrics: a merge must be right in all of them."""

REFERENCE_TRACK = "reference"
"""The track of what is no merge: fresh draws of the truth itself."""

LEVELS = (3.0, 10.0, 30.0, 100.0)
"""Multiples of the floor where one colour ends and the next begins."""

LEVEL_NAMES = ("at the floor", "up to 3", "3 to 10", "10 to 30", "30 to 100", "above 100")


@dataclass(frozen=True)
class Height:
    """Where a method stands above the floor in one metric of one board.

    Attributes:
        multiple: mean over splits divided by the floor's mean.
        level: index into :data:`LEVEL_NAMES`.
    """

    multiple: float
    level: int


def height(board: Board, row: Row, metric: str) -> Height | None:
    """The height of one cell; None without a figure, or where perfect draws read zero.

    Args:
        board: that the row is of.
        row: a method.
        metric: a metric id, or :data:`WORST`.
    """
    if metric == WORST:
        each = [height(board, row, one) for one in headline(board)]
        found = [one for one in each if one is not None]
        if not found or len(found) < len(each):
            return None
        return Height(max(one.multiple for one in found), max(one.level for one in found))
    score = row.scores.get(metric)
    floor = board.floor[metric]["mean"] if metric in board.floor else 0.0
    if score is None or floor <= 0:
        return None
    multiple = score.mean / floor
    return Height(multiple, 0 if score.at_floor else _level(multiple))


def headline(board: Board) -> list[str]:
    """Ids of the headline metrics that the board has."""
    return [metric for metric in board.metrics if metric.rpartition("@")[0] in HEADLINE]


def _level(multiple: float) -> int:
    return 1 + sum(multiple > limit for limit in LEVELS)


def multiple_text(height: Height | None) -> str:
    """Two significant digits, or a dash."""
    if height is None:
        return "-"
    value = height.multiple
    if value >= 9950:
        return f"{value / 1000:.0f}k"
    if value >= 995:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
