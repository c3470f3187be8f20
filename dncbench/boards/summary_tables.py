"""Summaries as text: Markdown, LaTeX, csv, JSON, and the cells of the terminal's table."""

import csv
import io
import json
import re
from collections import Counter

from dncbench.boards.notes import marked, provenance, whose
from dncbench.boards.summary import Line, Summary
from dncbench.boards.tables import latex, markdown, tie_letter
from dncbench.storage.identity import name_of
from dncbench.storage.text import csv_value

MANY = 3  # boards of one problem that are counted instead of named
LEGEND = (
    "x floor: geometric mean of figure / noise floor over the metrics, then over problems by "
    "the weights below, none below 1 (but of laws that are told exactly). complete: over the "
    "problems that every method solved. "
    "imputed: over all, the worst figure of the split where there is none. rank: 95% interval by "
    "paired bootstrap over splits, of the imputed mean; a tie letter is shared by the best of some "
    "methods and by those that cannot be told from it. ? unreliable; ! failed, timed out or not "
    "applicable in some split. glm: generalised linear models alone; the other classes likewise, "
    "imputed."
)


def title(summary: Summary) -> str:
    """One line that says what was put together."""
    return (
        f"Over {len(summary.boards)} boards: {_most_common_metrics(summary)} with equal weights, "
        f"budget {summary.budget}, seed {summary.seed}"
    )


def _metrics_texts(summary: Summary) -> list[str]:
    return [", ".join(map(name_of, metrics)) for metrics in summary.metrics]


def _most_common_metrics(summary: Summary) -> str:
    return Counter(_metrics_texts(summary)).most_common(1)[0][0]


def lead(summary: Summary) -> list[str]:
    """What must be known before the table is believed, in a few sentences."""
    lines = []
    if summary.classes:
        counted = ", ".join(
            f"{_named_class(name)} are {len(members)} of {len(summary.boards)} boards "
            f"({sum(summary.weights[b] for b in members):.0%} of the weight)"
            for name, members in summary.classes.items()
        )
        lines.append(f"The order depends on the problems: {counted}.")
    if summary.lines:
        first = summary.lines[0]
        places = [
            f"number {_place(summary, first, name)} of {len(summary.lines)} over "
            f"{_named_class(name)}"
            for name in summary.classes
        ]
        own = f" ({said})" if (said := provenance(first.method)) else ""
        also = f"; it is {', '.join(places)}" if places else ""
        lines.append(f"First over all is {first.method}{own}{also}.")
    return lines


def _named_class(name: str) -> str:
    return {"glm": "GLMs", "not glm": "others than GLMs"}.get(name, f"posteriors {name}")


def _place(summary: Summary, line: Line, name: str) -> int:
    """From 1, by the mean over a class."""
    return 1 + sum(other.by_class[name] < line.by_class[name] for other in summary.lines)


def _rank_text(line: Line) -> str:
    low, high = line.rank
    return str(low) if low == high else f"{low}-{high}"


def header(summary: Summary) -> list[str]:
    """Column titles."""
    complete = f"x floor, complete ({len(summary.complete)} boards)"
    return [
        *("method", "track", complete, "x floor, imputed"),
        *summary.classes,
        *("rank", "tie", "mean rank", "solved"),
    ]


def cells(summary: Summary) -> list[list[str]]:
    """The table as text."""
    return [_cells(line) for line in summary.lines]


def _cells(line: Line) -> list[str]:
    solved = sum(each is not None for each in line.above_floor)
    return [
        marked(line.method),
        line.track,
        "-" if line.complete is None else f"{2**line.complete:.3g}",
        f"{2**line.imputed:.3g}{_marks(line)}",
        *(f"{2**figure:.3g}" for figure in line.by_class.values()),
        _rank_text(line),
        tie_letter(line.group),
        f"{line.mean_rank:.1f}",
        f"{solved}/{len(line.above_floor)}",
    ]


def _marks(line: Line) -> str:
    states = " ".join(line.states)
    missing = any(state in states for state in ("failed", "timeout", "not applicable"))
    return "?" * ("unreliable" in states) + "!" * missing


def notes(summary: Summary) -> list[str]:
    """Weights, what went wrong where, whose the methods are, and what was left out."""
    weights = [f"{weight:.3g}" for weight in summary.weights]
    lines = [f"weights: {_grouped('{0} for each of {1}', summary.boards, weights)}"]
    usual, texts = _most_common_metrics(summary), _metrics_texts(summary)
    others = ["" if text == usual else text for text in texts]
    if any(others):
        lines.append(f"other metrics: {_grouped('{0} on {1}', summary.boards, others)}")
    for line in summary.lines:
        if any(line.states):
            lines.append(f"{line.method}: {_grouped('{0} on {1}', summary.boards, line.states)}")
    lines += whose(line.method for line in summary.lines)
    if summary.unranked:
        titles, reasons = map(list, zip(*summary.unranked, strict=True))
        told = _grouped("{1} ({0})", titles, reasons)
        lines.append(f"boards without ranks have no share: {told}")
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
        markdown(title(each), header(each), cells(each), [LEGEND], notes(each), lead(each))
        for each in found
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
    classes = list(dict.fromkeys(name for each in found for name in each.classes))
    boards = sorted({board for each in found for board in each.boards})
    writer.writerow(fixed + classes + boards)
    for each in found:
        for line in each.lines:
            by_board = dict(zip(each.boards, line.above_floor, strict=True))
            values = [each.budget, each.seed, line.method, line.track, line.complete, line.imputed]
            values += [*line.rank, line.group, line.mean_rank]
            values += [line.by_class.get(name) for name in classes]
            writer.writerow(map(csv_value, values + [by_board.get(board) for board in boards]))
    return buffer.getvalue()


def to_json(found: list[Summary]) -> str:
    """All summaries, figures in full precision."""
    return json.dumps(found, default=vars, indent=1, sort_keys=True, allow_nan=False) + "\n"
