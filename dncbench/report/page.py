"""Everything that the page says, as plain data; nothing of how it looks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dncbench import registry
from dncbench.boards import notes, tables
from dncbench.boards.leaderboard import is_timed
from dncbench.boards.summary import draws_of
from dncbench.report import pareto, tabulate
from dncbench.report.cells import (
    Detail,
    Environments,
    command,
    detail,
    no_record,
    num_splits,
    other_draws,
)
from dncbench.report.features import QUESTIONS, UNKNOWN, answer
from dncbench.report.floors import WORST, best_first, headline
from dncbench.report.grouping import Group
from dncbench.report.growth import Growth
from dncbench.report.kept import Kept
from dncbench.storage.identity import REFERENCE_TRACK, Named, identity_of, name_of
from dncbench.storage.records import SCORED
from dncbench.storage.text import one_line

CURVE = "learning_curve"
"""Entry of a merge's ``info`` that is drawn: losses in the order of training."""


_LEADERS = 3


@dataclass(frozen=True)
class SummaryTable:
    """A table over all problems, e.g. aggregated ranks.

    Attributes:
        title, note: above it.
        lead: what must be known before the table is believed.
        header: column titles.
        rows: texts.
        remarks: below it, folded away.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str] = ()
    lead: Sequence[str] = ()


@dataclass(frozen=True)
class Rounds:
    """How a method came closer to the truth from round to round.

    Attributes:
        method, metric: names.
        errors: after each round.
        bytes: sent both ways by then.
    """

    method: str
    metric: str
    errors: list[float]
    bytes: list[int]


@dataclass(frozen=True)
class Training:
    """How a method came closer to the true law while its merge was trained.

    Attributes:
        method: its name.
        tv: exact total variation after each step.
        at: seconds by then, the slowest client's among them; shares of the training where
            none was timed alone.
    """

    method: str
    tv: list[float]
    at: list[float]


@dataclass
class Section:
    """One board's part of the page.

    Attributes:
        number: its place on the page.
        title: the problem with its settings; ``terms`` are the rest of what it was made under.
        grade, failures: of the reference.
        cells: by method, in the order of the page's methods.
        table: the board's.
        tracks: that its rows have.
        fronts: for each headline metric the points of accuracy against time.
        untimed: methods without seconds.
        curves: learning curves by method.
        rounds: of methods with several rounds, how far each was from the truth, by metric.
        training: of merges that tell their law while they are trained.
        in_seconds: whether those are against seconds.
        kept: certificate, drawings, source.
        classes: for each question the class and the value.
        notes: of the leaderboard.
        records: how many there are.
        commits, days, budget: where the records come from.
    """

    number: int
    title: str
    terms: str
    grade: str
    failures: list[str]
    cells: list[Detail]
    table: tabulate.Table
    tracks: list[str]
    floor: dict[str, dict[str, float]]
    fronts: dict[str, list[pareto.Point]]
    untimed: list[str]
    curves: dict[str, list[float]]
    rounds: list[Rounds]
    training: list[Training]
    in_seconds: bool
    kept: Kept
    classes: list[tuple[str, str]]
    notes: list[str]
    records: int
    commits: list[str]
    days: str
    budget: list[tuple[str, str]]

    @property
    def anchor(self) -> str:
        """Of the section on the page."""
        return f"problem-{self.number}"


@dataclass
class Page:
    """The whole report.

    Attributes:
        metrics: id and name of each that the overview can show; the first is shown.
        methods: columns of the overview.
        sections: rows of the overview, and what follows it.
        environments: that cells refer to.
        states: how many records have which status.
        leaders: the methods that are at the floor on most boards, with how many.
        unreached: how many boards have no merge at the floor.
        summaries: tables over all problems.
        metric_help: one line for each metric.
        growths: scaling studies.
        commits_timed: how many commits asv has measured.
    """

    metrics: list[tuple[str, str]]
    methods: list[str]
    sections: list[Section]
    environments: list[list[list[str]]]
    states: dict[str, int]
    leaders: list[tuple[str, int]]
    unreached: int
    summaries: list[SummaryTable] = field(default_factory=list)
    metric_help: list[tuple[str, str]] = field(default_factory=list)
    growths: Sequence[Growth] = ()
    commits_timed: int = 0

    @property
    def days(self) -> str:
        """First and last day of all records."""
        found = sorted(day for s in self.sections if s.days for day in s.days.split(" to "))
        if not found:
            return ""
        return " to ".join(dict.fromkeys([found[0], found[-1]]))


def page(
    groups: list[Group],
    kept: list[Kept],
    summaries: Sequence[SummaryTable] = (),
    growths: Sequence[Growth] = (),
    commits_timed: int = 0,
) -> Page:
    """Put the page together.

    Args:
        groups: boards with their records.
        kept: what the cache adds to each of them.
        summaries: tables over all problems, shown after the overview.
        growths: scaling studies, shown after the problems.
        commits_timed: how many commits asv has measured; its page is linked where there are any.
    """
    methods = _methods(groups)
    environments = Environments()
    merged = {(draws_of(g.board), row.method) for g in groups for row in g.board.rows}
    sections = [
        _section(number, group, extra, methods, merged, environments)
        for number, (group, extra) in enumerate(zip(groups, kept, strict=True))
    ]
    metrics = list(dict.fromkeys(metric for group in groups for metric in group.board.metrics))
    states = Counter(record["status"] for group in groups for record in _records(group))
    known = {entry.id: entry.summary for entry in registry.entries("metric")}
    at_floor = [_at_floor(section) for section in sections]
    return Page(
        metrics=[(WORST, "the worst of " + (", ".join(_headline_names(groups)) or "none"))]
        + [(metric, name_of(metric)) for metric in metrics],
        methods=list(methods),
        sections=sections,
        environments=environments.described,
        states=dict(states.most_common()),
        leaders=Counter(method for found in at_floor for method in found).most_common(_LEADERS),
        unreached=sum(not found for found in at_floor),
        summaries=list(summaries),
        metric_help=[(metric, known[metric]) for metric in metrics if metric in known],
        growths=growths,
        commits_timed=commits_timed,
    )


def _at_floor(section: Section) -> list[str]:
    """The merges at the floor in every headline metric, by sampling that converged."""
    return [
        cell.method
        for cell in section.cells
        if cell.track != REFERENCE_TRACK and not cell.unreliable and cell.level == 0
    ]


def _headline_names(groups: list[Group]) -> list[str]:
    ids = dict.fromkeys(metric for group in groups for metric in headline(group.board))
    return [name_of(metric) for metric in ids]


def _records(group: Group) -> list[dict[str, Any]]:
    return [record for records in group.records.values() for record in records]


_Methods = dict[str, tuple[str, Named]]
"""By label: the track, and the method as identities have it."""


def _methods(groups: list[Group]) -> _Methods:
    """The methods of all boards, in the order of the overview."""
    found = {
        row.method: (row.track, identity_of(group.records[row.method][0]).method)
        for group in groups
        for row in group.board.rows
    }
    return {method: found[method] for method in best_first([group.board for group in groups])}


def _command(group: Group, method: Named) -> str:
    records = _records(group)
    identities = [replace(identity_of(record), method=method) for record in records]
    return command(identities, num_splits(records))


def _section(
    number: int,
    group: Group,
    kept: Kept,
    methods: "_Methods",
    merged: set[tuple[str, str]],
    environments: Environments,
) -> Section:
    """One problem; ``merged`` has the kinds of draws that each method has records of."""
    board, records = group.board, _records(group)
    made = {
        row.method: detail(board, row, group.records[row.method], environments)
        for row in board.rows
    }
    cells = [
        made.get(label)
        or (
            no_record(label, track, _command(group, method))
            if (draws_of(board), label) in merged
            else other_draws(label, track)
        )
        for label, (track, method) in methods.items()
    ]
    days = sorted(record["created"][:10] for record in records if record.get("created"))
    commits = {record["environment"].get("commit") for record in records}
    budget = group.record["budget"].items()
    training, in_seconds = _training(group)
    return Section(
        number=number,
        title=board.terms.problem,
        terms=tables.title(board).removeprefix(f"{board.terms.problem}: "),
        grade=board.grade,
        failures=sorted(
            {one_line(line) for record in records for line in record["reference"]["failures"]}
        ),
        cells=cells,
        table=tabulate.table(board, made),
        tracks=sorted({row.track for row in board.rows}),
        floor=board.floor,
        fronts={metric: pareto.points(board, metric) for metric in headline(board)},
        untimed=pareto.untimed(board),
        curves=_curves(group),
        rounds=_rounds(group),
        training=training,
        in_seconds=in_seconds,
        kept=kept,
        classes=[answer(kept.features, question) for question in QUESTIONS],
        notes=notes.of_board(board),
        records=len(records),
        commits=sorted(commit for commit in commits if commit),
        days=" to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
        budget=[(name, str(value)) for name, value in sorted(budget)],
    )


def _curves(group: Group) -> dict[str, list[float]]:
    """The learning curve of each method that records one, of its first such split."""
    found: dict[str, list[float]] = {}
    for method, records in group.records.items():
        for record in records:
            curve = record.get("info", {}).get(CURVE)
            if isinstance(curve, list) and len(curve) > 1:
                found.setdefault(method, [float(value) for value in curve])
    return found


def _rounds(group: Group) -> list[Rounds]:
    """Error by round and metric, of each method's first split that has it."""
    found: dict[tuple[str, str], Rounds] = {}
    for method, records in group.records.items():
        for record in records:
            rounds = record.get("rounds") or []
            for metric in {name for one in rounds for name in one["metrics"]}:
                errors = [one["metrics"].get(metric) for one in rounds]
                if len(errors) < 2 or None in errors or (method, metric) in found:
                    continue
                sent = np.cumsum([one["bytes_up"] + one["bytes_down"] for one in rounds])
                name = name_of(metric)
                found[method, metric] = Rounds(method, name, errors, [int(n) for n in sent])
    return [found[key] for key in sorted(found)]


def _training(group: Group) -> tuple[list[Training], bool]:
    """Each method's first split that has a course of training; of those alone on the machine.

    Where no split was, all are drawn against the share of the training that was done.
    """
    told = [
        (method, record)
        for method, records in group.records.items()
        for record in records
        if record["status"] in SCORED and len(record.get("training") or []) > 1
    ]
    timed = [(method, record) for method, record in told if is_timed(record)]
    found: dict[str, Training] = {}
    for method, record in timed or told:
        tv, shares = ([one[name] for one in record["training"]] for name in ("tv", "share"))
        first, merge = (record["seconds"][phase] for phase in ("fit_slowest_shard", "merge"))
        at = [first + merge * share for share in shares] if timed else shares
        found.setdefault(method, Training(method, tv, at))
    return list(found.values()), bool(timed)


def distinguishing_terms(page: Page) -> list[str]:
    """Of each section's terms those that not all sections have."""
    parts = [section.terms.split(", ") for section in page.sections]
    common = set(parts[0]).intersection(*parts[1:])
    return [", ".join(part for part in own if part not in common) for own in parts]


def choices(page: Page) -> list[tuple[str, list[str]]]:
    """For each question its field and the classes that some problem falls into."""
    made = []
    for place, question in enumerate(QUESTIONS):
        present = {section.classes[place][0] for section in page.sections}
        made.append((question.field, [n for n in (*question.names, UNKNOWN) if n in present]))
    return made
