"""Records to curves: error, seconds and bytes of every method along one axis.

Reads records and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dncbench import registry
from dncbench.boards.leaderboard import headline_of, is_timed
from dncbench.boards.versions import current_ids, is_fresh
from dncbench.scaling.axes import get_axis
from dncbench.scaling.exponents import Exponent, fit
from dncbench.storage.identity import identity_of
from dncbench.storage.records import SCORED, latest

CLEAR_OF_FLOOR = 2.0
"""Multiples of the noise floor from which an error is fitted: the floor, which adds in
squares, then makes up at most 13 % of it."""

LEAST_SECONDS = 1e-3
"""Shorter spans are what calling a compiled program costs, whatever it computes."""

PHASES = ("sampling", "fit_slowest_shard", "fit_total", "merge")
AFTER_SAMPLING = "after_sampling"
"""Fit of the slowest shard, and merge: what a user waits for who has the draws."""


@dataclass
class Point:
    """One method at one value.

    Attributes:
        value: on the axis.
        splits: how many have figures.
        errors: by metric name, means over splits.
        standard_errors: Monte Carlo standard errors of those means.
        floors: by metric name, mean of the noise floor.
        seconds: by phase, means over splits: of the quiet ones, where there are any.
        beside_other_work: no split was timed on a quiet machine, so seconds are not fitted.
        bytes: mean over splits of what crossed the network.
        unreliable: the merge's own sampling did not converge in some split.
        reason: why figures are missing, of all splits or of some; "" where none are.
    """

    value: float
    splits: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    standard_errors: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    beside_other_work: bool = False
    bytes: float | None = None
    unreliable: bool = False
    reason: str = ""

    def multiple(self, metric: str) -> float | None:
        """An error in multiples of its noise floor; None without one, or where it is zero."""
        floor = self.floors.get(metric)
        return self.errors[metric] / floor if floor else None


@dataclass
class Curve:
    """One method along the axis.

    Attributes:
        method, track: what it is called, and what it was allowed to use.
        points: one for each value of the study.
        exponents: by metric name, phase of :data:`PHASES`, :data:`AFTER_SAMPLING`, "bytes".
    """

    method: str
    track: str
    points: list[Point]
    exponents: dict[str, Exponent] = field(default_factory=dict)


@dataclass
class Study:
    """How every method scales along one axis.

    Attributes:
        axis, label: its name, and what its values are.
        problem, budget, seed: the terms that all cells have in common.
        values: in ascending order.
        metrics: names, in their order.
        curves: by method, the most accurate at the last value first.
    """

    axis: str
    label: str
    problem: str
    budget: str
    seed: int
    values: list[float]
    metrics: list[str]
    curves: dict[str, Curve]


def study(
    records: Iterable[dict[str, Any]], axis: str, *, budget: str = "smoke", seed: int = 0
) -> Study:
    """Read the curves of one axis.

    Args:
        records: from a store; those of other problems and terms, and stale ones, are
            passed over, and of two records of a cell the newest counts.
        axis: one of :func:`dncbench.scaling.known_axes`.
        budget: of the study.
        seed: of the study.

    Raises:
        UnknownNameError: no such axis or budget.
    """
    chosen, records = get_axis(axis), latest(records)
    current = current_ids(records)
    cells: dict[str, dict[float, list[dict[str, Any]]]] = {}
    for record in records:
        identity = identity_of(record)
        plain = identity.space == "unconstrained" and len(identity.method.parts) == 1
        if not (plain and identity.seed == seed and is_fresh(identity, current)):
            continue
        value = chosen.value_of(record, budget)
        if value is not None:
            by_value = cells.setdefault(identity.method.label, {})
            by_value.setdefault(value, []).append(record)
    values = sorted({value for by_value in cells.values() for value in by_value})
    metrics = {entry.id: entry.name for entry in registry.entries("metric")}
    curves = []
    for method, by_value in cells.items():
        points = [_point(value, by_value.get(value, []), metrics) for value in values]
        track = next(iter(by_value.values()))[0]["track"]
        curves.append(Curve(method, track, points, _exponents(points)))
    found = {metric for curve in curves for point in curve.points for metric in point.errors}
    headline = headline_of(
        record for by_value in cells.values() for each in by_value.values() for record in each
    )
    first = [metric for metric in (*headline, "sw2") if metric in found]
    return Study(
        axis,
        chosen.label,
        chosen.problem,
        budget,
        seed,
        values,
        [*first, *sorted(found - {*first})],
        {curve.method: curve for curve in sorted(curves, key=lambda curve: _rank(curve, headline))},
    )


def _rank(curve: Curve, headline: list[str]) -> tuple:
    last = curve.points[-1]
    error = last.errors.get(headline[0]) if headline else None
    return curve.track == "reference", error is None, error or 0.0, curve.method


def _point(value: float, records: list[dict[str, Any]], metrics: dict[str, str]) -> Point:
    scored = [record for record in records if record["status"] in SCORED]
    without = sorted(
        {f"{r['status']}: {r['reason']}" for r in records if r["status"] not in SCORED}
    )
    point = Point(value, len(scored), reason="; ".join(without) or "not run" * (not records))
    if not scored:
        return point
    for metric, name in metrics.items():
        figures = [r["metrics"][metric] for r in scored if metric in r["metrics"]]
        if figures:
            errors = np.array([figure["standard_error"] for figure in figures])
            point.errors[name] = float(np.mean([figure["value"] for figure in figures]))
            point.standard_errors[name] = float(np.sqrt(np.sum(errors**2)) / len(errors))
            point.floors[name] = figures[0]["noise_floor"]["mean"]
    quiet = list(filter(is_timed, scored))
    point.beside_other_work = not quiet
    for phase in PHASES:
        point.seconds[phase] = float(np.mean([r["seconds"][phase] for r in quiet or scored]))
    point.seconds[AFTER_SAMPLING] = point.seconds["fit_slowest_shard"] + point.seconds["merge"]
    point.bytes = float(np.mean([r["bytes_communicated"] for r in scored]))
    point.unreliable = any(record["status"] == "unreliable" for record in scored)
    return point


def _exponents(points: list[Point]) -> dict[str, Exponent]:
    scored = [point for point in points if point.splits]
    found = {}
    for metric in {metric for point in scored for metric in point.errors}:
        errors = {p.value: (p.errors[metric], _mute(p, metric)) for p in scored}
        found[metric] = _fit(errors)
    for phase in (*PHASES, AFTER_SAMPLING):
        spans = {p.value: (p.seconds[phase], _untimed(p, phase)) for p in scored}
        found[phase] = _fit(spans)
    found["bytes"] = _fit(
        {p.value: (p.bytes or 0.0, "" if p.bytes else "nothing is sent") for p in scored}
    )
    return found


def _mute(point: Point, metric: str) -> str:
    """Why an error says nothing of how the method scales; "" where it does."""
    if point.unreliable:
        return "did not converge"
    if (point.multiple(metric) or 0.0) <= CLEAR_OF_FLOOR:
        return "at the noise floor"
    return ""


def _untimed(point: Point, phase: str) -> str:
    """Why seconds say nothing of how the method scales; "" where they do."""
    if point.beside_other_work:
        return "timed beside other work"
    return "" if point.seconds[phase] > LEAST_SECONDS else "under 1 ms"


def _fit(readings: dict[float, tuple[float, str]]) -> Exponent:
    """Fit the readings, by value, that come without a reason to leave them out."""
    telling = {value: reading for value, (reading, reason) in readings.items() if not reason}
    reasons = dict.fromkeys(reason for _, reason in readings.values() if reason)
    return fit(list(telling), list(telling.values()), list(reasons))
