"""Records to tables. Reads records and nothing else; needs no JAX.

A board holds the rows of one problem under one scheme, budget, seed and space:
figures made under different terms are never in one table.
"""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from dncbench import registry
from dncbench.store import canonical

_REFERENCE_TRACK = "reference"
_CONFIDENCE = 0.95
MAX_OTHER_LOAD = 0.25
"""Cores that other work may keep busy before a record's seconds stay off the board."""


@dataclass
class Score:
    """One metric of one method over the splits.

    Attributes:
        mean: over splits.
        sd: between splits (divisor n - 1); None for a single split.
        standard_error: Monte Carlo standard error of the mean, from the draws' ESS.
        best: best of the board or not to be told from it (see :func:`_tied`).
        at_floor: within two floor sds of what perfect draws read.
    """

    mean: float
    sd: float | None
    standard_error: float
    best: bool = False
    at_floor: bool = False


@dataclass
class Row:
    """One method on one board."""

    method: str
    track: str
    splits: int = 0
    scores: dict[str, Score] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Board:
    """One problem's table.

    Attributes:
        problem, scheme, budget, seed, space: the terms every row was made under.
        metrics: metric ids, in column order.
        floor: for each metric the mean and sd between sets of reference draws.
        grade: of the reference.
        rows: best first.
        stale: records left out because the meaning of an id changed since.
    """

    problem: str
    scheme: str
    budget: str
    seed: int
    space: str
    metrics: list[str]
    floor: dict[str, dict[str, float]]
    grade: str
    rows: list[Row]
    stale: int = 0


def boards(
    records: Iterable[dict[str, Any]],
    problems: Iterable[str] = (),
    budgets: Iterable[str] = (),
) -> list[Board]:
    """Group records into boards.

    Args:
        records: from a store.
        problems: names to keep; all where empty.
        budgets: names to keep; all where empty.
    """
    problems, budgets = set(problems), set(budgets)
    current = {
        kind: {entry.name: entry.id for entry in registry.entries(kind)}
        for kind in ("problem", "method", "metric")
    }
    grouped: dict[tuple, list[dict[str, Any]]] = {}
    stale: dict[tuple, int] = {}
    for record in records:
        identity = record["identity"]
        if problems and identity["problem"]["name"] not in problems:
            continue
        if budgets and identity["budget"]["name"] not in budgets:
            continue
        key = (
            identity["problem"]["label"],
            identity["split"]["scheme"],
            canonical(identity["budget"]),
            identity["seed"],
            identity["space"],
        )
        grouped.setdefault(key, [])
        fresh = all(
            _is_current(identity[kind]["id"], current[kind]) for kind in ("problem", "method")
        )
        if fresh:
            grouped[key].append(record)
        else:
            stale[key] = stale.get(key, 0) + 1
    return [
        _board(key, group, stale.get(key, 0), current["metric"])
        for key, group in sorted(grouped.items())
    ]


def _is_current(identifier: str, current: dict[str, str]) -> bool:
    # A plugin that is not loaded now has no present version to be older than.
    return current.get(identifier.rpartition("@")[0], identifier) == identifier


def _board(key: tuple, records: list[dict[str, Any]], stale: int, current: dict) -> Board:
    problem, scheme, budget_contents, seed, space = key
    budget = json.loads(budget_contents)["name"]
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_method.setdefault(record["identity"]["method"]["label"], []).append(record)
    scored = [record for record in records if record["status"] == "ok"]
    order = {"mah": 0, "iad": 1, "skew": 2}
    metrics = sorted(
        {
            metric
            for record in scored
            for metric in record["metrics"]
            if _is_current(metric, current)
        },
        key=lambda metric: (order.get(metric.rpartition("@")[0], 9), metric),
    )
    floor = {
        metric: record["metrics"][metric]["noise_floor"]
        for record in scored
        for metric in metrics
        if metric in record["metrics"]
    }
    rows = {method: _row(method, group, metrics) for method, group in by_method.items()}
    for metric in metrics:
        _mark(metric, rows, by_method, floor[metric])
    grades = {record["reference"]["grade"] for record in records}
    first = metrics[0] if metrics else None

    def rank(row: Row) -> tuple:
        score = row.scores.get(first) if first else None
        return (row.track == _REFERENCE_TRACK, score is None, score.mean if score else 0.0)

    return Board(
        problem,
        scheme,
        budget,
        seed,
        space,
        metrics,
        floor,
        max(grades, default="?"),
        sorted(rows.values(), key=rank),
        stale,
    )


def _row(method: str, records: list[dict[str, Any]], metrics: list[str]) -> Row:
    scored = [record for record in records if record["status"] == "ok"]
    row = Row(method, records[0]["track"], len(scored))
    for metric in metrics:
        figures = [record["metrics"][metric] for record in scored if metric in record["metrics"]]
        if figures:
            values = np.array([figure["value"] for figure in figures])
            errors = np.array([figure["standard_error"] for figure in figures])
            row.scores[metric] = Score(
                mean=float(values.mean()),
                sd=float(values.std(ddof=1)) if len(values) > 1 else None,
                standard_error=float(np.sqrt(np.sum(errors**2)) / len(errors)),
            )
    timed = [record for record in scored if (record["other_load_cores"] or 0.0) <= MAX_OTHER_LOAD]
    for phase in timed[0]["seconds"] if timed else ():
        spent = [record["seconds"][phase] for record in timed]
        # A program is compiled once and used by every split.
        row.seconds[phase] = max(spent) if "compile" in phase else float(np.mean(spent))
    if scored:
        row.bytes = round(np.mean([record["bytes_communicated"] for record in scored]))
    if len(timed) < len(scored):
        row.notes.append(f"{len(scored) - len(timed)} timed beside other work")
    for status in ("failed", "not applicable"):
        reasons = [record["reason"] for record in records if record["status"] == status]
        if reasons:
            row.notes.append(f"{len(reasons)} {status}: {reasons[0]}")
    warned = sum(bool(record.get("warnings")) for record in scored)
    if warned:
        row.notes.append(f"{warned} with warnings")
    return row


def _mark(
    metric: str,
    rows: dict[str, Row],
    by_method: dict[str, list[dict[str, Any]]],
    floor: dict[str, float],
) -> None:
    """Mark the best of a column, what is tied with it, and what is at the floor."""
    scores = {name: row.scores[metric] for name, row in rows.items() if metric in row.scores}
    for score in scores.values():
        score.at_floor = score.mean <= floor["mean"] + 2 * floor["sd"]
    merges = {name: s for name, s in scores.items() if rows[name].track != _REFERENCE_TRACK}
    if not merges:
        return
    best = min(merges, key=lambda name: merges[name].mean)
    for name, score in merges.items():
        score.best = name == best or _tied(
            _by_split(by_method[name], metric), _by_split(by_method[best], metric)
        )


def _by_split(records: list[dict[str, Any]], metric: str) -> dict[tuple, tuple[float, float]]:
    return {
        (record["identity"]["split"]["index"], record["identity"]["seed"]): (
            record["metrics"][metric]["value"],
            record["metrics"][metric]["standard_error"],
        )
        for record in records
        if record["status"] == "ok" and metric in record["metrics"]
    }


def _tied(one: dict[tuple, tuple[float, float]], best: dict[tuple, tuple[float, float]]) -> bool:
    """Whether the paired difference over common splits could be zero (95%).

    Its standard error is the larger of that seen between splits (Student's t) and
    that of the Monte Carlo errors alone; two splits say too little about their spread.
    """
    common = sorted(one.keys() & best.keys())
    if not common:
        return False
    gaps = np.array([one[split][0] - best[split][0] for split in common])
    monte_carlo = np.sqrt(sum(one[s][1] ** 2 + best[s][1] ** 2 for s in common)) / len(common)
    allowed = 1.96 * monte_carlo
    if len(common) > 2:
        quantile = student_t.ppf(0.5 + _CONFIDENCE / 2, len(common) - 1)
        allowed = max(allowed, quantile * gaps.std(ddof=1) / np.sqrt(len(common)))
    return bool(abs(gaps.mean()) <= allowed)


# ---------------------------------------------------------------- output

SECONDS_COLUMNS = {
    "sampling": "sampling s",
    "compile": "compile s",
    "fit_slowest_shard": "fit s (slowest shard)",
    "fit_total": "fit s (total)",
    "merge": "merge s",
}

LEGEND = (
    "mean (sd over splits); lower is better. * best, or not to be told from it at 95%. "
    "° at the noise floor: perfect draws read no better."
)


def figure_text(score: Score | None) -> str:
    """``4.82 (0.64)*``, or a dash."""
    if score is None:
        return "-"
    spread = f" ({_digits(score.sd)})" if score.sd is not None else ""
    return f"{_digits(score.mean)}{spread}{'*' * score.best}{'°' * score.at_floor}"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value >= 0.995 else f"{value:.3f}"


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
    return (
        f"{board.problem}: {board.scheme} splits, budget {board.budget}, seed {board.seed}, "
        f"reference grade {board.grade}"
    )


def header(board: Board) -> list[str]:
    """Column titles."""
    metrics = [metric.rpartition("@")[0] for metric in board.metrics]
    return ["method", "track", *metrics, "splits", *SECONDS_COLUMNS.values(), "bytes", "notes"]


def cells(board: Board) -> list[list[str]]:
    """The table as text, the noise floor as its last row."""
    rows = [
        [
            row.method,
            row.track,
            *(figure_text(row.scores.get(metric)) for metric in board.metrics),
            str(row.splits),
            *(seconds_text(row.seconds.get(phase)) for phase in SECONDS_COLUMNS),
            bytes_text(row.bytes),
            "; ".join(row.notes),
        ]
        for row in board.rows
    ]
    floor = [
        f"{_digits(board.floor[metric]['mean'])} ({_digits(board.floor[metric]['sd'])})"
        for metric in board.metrics
    ]
    blank = [""] * (len(SECONDS_COLUMNS) + 3)
    return [*rows, ["noise floor", "", *floor, *blank]]


def to_markdown(found: list[Board]) -> str:
    """All boards as Markdown tables."""
    parts = []
    for board in found:
        lines = [f"### {title(board)}", ""]
        lines.append("| " + " | ".join(header(board)) + " |")
        lines.append("|" + "---|" * len(header(board)))
        lines += [
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
            for row in cells(board)
        ]
        lines += ["", LEGEND.replace("*", "\\*")]
        if board.stale:
            lines.append(f"{board.stale} stale records (older ids) are left out.")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_csv(found: list[Board]) -> str:
    """One line for each method and board; figures in full precision."""
    metrics = sorted({metric for board in found for metric in board.metrics})
    columns = ["problem", "scheme", "budget", "seed", "space", "method", "track", "splits"]
    for metric in metrics:
        columns += [f"{metric} {what}" for what in ("mean", "sd", "se", "floor", "best")]
    columns += [f"seconds {phase}" for phase in SECONDS_COLUMNS] + ["bytes", "notes"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for board in found:
        for row in board.rows:
            line: list[Any] = [
                board.problem,
                board.scheme,
                board.budget,
                board.seed,
                board.space,
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
                    ]
                    if score
                    else [None] * 5
                )
            line += [row.seconds.get(phase) for phase in SECONDS_COLUMNS]
            writer.writerow([*line, row.bytes, "; ".join(row.notes)])
    return buffer.getvalue()


def to_json(found: list[Board]) -> str:
    """All boards, figures in full precision."""
    plain = json.dumps(found, default=vars, indent=1, sort_keys=True, allow_nan=False)
    return plain + "\n"
