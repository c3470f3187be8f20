"""Two result sets cell by cell: two versions, two machines, two people.

Cells are matched by problem, method, split scheme, budget, seed and space; versions of ids
may differ, for that is what one wants to see. Differences are paired over splits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from dncbench.boards.leaderboard import headline_of
from dncbench.storage.identity import Terms, identity_of, name_of
from dncbench.storage.records import SCORED, latest
from dncbench.storage.seals import not_sealed
from dncbench.storage.text import one_line

CONFIDENCE = 0.95
SAME, AGREE, DIFFER = "same", "agree", "differ"


@dataclass(frozen=True)
class Difference:
    """One metric of one method on one problem in two result sets.

    Attributes:
        problem: label, and what else the terms are.
        method: label.
        metric: name, without version.
        splits: how many both have.
        first, second: means over these splits.
        difference: second - first.
        standard_error: of the difference: the larger of the paired spread's over splits and
            that of the Monte Carlo errors.
        verdict: "same" to the last bit, "agree" or "differ" at 95% (Student's t).
    """

    problem: str
    method: str
    metric: str
    splits: int
    first: float
    second: float
    difference: float
    standard_error: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Two result sets.

    Attributes:
        differences: one for each metric of each cell that both have.
        changed: cells whose status differs, as "problem, method, split: ok, then failed: reason".
        only_first, only_second: cells that one of them lacks.
        slower: for each method the ratio of seconds (fit of all shards and merge), second to
            first: the geometric mean over cells, and how many.
        unsealed: how many records of the first and of the second have no seal.
    """

    differences: list[Difference]
    changed: list[str]
    only_first: list[str]
    only_second: list[str]
    slower: dict[str, tuple[float, int]]
    unsealed: tuple[int, int]

    @property
    def expected_by_chance(self) -> float:
        """How many "differ" there would be if nothing but chance were at work."""
        return (1 - CONFIDENCE) * sum(each.verdict != SAME for each in self.differences)


def compare(
    first: Iterable[dict[str, Any]],
    second: Iterable[dict[str, Any]],
    metrics: Iterable[str] | None = None,
) -> Comparison:
    """Compare two result sets.

    Args:
        first, second: records.
        metrics: names to compare; those that each problem is judged by where None, all where empty.
    """
    ours, theirs = _by_cell(first), _by_cell(second)
    common = sorted(ours.keys() & theirs.keys())
    wanted = None if metrics is None else set(metrics)
    groups: dict[tuple[Terms, str], list[_Cell]] = {}
    for cell in common:
        groups.setdefault((cell.terms, cell.method), []).append(cell)
    differences = [
        difference
        for group, cells in groups.items()
        for difference in _differences(
            group, [(ours[cell], theirs[cell]) for cell in cells], wanted
        )
    ]
    return Comparison(
        differences,
        [
            f"{cell.title()}: {_status(ours[cell])}, then {_status(theirs[cell])}"
            for cell in common
            if ours[cell]["status"] != theirs[cell]["status"]
        ],
        [cell.title() for cell in sorted(ours.keys() - theirs.keys())],
        [cell.title() for cell in sorted(theirs.keys() - ours.keys())],
        _slower([(ours[cell], theirs[cell]) for cell in common]),
        (not_sealed(ours.values()), not_sealed(theirs.values())),
    )


class _Cell(NamedTuple):
    """What cells of two result sets are matched by: no version, which may differ."""

    terms: Terms
    method: str
    split: int

    def title(self) -> str:
        return f"{self.terms.title()}, {self.method}, split {self.split}"


def _by_cell(records: Iterable[dict[str, Any]]) -> dict[_Cell, dict[str, Any]]:
    found = {}
    for record in latest(records):
        identity = identity_of(record)
        found[_Cell(identity.terms, identity.method.label, identity.split)] = record
    return found


def _status(record: dict[str, Any]) -> str:
    reason = record.get("reason")
    return f"{record['status']} ({one_line(reason)})" if reason else record["status"]


def _differences(
    group: tuple[Terms, str],
    pairs: list[tuple[dict[str, Any], dict[str, Any]]],
    wanted: set[str] | None,
) -> list[Difference]:
    if wanted is None:
        wanted = set(headline_of(second for _, second in pairs))
    scored = [pair for pair in pairs if all(record["status"] in SCORED for record in pair)]
    figures: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for first, second in scored:
        named = {name_of(metric): figure for metric, figure in second["metrics"].items()}
        for metric, figure in first["metrics"].items():
            name = name_of(metric)
            if name in named and (not wanted or name in wanted):
                figures.setdefault(name, []).append((figure, named[name]))
    return [_difference(group, metric, each) for metric, each in sorted(figures.items())]


def _difference(
    group: tuple[Terms, str], metric: str, figures: list[tuple[dict[str, Any], dict[str, Any]]]
) -> Difference:
    values = np.array([[figure["value"] for figure in pair] for pair in figures], float)
    errors = np.array([[figure["standard_error"] for figure in pair] for pair in figures], float)
    gaps, number = values[:, 1] - values[:, 0], len(values)
    error = float(np.sqrt(np.sum(errors**2)) / number)
    allowed = error * ndtri(0.5 + CONFIDENCE / 2)
    if number > 2:
        spread = float(gaps.std(ddof=1) / np.sqrt(number))
        allowed = max(allowed, spread * stdtrit(number - 1, 0.5 + CONFIDENCE / 2))
        error = max(error, spread)
    verdict = AGREE if abs(gaps.mean()) <= allowed else DIFFER
    return Difference(
        problem=group[0].title(),
        method=group[1],
        metric=metric,
        splits=number,
        first=float(values[:, 0].mean()),
        second=float(values[:, 1].mean()),
        difference=float(gaps.mean()),
        standard_error=error,
        verdict=SAME if np.all(gaps == 0.0) else verdict,
    )


def _slower(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, tuple[float, int]]:
    ratios: dict[str, list[float]] = {}
    for first, second in pairs:
        spent = [_seconds(record) for record in (first, second)]
        if min(spent) > 0.0:
            method = identity_of(first).method.label
            ratios.setdefault(method, []).append(float(np.log(spent[1] / spent[0])))
    return {
        method: (float(np.exp(np.mean(logs))), len(logs)) for method, logs in sorted(ratios.items())
    }


def _seconds(record: dict[str, Any]) -> float:
    if record["status"] not in SCORED:
        return 0.0
    return float(record["seconds"]["fit_total"] + record["seconds"]["merge"])


# ---------------------------------------------------------------- as text

HEADER = ["problem", "method", "metric", "splits", "first", "second", "difference", "verdict"]


def rows(found: Comparison, everything: bool = False) -> list[list[str]]:
    """The differences as text; those that agree only where ``everything`` is asked for."""
    return [
        [
            each.problem,
            each.method,
            each.metric,
            str(each.splits),
            f"{each.first:.4g}",
            f"{each.second:.4g}",
            f"{each.difference:+.3g} +- {each.standard_error:.2g}",
            each.verdict,
        ]
        for each in found.differences
        if everything or each.verdict == DIFFER
    ]


def remarks(found: Comparison) -> list[str]:
    """Counts, changed statuses, times, and what only one of them has."""
    verdicts = [each.verdict for each in found.differences]
    lines = [
        f"{len(verdicts)} figures compared: {verdicts.count(SAME)} the same to the last bit, "
        f"{verdicts.count(AGREE)} agree, {verdicts.count(DIFFER)} differ at 95% "
        f"(by chance alone {found.expected_by_chance:.1f} would)"
    ]
    lines += [f"status changed: {change}" for change in found.changed]
    if found.slower:
        lines.append(
            "seconds (fit of all shards and merge), second to first: "
            + ", ".join(
                f"{method} x{ratio:.2f} ({number} cells)"
                for method, (ratio, number) in found.slower.items()
            )
        )
    for which, number in zip(("first", "second"), found.unsealed, strict=True):
        if number:
            lines.append(
                f"{number} records of the {which} are not sealed: nothing tells whether their "
                "contents were changed"
            )
    for which, names in (("first", found.only_first), ("second", found.only_second)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"only in the {which}: {'; '.join(names[:3])}{more}")
    return lines
