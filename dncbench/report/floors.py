"""How far above the noise floor: the one number that makes metrics and problems comparable."""

from dataclasses import dataclass

from dncbench.boards.board import EXACT_SHARE, Board, Row
from dncbench.boards.summary import draws_of
from dncbench.storage.identity import REFERENCE_TRACK, name_of

WORST = "worst"
"""The largest multiple over the headline metrics: a merge must be right in all of them."""

LEVELS = (3.0, 10.0, 30.0, 100.0)
"""Multiples of the floor where one colour ends and the next begins."""

LEVEL_NAMES = ("at the floor", "up to 3", "3 to 10", "10 to 30", "30 to 100", "above 100")
"""Of an exact law, which has no noise, "at the floor" means not above it."""


@dataclass(frozen=True)
class Height:
    """Where a method stands above the floor in one metric of one board.

    Attributes:
        multiple: mean over splits divided by the floor's mean, at least
            :data:`dncbench.boards.board.EXACT_SHARE`.
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
    multiple = max(score.mean / floor, EXACT_SHARE)
    return Height(multiple, 0 if score.at_floor or multiple <= 1.0 else _level(multiple))


def headline(board: Board) -> list[str]:
    """Ids of the headline metrics that the board has."""
    return [metric for metric in board.metrics if name_of(metric) in board.headline]


def _level(multiple: float) -> int:
    return 1 + sum(multiple > limit for limit in LEVELS)


def multiple_text(height: Height) -> str:
    """Two significant digits: ``0.12``, ``1.2``, ``34``, ``1.2k``."""
    value = height.multiple
    if value <= EXACT_SHARE:
        return "<0.001"
    for unit in ("", "k", "M"):
        if value < 995:
            if value < 0.995 and not unit:
                return f"{value:.2g}"
            return f"{value:.0f}{unit}" if value >= 9.95 else f"{value:.1f}{unit}"
        value /= 1000
    return "above 1G"


def best_first(boards: list[Board]) -> list[str]:
    """All methods of the boards, what is no merge last.

    Those that merge one kind of draws stand together, before those that merge several. Among
    them the order is by the mean over boards of their kind of the rank of the worst multiple; a
    board without a figure counts as a last place.
    """
    tracks = {row.method: row.track for board in boards for row in board.rows}
    merged = {(draws_of(board), row.method) for board in boards for row in board.rows}
    known_kinds = list(dict.fromkeys(map(draws_of, boards)))
    kinds = {
        method: [number for number, kind in enumerate(known_kinds) if (kind, method) in merged]
        for method in tracks
    }
    places: dict[str, list[int]] = {method: [] for method in tracks}
    for board in boards:
        heights = {row.method: height(board, row, WORST) for row in board.rows}
        known = {method: found.multiple for method, found in heights.items() if found is not None}
        for method, ranks in places.items():
            if (draws_of(board), method) not in merged:
                continue
            own = known.get(method)
            better = [one for one in known.values() if own is not None and one < own]
            ranks.append(len(tracks) if own is None else len(better))

    def order(method: str) -> tuple:
        mean = sum(places[method]) / len(places[method])
        together = len(kinds[method]) > 1, kinds[method]
        return (tracks[method] == REFERENCE_TRACK, *together, mean, method)

    return sorted(tracks, key=order)
