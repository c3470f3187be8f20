"""One figure of all results: how far above the noise floor each method is, problem by problem."""

import io
from typing import Any

from dncbench.boards.board import Board
from dncbench.report.floors import WORST, best_first, height

_COLOURS = ("#0b57d0", "#c2410c", "#15803d", "#a21caf", "#0e7490", "#be123c", "#806000", "#6d28d9")
_MARKERS = "osD^vP*X"
_ROW = 0.27  # inches


def svg(boards: list[Board]) -> str:
    """Methods by multiples of the floor, one mark for each board; the same boards, the same text.

    The multiple is the largest over the headline metrics. Hollow marks are merges whose own
    sampling did not converge; the figures at the right count the boards without a figure.

    Args:
        boards: at least one row among them; with the headline metrics.
    """
    import matplotlib
    from matplotlib.figure import Figure

    points = _points(boards)
    methods = best_first(boards)
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "dncbench", "font.size": 8}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(7.6, 1.3 + _ROW * len(methods)), layout="constrained")
        axes = figure.add_subplot()
        for number, board in enumerate(boards):
            colour = _COLOURS[number % len(_COLOURS)]
            for reliable in (True, False):
                # Boards of one method lie a little apart, so that none hides another.
                shift = 0.5 * ((number + 0.5) / len(boards) - 0.5)
                chosen = [p for p in points if p[1] == number and p[3] == reliable]
                axes.scatter(
                    [multiple for _, _, multiple, _ in chosen],
                    [methods.index(method) + shift for method, *_ in chosen],
                    s=17,
                    marker=_MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)],
                    color=colour if reliable else "none",
                    edgecolors=colour,
                    linewidths=0.9,
                    label=_literal(_name(board, boards)) if reliable else None,
                )
        _finish(axes, methods, points, len(boards))
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _literal(label: str) -> str:
    """A label without what Matplotlib takes for formulas."""
    return label.replace("$", r"\$")


_Point = tuple[str, int, float, bool]
"""Method, number of the board, multiple, and whether the merge's own sampling converged."""


def _points(boards: list[Board]) -> list[_Point]:
    points = []
    for number, board in enumerate(boards):
        for row in board.rows:
            found = height(board, row, WORST)
            if found is not None:
                reliable = not any(score.unreliable for score in row.scores.values())
                points.append((row.method, number, found.multiple, reliable))
    return points


def _name(board: Board, boards: list[Board]) -> str:
    """The problem, with its terms where another board has the same problem."""
    terms = board.terms
    if sum(other.terms.problem == terms.problem for other in boards) == 1:
        return terms.problem
    return f"{terms.problem}, {terms.scheme}, {terms.space}, {terms.budget}, seed {terms.seed}"


def _finish(axes: Any, methods: list[str], points: list[_Point], num_boards: int) -> None:
    axes.set_xscale("log")
    axes.axvline(1.0, color="#0f766e", linewidth=1.2)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_yticks(range(len(methods)), map(_literal, methods))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#d0d7de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("error in multiples of the noise floor, the worst of the headline metrics")
    for place, method in enumerate(methods):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color="#f4f6f8", zorder=-1)
        missing = num_boards - sum(name == method for name, *_ in points)
        if missing:
            axes.annotate(
                f"{missing} without",
                (1.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color="#545d68",
            )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
