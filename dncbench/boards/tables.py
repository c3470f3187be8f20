"""Boards as text: Markdown, LaTeX, csv, JSON, and the cells of the terminal's table."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from dncbench.boards import notes
from dncbench.boards.board import Board, Row, Score
from dncbench.storage.identity import name_of
from dncbench.storage.text import csv_value
from dncbench.storage.text import markdown as escaped

SECONDS_COLUMNS = {
    "sampling": "sampling s",
    "compile": "compile s",
    "fit_slowest_shard": "fit s (slowest shard)",
    "fit_total": "fit s (total)",
    "merge": "merge s",
}

_FIGURE_COLUMNS = ("mean", "sd", "se", "floor", "best", "rank low", "rank high", "tie group")

LEGEND = (
    "mean (sd over splits); lower is better. * best, or not to be told from it at 95%. "
    "° at the noise floor: perfect draws read no better (of an exact law: it is right). "
    "? the merge's own sampling did not converge; † the density that it fitted misses the "
    "posterior (k-hat above 0.7): neither has a rank. "
    "x floor: geometric mean of figure / floor over the metrics that rank it, each with the same "
    "weight, none below 1 but of laws that a merge tells exactly, which have no noise. "
    "rank: its 95% interval by paired bootstrap over splits, of logarithms; "
    "a tie letter is shared by the best of some methods and by those that cannot be told from it."
)


def figure_text(score: Score | None) -> str:
    """``4.82 (0.64)*``, or a dash."""
    if score is None:
        return "-"
    spread = f" ({_digits(score.sd)})" if score.sd is not None else ""
    return f"{_digits(score.mean)}{spread}{marks(score)}"


def marks(score: Score) -> str:
    """``*``, ``°``, ``?`` and ``†``, as the legend explains them."""
    return "*" * score.best + "°" * score.at_floor + "?" * score.unreliable + "†" * score.misfit


def _digits(value: float) -> str:
    if 0.0 < value < 0.00995:
        return f"{value:.2g}"
    return f"{value:.2f}" if value >= 0.995 else f"{value:.3f}"


def standing_texts(overall: Score | None) -> list[str]:
    """Multiple of the floor, rank interval and tie letter; dashes where there is none."""
    if overall is None:
        return ["-", "-", "-"]
    multiple = f"{2**overall.mean:.3g}"
    if overall.rank is None or overall.group is None:
        return [multiple, "-", "-"]
    low, high = overall.rank
    return [multiple, str(low) if low == high else f"{low}-{high}", tie_letter(overall.group)]


def tie_letter(group: int) -> str:
    """1 is a, 2 is b; past z they double."""
    return chr(ord("a") + (group - 1) % 26) * (1 + (group - 1) // 26)


def ratios_texts(row: Row) -> list[str]:
    """Largest Pareto k-hat and smallest effective share over splits, or dashes."""
    if row.k_hat is None or row.ess_share is None:
        return ["-", "-"]
    return [f"{row.k_hat:.2f}", f"{100 * row.ess_share:.3g}%"]


def seconds_text(value: float | None) -> str:
    """Three significant digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def bytes_text(value: int | None) -> str:
    """Decimal units, or a dash."""
    if value is None:
        return "-"
    size = float(value)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def title(board: Board) -> str:
    """One line that says what the board's figures were made under."""
    terms = board.terms
    together = f"{', '.join(board.repetitions)} as its splits, " if board.repetitions else ""
    natural = "natural space, " if terms.space == "natural" else ""
    return (
        f"{terms.problem}: {terms.scheme} splits, {together}{natural}budget {terms.budget}, "
        f"seed {terms.seed}, reference grade {board.grade}"
    )


def header(board: Board) -> list[str]:
    """Column titles."""
    metrics = [name_of(metric) for metric in board.metrics]
    k_hat = ["k-hat", "share"] * _has_k_hat(board)
    standing = ["x floor", "rank", "tie"]
    return [
        "method",
        "track",
        *metrics,
        *standing,
        *k_hat,
        "splits",
        *SECONDS_COLUMNS.values(),
        "bytes",
        *(["MiB"] * _has_memory(board)),
    ]


def _has_k_hat(board: Board) -> bool:
    """Whether any method of the board has a density to compare with the posterior's."""
    return any(row.k_hat is not None for row in board.rows)


def _has_memory(board: Board) -> bool:
    """Whether any record says what a merge's programs need."""
    return any(row.memory_mib is not None for row in board.rows)


def cells(board: Board) -> list[list[str]]:
    """The table as text, the noise floor as its last row."""
    rows = [
        [
            notes.marked(row.method),
            row.track,
            *(figure_text(row.scores.get(metric)) for metric in board.metrics),
            *standing_texts(row.overall),
            *(ratios_texts(row) * _has_k_hat(board)),
            str(row.splits),
            *(seconds_text(row.seconds.get(phase)) for phase in SECONDS_COLUMNS),
            bytes_text(row.bytes),
            *(["-" if row.memory_mib is None else f"{row.memory_mib:.3g}"] * _has_memory(board)),
        ]
        for row in board.rows
    ]
    floor = [
        f"{_digits(board.floor[metric]['mean'])} ({_digits(board.floor[metric]['sd'])})"
        for metric in board.metrics
    ]
    blank = [""] * (len(header(board)) - 2 - len(floor))
    return [*rows, ["noise floor", "", *floor, *blank]]


def to_markdown(found: list[Board]) -> str:
    """All boards as Markdown tables."""
    return "\n".join(
        markdown(title(board), header(board), cells(board), [LEGEND], notes.of_board(board))
        for board in found
    )


def markdown(
    heading: str,
    columns: list[str],
    rows: list[list[str]],
    legend: list[str],
    remarks: list[str],
    lead: Sequence[str] = (),
) -> str:
    """One table under a heading and what is to be read first, its legend and remarks below."""
    lines = [f"### {escaped(heading)}", ""]
    for line in lead:
        lines += [escaped(line), ""]
    lines.append("| " + " | ".join(map(escaped, columns)) + " |")
    lines.append("|" + "---|" * len(columns))
    lines += ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    for line in legend:
        lines += ["", escaped(line)]
    if remarks:
        lines += ["", *(f"- {escaped(remark)}" for remark in remarks)]
    return "\n".join(lines) + "\n"


def to_latex(found: list[Board]) -> str:
    """All boards as LaTeX tables, for the packages booktabs and graphicx."""
    return "\n".join(latex(title(board), header(board), cells(board), LEGEND) for board in found)


def latex(heading: str, columns: list[str], rows: list[list[str]], legend: str) -> str:
    """One floating table; the last row, the floor or a total, is set apart by a rule."""
    text = [
        "\\begin{table}",
        f"\\caption{{{_latex_text(heading)}. {_latex_text(legend)}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{ll{'r' * (len(columns) - 2)}}}",
        "\\toprule",
        " & ".join(_latex_text(column) for column in columns) + r" \\",
        "\\midrule",
    ]
    for number, row in enumerate(rows):
        if number == len(rows) - 1:
            text.append("\\midrule")
        text.append(" & ".join(_latex_text(cell) for cell in row) + r" \\")
    text += ["\\bottomrule", "\\end{tabular}}", "\\end{table}"]
    return "\n".join(text) + "\n"


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value)


_LATEX = {
    "\\": r"\textbackslash{}",
    "°": r"$^{\circ}$",
    "†": r"$^{\dagger}$",
    "*": r"$^{*}$",
    "<": r"$<$",
    ">": r"$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def to_csv(found: list[Board]) -> str:
    """One line for each method and board; figures in full precision."""
    metrics = sorted({metric for board in found for metric in board.metrics})
    columns = ["problem", "scheme", "budget", "seed", "space", "method", "track", "splits"]
    for metric in metrics:
        columns += [f"{metric} {what}" for what in _FIGURE_COLUMNS]
    columns += ["doublings above floor", "rank low", "rank high", "tie group"]
    columns += [f"seconds {phase}" for phase in SECONDS_COLUMNS]
    columns += ["bytes", "memory MiB", "k-hat", "effective share", "notes"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for board in found:
        for row in board.rows:
            line: list[Any] = [
                *dataclasses.astuple(board.terms),
                row.method,
                row.track,
                row.splits,
            ]
            for metric in metrics:
                score = row.scores.get(metric)
                line += (
                    [
                        score.mean,
                        score.sd,
                        score.standard_error,
                        board.floor[metric]["mean"],
                        int(score.best),
                        *(score.rank or (None, None)),
                        score.group,
                    ]
                    if score
                    else [None] * len(_FIGURE_COLUMNS)
                )
            overall = row.overall
            line += [
                overall and overall.mean,
                *((overall and overall.rank) or (None, None)),
                overall and overall.group,
            ]
            line += [row.seconds.get(phase) for phase in SECONDS_COLUMNS]
            line += [row.bytes, row.memory_mib, row.k_hat, row.ess_share]
            line.append("; ".join(notes.of_row(row)))
            writer.writerow(map(csv_value, line))
    return buffer.getvalue()


def to_json(found: list[Board]) -> str:
    """All boards, figures in full precision."""
    plain = json.dumps(found, default=_plain, indent=1, sort_keys=True, allow_nan=False)
    return plain + "\n"
