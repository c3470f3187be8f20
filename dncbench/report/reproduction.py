"""Published figures beside ours, each with a verdict. Reads records and nothing else.

A figure is *reproduced* where ours, for the experiment as the text describes it, differs by
no more than three standard errors; an *artefact* where it is not, but another
computation, which the published table's entry names, gives the published figure;
*undecided* where three standard errors are more than half of the published figure, so that
nearly anything would agree. What is left is *unexplained* where it was run with the
paper's training and draws, and *not run as described* where it was not: that difference may
be all there is to it. Where records are missing it says so.

All figures of one metric in a table are read against one reference. Those that agree one by
one are therefore tested together (:mod:`dncbench.report.joint_offset`), with those that do not
but are off by as much as the others: an error that all share is one error. Where the common
offset is more than three of its standard errors, none of them counts as agreeing, otherwise all.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dncbench import budget as budgets
from dncbench import registry
from dncbench.boards.versions import current_ids, is_fresh
from dncbench.configure import configure, label
from dncbench.errors import UnknownNameError, nearest
from dncbench.report.joint_offset import STANDARD_ERRORS, Member, Offset, joint_offset, moves_with
from dncbench.running.suites import of_suite
from dncbench.storage.identity import identity_of
from dncbench.storage.records import SCORED, latest

_FOLDER = Path(__file__).parents[1] / "problems" / "published"

VERDICTS = REPRODUCED, ARTEFACT, UNDECIDED, UNEXPLAINED, OTHERWISE, MISSING = (
    "reproduced",
    "artefact",
    "undecided",
    "unexplained",
    "not run as described",
    "not run",
)
COLUMNS = ("text", "computed")
_AGREES, _DIFFERS, _VAGUE = "agrees", "differs", "vague"


@dataclass(frozen=True)
class Estimate:
    """A figure of ours.

    Attributes:
        value: mean over splits or data sets.
        standard_error: of the mean: the spread between splits, and the Monte Carlo error.
        monte_carlo: standard error of the mean from finite samples: root mean square of the
            figures' own. Splits of one data set share a reference, so that it does not
            average out over them, as it does over data sets.
        number: of splits or data sets.
        seconds: mean of all phases of the merge.
        unreliable: a merge's own sampling did not converge.
        grade: the worst of the references.
        departures: in what it was not run as the paper has it: draws, training.
    """

    value: float
    standard_error: float
    monte_carlo: float
    number: int
    seconds: float
    unreliable: bool
    grade: str
    departures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """One published figure.

    Attributes:
        table: number and title.
        method: as the paper calls it.
        metric: name.
        published: value, as printed.
        published_error: standard error of it, as far as the paper lets one know.
        text: ours for the experiment as described; None where it was not run.
        computed: ours for what the public code runs; None where that is the same.
        why: how the two differ.
        verdict: one of :data:`VERDICTS`.
    """

    table: str
    method: str
    metric: str
    published: float
    published_error: float
    text: Estimate | None
    computed: Estimate | None
    why: str
    verdict: str


@dataclass(frozen=True)
class Joint:
    """The figures of one metric in a table that may share an offset, tested together.

    Attributes:
        table: number and title.
        metric: name.
        column: "text" or "computed": which of our computations they agree with.
        methods: whose figures agree, each alone or off by as much as the others; as the
            paper calls them.
        offset: what they have in common.
    """

    table: str
    metric: str
    column: str
    methods: tuple[str, ...]
    offset: Offset


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of a paper.

    Attributes:
        claims: every published figure.
        joint: the tests of several of them together.
    """

    claims: list[Claim]
    joint: list[Joint]


def names() -> list[str]:
    """Papers whose figures are here."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def published(paper: str) -> dict[str, Any]:
    """The paper's entry: its tables, and how each figure is computed.

    Raises:
        UnknownNameError: no figures of such a paper are here.
    """
    if paper not in names():
        raise UnknownNameError(
            f"no published figures are called {paper!r}{nearest(paper, names())}; "
            f"known: {', '.join(names())}"
        )
    return tomllib.loads((_FOLDER / f"{paper}.toml").read_text(encoding="utf-8"))


def compare(paper: str, records: Iterable[dict[str, Any]], budget: str) -> Comparison:
    """Every published figure with its verdict.

    Args:
        paper: one of :func:`names`.
        records: from a store; those of the suite of the same name are read.
        budget: name of the budget whose records stand in where there are none of the
            budget that the paper's draws ask for.

    Raises:
        UnknownNameError: no figures of such a paper are here.
    """
    content = published(paper)
    # Other split schemes are other experiments; so are other versions of a problem or method.
    own = of_suite(paper, latest(records))
    current = current_ids(own)
    kept = [
        record
        for record in own
        if record["status"] in SCORED and is_fresh(identity_of(record), current)
    ]
    claims, joint = [], []
    for table in content["tables"]:
        figures = _figures(content, table, kept, budget)
        outcomes = {
            column: [_compared(figure, column, content["resolution"]) for figure in figures]
            for column in COLUMNS
        }
        for test in _together(figures, outcomes, content["resolution"]):
            joint.append(test)
            for place, figure in enumerate(figures):
                if figure.metric == test.metric and figure.method in test.methods:
                    agree = not test.offset.significant
                    outcomes[test.column][place] = _AGREES if agree else _DIFFERS
        claims += [
            replace(figure, verdict=_verdict(figure, *outcome))
            for figure, *outcome in zip(figures, *outcomes.values(), strict=True)
        ]
    return Comparison(claims, joint)


def _figures(
    content: dict[str, Any], table: dict[str, Any], records: list[dict[str, Any]], budget: str
) -> list[Claim]:
    """The table's figures beside ours, all of them without a verdict."""
    title = f"Table {table['number']} ({table['title']}, {table['place']})"
    found = []
    for name, figures in table["rows"].items():
        method = (content["methods"] | table.get("methods", {}))[name]
        differs = "computed" in table or "computed" in method
        why = [part["why"] for part in (table.get("computed"), method) if part and "why" in part]
        for metric, printed in figures.items():
            if not isinstance(printed, list):  # the seconds of a phase
                continue
            value, *spread = printed

            def ours(column: str, metric: str = metric, method: Any = method) -> Estimate | None:
                # What is computed otherwise is said of the problem, of the method, or of both.
                case = table.get(column, table["text"])
                own = column in method and column != "text"
                labels = [method[column]] if own else [method["text"], *method.get("stand_in", ())]
                return _estimate(records, table, case, labels, budget, metric)

            found.append(
                Claim(
                    title,
                    name,
                    metric,
                    value,
                    _published_error(spread[0], table["splits"]) if spread else 0.0,
                    ours("text"),
                    ours("computed") if differs else None,
                    "; ".join(why),
                    MISSING,
                )
            )
    return found


def _published_error(spread: float, splits: int) -> float:
    """Standard error of the mean over splits, from a standard deviation with divisor n.

    The published code takes population standard deviations (NumPy's default): the sample's is
    larger by sqrt(n / (n - 1)), and the mean's standard error is that over sqrt(n).
    """
    return float(spread * np.sqrt(splits / (splits - 1)) / np.sqrt(splits))


def _estimate(
    records: list[dict[str, Any]],
    table: dict[str, Any],
    case: dict[str, Any],
    labels: list[str],
    budget: str,
    metric: str,
) -> Estimate | None:
    """Ours, of the settings and draws nearest to the paper's that all splits were run with.

    Args:
        records: to choose from.
        table: of the paper; ``budget`` has the paper's draws, ``splits`` how often.
        case: problem, its settings and space.
        labels: the method as the paper has it, and what may stand in for it, best first.
        budget: that may stand in for the paper's draws.
        metric: name.
    """
    here = [
        record
        for record in records
        if identity_of(record).problem.name == case["problem"]
        and identity_of(record).space == case.get("space", "unconstrained")
        and case.get("settings", {}).items() <= record["settings"]["problem"].items()
    ]
    wanted = {entry.name: entry.id for entry in registry.entries("metric")}[metric]
    described = label(*configure("method", labels[0]))
    chosen: list[dict[str, Any]] = []
    departures: tuple[str, ...] = ()
    for method in labels:
        name = label(*configure("method", method))
        for spent in dict.fromkeys((table["budget"], budget)):
            candidates = [
                record
                for record in here
                if identity_of(record).method.label == name
                and identity_of(record).budget == spent
                and wanted in record["metrics"]
            ]
            if min(len(candidates), table["splits"]) > min(len(chosen), table["splits"]):
                chosen = candidates
                departures = (
                    *_fewer_draws(spent, table["budget"]),
                    *([f"{name}, not {described}"] if name != described else []),
                )
    if not chosen:
        return None
    figures = [record["metrics"][wanted] for record in chosen]
    values = np.array([figure["value"] for figure in figures])
    references = {(identity_of(each).problem.label, identity_of(each).seed) for each in chosen}
    monte_carlo = np.sqrt(np.mean([figure["standard_error"] ** 2 for figure in figures]))
    monte_carlo /= np.sqrt(len(references))
    between = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    phases = ("fit_slowest_shard", "merge")
    return Estimate(
        float(values.mean()),
        float(np.hypot(monte_carlo, between)),
        float(monte_carlo),
        len(values),
        float(np.mean([sum(record["seconds"][phase] for phase in phases) for record in chosen])),
        any(record["status"] == "unreliable" for record in chosen),
        max(record["reference"]["grade"] for record in chosen),
        departures,
    )


def _fewer_draws(spent: str, asked: str) -> list[str]:
    have, want = (budgets.get(name).draws_per_shard for name in (spent, asked))
    return [] if have == want else [f"{have:,} of {want:,} draws".replace(",", " ")]


def _compared(figure: Claim, column: str, resolution: float) -> str | None:
    """How a figure compares with one of ours; None where there is none."""
    ours: Estimate | None = getattr(figure, column)
    if ours is None:
        return None
    # Printed with two decimals, cut off: the figure lies between value and value + resolution.
    value, allowed = figure.published, _allowed(figure, ours)
    gap = max(value - ours.value, ours.value - (value + resolution), 0.0)
    if gap > allowed:
        return _DIFFERS
    return _VAGUE if allowed > 0.5 * value else _AGREES


def _allowed(figure: Claim, ours: Estimate) -> float:
    # The published figures are of as many draws, against one chain: no more certain than ours.
    other = np.hypot(figure.published_error, ours.monte_carlo)
    return float(STANDARD_ERRORS * np.hypot(ours.standard_error, other))


def _together(
    figures: list[Claim], outcomes: dict[str, list[str | None]], resolution: float
) -> list[Joint]:
    """For each metric and each of our computations, the figures that agree with it, if several.

    With them go those that do not agree, but whose offset is theirs.
    """
    found = []
    for metric in dict.fromkeys(figure.metric for figure in figures):
        for column in COLUMNS:
            beside = {
                figure.method: (outcome, figure, getattr(figure, column))
                for figure, outcome in zip(figures, outcomes[column], strict=True)
                if figure.metric == metric and outcome in (_AGREES, _DIFFERS)
            }
            members = {
                method: _member(figure, ours)
                for method, (outcome, figure, ours) in beside.items()
                if outcome == _AGREES
            }
            alone = list(members.values())
            if not alone:
                continue
            for method, (outcome, figure, ours) in beside.items():
                # A logarithm tells nothing of a figure that is hardly known.
                known = _allowed(figure, ours) <= 0.5 * min(figure.published, ours.value)
                member = _member(figure, ours)
                if outcome == _DIFFERS and known and moves_with(member, alone, resolution):
                    members[method] = member
            if len(members) > 1:
                offset = joint_offset(list(members.values()), resolution)
                found.append(Joint(figures[0].table, metric, column, tuple(members), offset))
    return found


def _member(figure: Claim, ours: Estimate) -> Member:
    between = np.sqrt(max(ours.standard_error**2 - ours.monte_carlo**2, 0.0))
    return Member(
        figure.published, figure.published_error, ours.value, ours.monte_carlo, float(between)
    )


def _verdict(figure: Claim, text: str | None, computed: str | None) -> str:
    if figure.text is None:
        return MISSING
    if text != _DIFFERS:
        return REPRODUCED if text == _AGREES else UNDECIDED
    if computed is None and figure.why:
        return MISSING
    if computed in (_AGREES, _VAGUE):
        return ARTEFACT if computed == _AGREES else UNDECIDED
    run = [figure.text] if figure.computed is None else [figure.text, figure.computed]
    return OTHERWISE if any(estimate.departures for estimate in run) else UNEXPLAINED
