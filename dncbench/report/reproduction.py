"""Published figures beside ours, each with a verdict. Reads records and nothing else.

A figure is *reproduced* where ours, for the experiment as the text describes it, differs by
no more than three standard errors; an *artefact* where it is not, but another
computation, which the published table's entry names, gives the published figure;
*undecided* where three standard errors are more than half of the figure, so that
nearly anything would agree; *unexplained* otherwise. Where records are missing it says so.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dncbench import registry
from dncbench.boards.versions import current_ids, is_fresh
from dncbench.errors import UnknownNameError, nearest
from dncbench.running.suites import of_suite
from dncbench.storage.identity import identity_of
from dncbench.storage.records import SCORED, latest

_FOLDER = Path(__file__).parents[1] / "problems" / "published"
STANDARD_ERRORS = 3.0

VERDICTS = REPRODUCED, ARTEFACT, UNDECIDED, UNEXPLAINED, MISSING = (
    "reproduced",
    "artefact",
    "undecided",
    "unexplained",
    "not run",
)
_AGREES, _DIFFERS, _VAGUE = "agrees", "differs", "vague"


@dataclass(frozen=True)
class Estimate:
    """A figure of ours.

    Attributes:
        value: mean over splits or data sets.
        standard_error: of the mean: the spread between splits, and the Monte Carlo error.
        monte_carlo: root mean square of the figures' own errors. Splits share one
            reference, so that it does not average out over them.
        number: of splits or data sets.
        seconds: mean of all phases of the merge.
        unreliable: a merge's own sampling did not converge.
        grade: the worst of the references.
    """

    value: float
    standard_error: float
    monte_carlo: float
    number: int
    seconds: float
    unreliable: bool
    grade: str


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


def names() -> list[str]:
    """Papers whose figures are here."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def rows(paper: str, records: Iterable[dict[str, Any]], budget: str) -> list[Claim]:
    """Every published figure with its verdict.

    Args:
        paper: one of :func:`names`.
        records: from a store; those of the suite of the same name are read.
        budget: name of the budget whose records are read.

    Raises:
        UnknownNameError: no figures of such a paper are here.
    """
    if paper not in names():
        raise UnknownNameError(
            f"no published figures are called {paper!r}{nearest(paper, names())}; "
            f"known: {', '.join(names())}"
        )
    content = tomllib.loads((_FOLDER / f"{paper}.toml").read_text(encoding="utf-8"))
    # Other split schemes are other experiments; so are other versions of a problem or method.
    own = of_suite(paper, latest(records))
    current = current_ids(own)
    kept = [
        record
        for record in own
        if identity_of(record).budget == budget
        and record["status"] in SCORED
        and is_fresh(identity_of(record), current)
    ]
    found = []
    for table in content["tables"]:
        title = f"Table {table['number']} ({table['title']}, {table['place']})"
        for name, figures in table["rows"].items():
            method = (content["methods"] | table.get("methods", {}))[name]
            for metric, published in figures.items():
                if not isinstance(published, list):  # the seconds of a phase
                    continue
                value, *spread = published
                text = _estimate(kept, table["text"], method["text"], metric)
                computed, why = None, []
                if "computed" in table or "computed" in method:
                    computed = _estimate(
                        kept,
                        table.get("computed", table["text"]),
                        method.get("computed", method["text"]),
                        metric,
                    )
                    why = [
                        part["why"]
                        for part in (table.get("computed"), method)
                        if part and "why" in part
                    ]
                error = spread[0] / np.sqrt(table["splits"]) if spread else 0.0
                found.append(
                    Claim(
                        title,
                        name,
                        metric,
                        value,
                        error,
                        text,
                        computed,
                        "; ".join(why),
                        _verdict(value, error, content["resolution"], text, computed, bool(why)),
                    )
                )
    return found


def _estimate(
    records: list[dict[str, Any]], case: dict[str, Any], method: str, metric: str
) -> Estimate | None:
    chosen = [
        record
        for record in records
        if identity_of(record).problem.name == case["problem"]
        and identity_of(record).method.label == method
        and identity_of(record).space == case.get("space", "unconstrained")
        and case.get("settings", {}).items() <= record["settings"]["problem"].items()
    ]
    wanted = {entry.name: entry.id for entry in registry.entries("metric")}[metric]
    figures = [record["metrics"][wanted] for record in chosen if wanted in record["metrics"]]
    if not figures:
        return None
    values = np.array([figure["value"] for figure in figures])
    monte_carlo = np.sqrt(np.mean([figure["standard_error"] ** 2 for figure in figures]))
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
    )


def _verdict(
    value: float,
    error: float,
    resolution: float,
    text: Estimate | None,
    computed: Estimate | None,
    differs: bool,
) -> str:
    if text is None:
        return MISSING
    described = _compared(value, error, resolution, text)
    if described != _DIFFERS:
        return REPRODUCED if described == _AGREES else UNDECIDED
    if computed is None:
        return MISSING if differs else UNEXPLAINED
    other = _compared(value, error, resolution, computed)
    return {_AGREES: ARTEFACT, _VAGUE: UNDECIDED, _DIFFERS: UNEXPLAINED}[other]


def _compared(value: float, error: float, resolution: float, ours: Estimate) -> str:
    # The published figures are of as many draws, against one chain: no more certain than ours.
    other = np.hypot(error, ours.monte_carlo)
    allowed = STANDARD_ERRORS * np.hypot(ours.standard_error, other)
    # Printed with two decimals, cut off: the figure lies between value and value + resolution.
    gap = max(value - ours.value, ours.value - (value + resolution), 0.0)
    if gap > allowed:
        return _DIFFERS
    return _VAGUE if allowed > 0.5 * max(value, ours.value) else _AGREES


def to_markdown(paper: str, found: list[Claim], budget: str) -> str:
    """The table with a summary of two paragraphs."""
    content = tomllib.loads((_FOLDER / f"{paper}.toml").read_text(encoding="utf-8"))
    lines = [f"# {content['reference']}: published figures and ours", "", *_summary(found, budget)]
    for title in dict.fromkeys(row.table for row in found):
        lines += ["", f"## {title}", ""]
        lines += [
            "| method | metric | published | ours, as the text says | ours, as the code computes "
            "| verdict |",
            "|---|---|---|---|---|---|",
        ]
        part = [row for row in found if row.table == title]
        lines += [
            f"| {row.method} | {row.metric} | {_published_text(row)} | {_text(row.text)} "
            f"| {_text(row.computed)} | {row.verdict} |"
            for row in part
        ]
        whys = dict.fromkeys(row.why for row in part if row.why)
        lines += ["", *(f"As the code computes: {why}." for why in whys)] if whys else []
    return "\n".join(lines) + "\n"


def _published_text(row: Claim) -> str:
    spread = f" (se {row.published_error:.3f})" if row.published_error else ""
    return f"{row.published:.2f}{spread}"


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    mark = "?" * estimate.unreliable
    return f"{estimate.value:.3f}{mark} (se {estimate.standard_error:.3f}, n {estimate.number})"


def _summary(found: list[Claim], budget: str) -> list[str]:
    count = {verdict: sum(row.verdict == verdict for row in found) for verdict in VERDICTS}
    tables = {
        title: [row for row in found if row.table == title]
        for title in dict.fromkeys(row.table for row in found)
    }
    each = "; ".join(
        f"{title.partition(' (')[0]}: "
        + ", ".join(
            f"{number} {verdict}"
            for verdict in VERDICTS
            if (number := sum(row.verdict == verdict for row in part))
        )
        for title, part in tables.items()
    )
    estimates = [e for row in found for e in (row.text, row.computed) if e is not None]
    grades = ", ".join(sorted({estimate.grade for estimate in estimates})) or "-"
    missing = f" {count[MISSING]} more were not run." if count[MISSING] else ""
    return [
        f"Of {len(found)} published figures, {count[REPRODUCED]} are reproduced by the experiment "
        f"as the text describes it, within {STANDARD_ERRORS:g} standard errors of both sides and "
        f"the two decimals printed; {count[ARTEFACT]} are not, but follow from what the public "
        f"code computes instead; {count[UNEXPLAINED]} are unexplained; of {count[UNDECIDED]} the "
        f"errors are too large to tell.{missing} By table: {each}.",
        "",
        f"Our figures are against references of grade {grades} (A exact, B certified by two "
        "samplers that agree, C not certified), with "
        f"the same subposterior draws for every method, and budget `{budget}`; standard errors "
        "(se) cover the spread between splits or data sets and the Monte Carlo error of both "
        "samples, n is how many. The published references were single chains without a "
        "convergence diagnostic, so that a small difference in a published figure may be theirs. "
        "A question mark stands for merges whose own sampling did not converge.",
    ]
