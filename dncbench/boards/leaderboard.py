"""Records to boards. Reads records and nothing else; needs no JAX.

A board holds the rows of one problem under one scheme, budget, seed and space:
figures made under different terms are never in one table.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dncbench import registry
from dncbench.boards.ranking import Figures, resample, standings, tie_groups
from dncbench.boards.versions import current_ids, is_current, is_fresh
from dncbench.storage.identity import REFERENCE_TRACK, Terms, identity_of, name_of
from dncbench.storage.records import SCORED, by_earlier_rules, latest
from dncbench.storage.seals import not_sealed
from dncbench.storage.text import one_line

_LOG_2 = math.log(2)

MAX_OTHER_LOAD = 0.25
"""Cores that other work may keep busy before a record's seconds stay off the board."""


@dataclass
class Score:
    """One metric of one method over the splits.

    Attributes:
        mean: over splits.
        sd: between splits (divisor n - 1); None for a single split.
        standard_error: Monte Carlo standard error of the mean, from the draws' ESS.
        rank: interval of the rank among the board's merges; None for the reference, for a
            merge that is unreliable, where splits are missing, and where it was not asked for.
        group: 1 for the best and what cannot be told from it, and so on; None as ``rank``.
        at_floor: within two floor sds of what perfect draws read, the error of the floor's own
            mean included.
        unreliable: the merge's own sampling did not converge in some split.
    """

    mean: float
    sd: float | None
    standard_error: float
    rank: tuple[int, int] | None = None
    group: int | None = None
    at_floor: bool = False
    unreliable: bool = False

    @property
    def best(self) -> bool:
        """Best of the board, or not to be told from it."""
        return self.group == 1


@dataclass
class Row:
    """One method on one board.

    Attributes:
        method, track: what it is called, and what it was allowed to use.
        splits: how many have figures.
        scores: by metric id.
        overall: doublings above the noise floor: log2(figure / floor), not below 0, mean
            over the board's metrics with equal weights.
        doublings: the same for each split, with its Monte Carlo standard error.
        states: how many splits failed, and so on; empty where all is well.
        tried: the splits of which there is any record.
        seconds: means over splits, by phase.
        bytes: mean over splits of what crossed the network.
        memory_mib: what its largest compiled program needs, by XLA's account: arguments,
            results and intermediates; None where no record says.
        k_hat: largest Pareto k-hat over splits; None where the method has no density.
        notes: failures, warnings and the like.
    """

    method: str
    track: str
    splits: int = 0
    scores: dict[str, Score] = field(default_factory=dict)
    overall: Score | None = None
    doublings: dict[int, tuple[float, float]] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: int | None = None
    memory_mib: float | None = None
    k_hat: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Board:
    """One problem's table.

    Attributes:
        terms: that every row was made under.
        headline: names of the metrics that its problem is judged by, in their order.
        metrics: metric ids, in column order.
        ranking: those of them that decide the order.
        floor: for each metric the mean and sd between sets of reference draws.
        grade: of the reference.
        rows: best first.
        stale: records left out because the meaning of an id changed since.
        unsealed: how many of its records have no seal.
        earlier_rules: how many of them tell errors by earlier rules.
    """

    terms: Terms
    headline: list[str]
    metrics: list[str]
    ranking: list[str]
    floor: dict[str, dict[str, float]]
    grade: str
    rows: list[Row]
    stale: int = 0
    unsealed: int = 0
    earlier_rules: int = 0


def boards(
    records: Iterable[dict[str, Any]],
    problems: Iterable[str] = (),
    budgets: Iterable[str] = (),
    metrics: Iterable[str] | None = None,
    tracks: Iterable[str] = (),
    by_metric: bool = True,
) -> list[Board]:
    """Group records into boards.

    Args:
        records: from a store.
        problems: names to keep; all where empty.
        budgets: names to keep; all where empty.
        metrics: names to show, and to rank by; those that its problem is judged by where
            None. All where empty, and the board is ranked by its problem's then.
        tracks: to keep beside the reference, and to rank among themselves; all where empty.
        by_metric: whether to give rank intervals by each metric as well, which tables do not show.
    """
    wanted = None if metrics is None else tuple(metrics)
    records = latest(records)
    current = current_ids(records)
    return [
        _board(terms, fresh, stale, current["metric"], wanted, by_metric)
        for terms, (fresh, stale) in _by_terms(
            records, current, set(problems), set(budgets), set(tracks)
        ).items()
    ]


def by_terms(
    records: Iterable[dict[str, Any]],
    problems: Iterable[str] = (),
    budgets: Iterable[str] = (),
    tracks: Iterable[str] = (),
) -> dict[Terms, tuple[list[dict[str, Any]], int]]:
    """The records of each board, and how many stale ones were left out; sorted by terms.

    Arguments as those of :func:`boards`.
    """
    records = latest(records)
    return _by_terms(records, current_ids(records), set(problems), set(budgets), set(tracks))


def _by_terms(
    records: list[dict[str, Any]],
    current: dict[str, dict[str, str]],
    problems: set[str],
    budgets: set[str],
    tracks: set[str],
) -> dict[Terms, tuple[list[dict[str, Any]], int]]:
    kept_tracks = {*tracks, REFERENCE_TRACK} if tracks else None
    found: dict[Terms, tuple[list[dict[str, Any]], int]] = {}
    for record in records:
        identity = identity_of(record)
        if problems and identity.problem.name not in problems:
            continue
        if budgets and identity.budget not in budgets:
            continue
        if kept_tracks is not None and record["track"] not in kept_tracks:
            continue
        fresh, stale = found.get(identity.terms, ([], 0))
        if is_fresh(identity, current):
            fresh.append(record)
        else:
            stale += 1
        found[identity.terms] = fresh, stale
    return dict(sorted(found.items()))


def headline_of(records: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the metrics that a problem is judged by, as its newest record says."""
    newest = max(records, key=lambda record: record["created"], default=None)
    return list(newest["headline"]) if newest else []


def _board(
    terms: Terms,
    records: list[dict[str, Any]],
    stale: int,
    current: dict[str, str],
    wanted: tuple[str, ...] | None,
    by_metric: bool,
) -> Board:
    headline = headline_of(records)
    if wanted is None:
        wanted = tuple(headline)
    by_method = by_label(records)
    scored = [record for record in records if record["status"] in SCORED]
    places = {name: place for place, name in enumerate(headline)}
    metrics = sorted(
        {
            metric
            for record in scored
            for metric in record["metrics"]
            if is_current(metric, current) and (not wanted or name_of(metric) in wanted)
        },
        key=lambda metric: (places.get(name_of(metric), 9), metric),
    )
    floor = {
        metric: record["metrics"][metric]["noise_floor"]
        for record in scored
        for metric in metrics
        if metric in record["metrics"]
    }
    figures = {
        method: {metric: by_split(group, metric) for metric in metrics}
        for method, group in by_method.items()
    }
    rows = {method: _row(method, group, figures[method]) for method, group in by_method.items()}
    for metric in metrics:
        scores = {name: row.scores[metric] for name, row in rows.items() if metric in row.scores}
        _rank(scores, {name: own[metric] for name, own in figures.items()}, rows, by_metric)
        for score in scores.values():
            level = floor[metric]
            width = math.hypot(level["sd"], level.get("standard_error", 0.0))
            score.at_floor = score.mean <= level["mean"] + 2 * width
    ranked_by = wanted or headline
    ranking = [metric for metric in metrics if name_of(metric) in ranked_by]
    logs = {entry.name for entry in registry.entries("metric") if entry.log}
    # A floor of zero has no multiples, but that of a logarithm has.
    levels = {
        metric: (floor[metric]["mean"], name_of(metric) in logs)
        for metric in ranking
        if name_of(metric) in logs or floor[metric]["mean"] > 0.0
    }
    for name, row in rows.items():
        row.doublings = _doublings(figures[name], levels)
        if row.doublings:
            row.overall = _score(list(row.doublings.values()), row)
    overall = {name: row.overall for name, row in rows.items() if row.overall is not None}
    _rank(overall, {name: row.doublings for name, row in rows.items()}, rows, True)
    grades = {record["reference"]["grade"] for record in records}

    def order(row: Row) -> tuple:
        return (
            row.track == REFERENCE_TRACK,
            row.overall is None,
            row.overall.mean if row.overall else 0.0,
            row.method,
        )

    return Board(
        terms,
        headline,
        metrics,
        ranking,
        floor,
        max(grades, default="?"),
        sorted(rows.values(), key=order),
        stale,
        not_sealed(records),
        by_earlier_rules(records),
    )


def by_label(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Records by the label of their method."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record["identity"]["method"]["label"], []).append(record)
    return found


def _row(
    method: str, records: list[dict[str, Any]], figures: dict[str, dict[int, tuple[float, float]]]
) -> Row:
    scored = [record for record in records if record["status"] in SCORED]
    row = Row(method, records[0]["track"], len(scored))
    row.tried = sorted(record["identity"]["split"]["index"] for record in records)
    for metric, own in figures.items():
        if own:
            row.scores[metric] = _score(list(own.values()), row)
    if any(record["status"] == "unreliable" for record in scored):
        for score in row.scores.values():
            score.unreliable = True
    timed = [record for record in scored if (record["other_load_cores"] or 0.0) <= MAX_OTHER_LOAD]
    for phase in timed[0]["seconds"] if timed else ():
        spent = [record["seconds"][phase] for record in timed]
        if "compile" in phase:
            # A program is compiled once, by whichever split came first.
            spent = [max(spent)] if max(spent) > 0 or len(timed) == len(scored) else []
        if spent:
            row.seconds[phase] = sum(spent) / len(spent)
    if scored:
        row.bytes = round(sum(record["bytes_communicated"] for record in scored) / len(scored))
    needed = [max(record.get("memory_bytes", {}).values(), default=0) for record in scored]
    row.memory_mib = max(needed) / 2**20 if any(needed) else None
    k_hats = [(record.get("importance") or {}).get("k_hat") for record in scored]
    row.k_hat = max((k_hat for k_hat in k_hats if k_hat is not None), default=None)
    if len(timed) < len(scored):
        row.notes.append(f"{len(scored) - len(timed)} timed beside other work")
    for status in ("failed", "timeout", "not applicable", "unreliable"):
        reasons = [record["reason"] for record in records if record["status"] == status]
        if reasons:
            row.states.append(f"{len(reasons)} {status}")
            row.notes.append(f"{len(reasons)} {status}: {one_line(reasons[0])}")
    warned = [record["warnings"] for record in scored if record.get("warnings")]
    if warned:
        row.notes.append(f"{len(warned)} with warnings, e.g. {one_line(warned[0][0])}")
    return row


def _score(figures: list[tuple[float, float]], row: Row) -> Score:
    mean, standard_error = _mean_of(figures)
    sd = None
    if len(figures) > 1:
        sd = math.sqrt(sum((value - mean) ** 2 for value, _ in figures) / (len(figures) - 1))
    unreliable = any(score.unreliable for score in row.scores.values())
    return Score(mean, sd, standard_error, unreliable=unreliable)


def _mean_of(figures: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean of a few figures, and the standard error that theirs give it."""
    mean = sum(value for value, _ in figures) / len(figures)
    return mean, math.sqrt(sum(error**2 for _, error in figures)) / len(figures)


def _rank(
    scores: dict[str, Score], figures: Figures, rows: dict[str, Row], intervals: bool
) -> None:
    """Give every reliable merge its tie group, and its rank interval if wanted."""
    merges = {
        name: figures[name]
        for name, score in scores.items()
        if rows[name].track != REFERENCE_TRACK and not score.unreliable
    }
    resampled = resample(merges)
    if not intervals:
        for name, group in tie_groups(resampled).items():
            scores[name].group = group
        return
    for name, standing in standings(resampled).items():
        scores[name].rank, scores[name].group = standing.rank, standing.group


def by_split(records: list[dict[str, Any]], metric: str) -> dict[int, tuple[float, float]]:
    """A method's figures and their standard errors, by split, where it has any."""
    return {
        record["identity"]["split"]["index"]: (
            record["metrics"][metric]["value"],
            record["metrics"][metric]["standard_error"],
        )
        for record in records
        if record["status"] in SCORED and metric in record["metrics"]
    }


def _doublings(
    figures: dict[str, dict[int, tuple[float, float]]], levels: dict[str, tuple[float, bool]]
) -> dict[int, tuple[float, float]]:
    """Doublings above the floor, and their standard errors, by split.

    Every metric has the same weight; splits that lack one of them are left out. A metric that
    is a logarithm already counts by its excess over the floor: a held-out log predictive density
    that is log 2 worse is one doubling.

    Args:
        figures: of one method, by metric and split.
        levels: by metric the mean of its floor, and whether it is a logarithm.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    for metric, (lowest, is_log) in levels.items():
        for split, (value, error) in figures[metric].items():
            above = max(value, lowest)
            doublings = (above - lowest) / _LOG_2 if is_log else math.log2(above / lowest)
            scale = 1.0 if is_log else above
            found.setdefault(split, []).append((doublings, error / (scale * _LOG_2)))
    return {split: _mean_of(each) for split, each in found.items() if len(each) == len(levels)}
