"""Summaries as text: Markdown, LaTeX, csv, JSON, and the cells of the terminal's table."""

import csv
import io
import json
import re

from dncbench.boards.summary import Line, Summary
from dncbench.boards.tables import latex, markdown, tie_letter
from dncbench.storage.identity import name_of
from dncbench.storage.text import csv_value

MANY = 3  # boards of one problem that are counted instead of named
LEGEND = (
    "x floor: geometric mean of figure / noise floor over the metrics, then over problems by "
    "the weights below, none below 1. complete: over the problems that every method solved. "
    "imputed: over all, the worst figure of the split where there is none. rank: 95% interval by "
    "paired bootstrap over splits, of the imputed mean; methods of one tie letter cannot be "
    "told apart. ? unreliable; ! failed, timed out or not applicable in some split."
)


def title(summary: Summary) -> str:
    """One line that says what was put together."""
    metrics = ", ".join(name_of(metric) for metric in summary.metrics)
    return (
        f"Over {len(summary.boards)} boards: {metrics} with equal weights, "
        f"budget {summary.budget}, seed {summary.seed}"
    )


def header(summary: Summary) -> list[str]:
    """Column titles."""
    complete = f"x floor, complete ({len(summary.complete)} boards)"
    return ["method", "track", complete, "x floor, imputed", "rank", "tie", "mean rank", "solved"]


def cells(summary: Summary) -> list[list[str]]:
    """The table as text."""
    return [_cells(line) for line in summary.lines]


def _cells(line: Line) -> list[str]:
    low, high = line.rank
    solved = sum(each is not None for each in line.above_floor)
    return [
        line.method,
        line.track,
        "-" if line.complete is None else f"{2**line.complete:.3g}",
        f"{2**line.imputed:.3g}{_marks(line)}",
        str(low) if low == high else f"{low}-{high}",
        tie_letter(line.group),
        f"{line.mean_rank:.1f}",
        f"{solved}/{len(line.above_floor)}",
    ]


def _marks(line: Line) -> str:
    states = " ".join(line.states)
    missing = any(state in states for state in ("failed", "timeout", "not applicable"))
    return "?" * ("unreliable" in states) + "!" * missing


def notes(summary: Summary) -> list[str]:
    """Weights, what went wrong where, and who was left out."""
    weights = [f"{weight:.3g}" for weight in summary.weights]
    lines = [f"weights: {_grouped('{0} for each of {1}', summary.boards, weights)}"]
    for line in summary.lines:
        if any(line.states):
            lines.append(f"{line.method}: {_grouped('{0} on {1}', summary.boards, line.states)}")
    if summary.left_out:
        missing = ", ".join(f"{method} ({lacks})" for method, lacks in summary.left_out.items())
        lines.append(f"left out, because not run on so many of the problems: {missing}")
    return lines


def _grouped(sentence: str, boards: list[str], said: list[str]) -> str:
    """What is said of several boards once; those of which nothing is said are left out."""
    groups: dict[str, list[str]] = {}
    for board, what in zip(boards, said, strict=True):
        if what:
            groups.setdefault(what, []).append(board)
    return "; ".join(sentence.format(what, _named(group)) for what, group in groups.items())


def _named(boards: list[str]) -> str:
    """Boards by name; many of one problem by its name and their number."""
    problems: dict[str, list[str]] = {}
    for board in boards:
        # A comma between boards must not be read as the one inside "power-plant, natural space".
        shown = re.sub(r", (.+)", r" (\1)", board)
        problems.setdefault(re.split(r"[\[,]", board)[0], []).append(shown)
    return ", ".join(
        ", ".join(group) if len(group) < MANY else f"{problem} ({len(group)} boards)"
        for problem, group in problems.items()
    )


def to_markdown(found: list[Summary]) -> str:
    """All summaries as Markdown tables."""
    return "\n".join(
        markdown(title(each), header(each), cells(each), [LEGEND], notes(each)) for each in found
    )


def to_latex(found: list[Summary]) -> str:
    """All summaries as LaTeX tables."""
    return "\n".join(latex(title(each), header(each), cells(each), LEGEND) for each in found)


def to_csv(found: list[Summary]) -> str:
    """One line for each method and summary; doublings above the floor in full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    fixed = ["budget", "seed", "method", "track", "complete", "imputed"]
    fixed += ["rank low", "rank high", "tie group", "mean rank"]
    boards = sorted({board for each in found for board in each.boards})
    writer.writerow(fixed + boards)
    for each in found:
        for line in each.lines:
            by_board = dict(zip(each.boards, line.above_floor, strict=True))
            values = [each.budget, each.seed, line.method, line.track, line.complete, line.imputed]
            values += [*line.rank, line.group, line.mean_rank]
            writer.writerow(map(csv_value, values + [by_board.get(board) for board in boards]))
    return buffer.getvalue()


def to_json(found: list[Summary]) -> str:
    """All summaries, figures in full precision."""
    return json.dumps(found, default=vars, indent=1, sort_keys=True, allow_nan=False) + "\n"
