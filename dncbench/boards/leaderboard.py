"""Records to boards. Reads records and nothing else; needs no JAX.

A board holds the rows of one problem under one scheme, budget, seed and space:
figures made under different terms are never in one table.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dncbench import registry
from dncbench.boards.board import (
    EXACT_SHARE,
    UNCERTIFIED,
    Board,
    Reading,
    Row,
    Score,
    shared_splits,
)
from dncbench.boards.pooling import board_terms, repetition, split_of
from dncbench.boards.ranking import MIN_SPLITS, Figures, resample, standings, tie_groups
from dncbench.boards.versions import current_ids, is_current, is_fresh
from dncbench.storage.identity import REFERENCE_TRACK, Terms, base_name, identity_of, name_of
from dncbench.storage.ratios import misses_posterior
from dncbench.storage.records import SCORED, by_earlier_rules, latest
from dncbench.storage.seals import not_sealed
from dncbench.storage.text import one_line

_LOG_2 = math.log(2)

MAX_OTHER_LOAD = 0.25
"""Cores that other work may keep busy before a record's seconds stay off the board."""


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
        terms = board_terms(identity)
        fresh, stale = found.get(terms, ([], 0))
        if is_fresh(identity, current):
            fresh.append(record)
        else:
            stale += 1
        found[terms] = fresh, stale
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
    figures = {
        method: {metric: by_split(group, metric) for metric in metrics}
        for method, group in by_method.items()
    }
    grade = max((record["reference"]["grade"] for record in records), default="?")
    rows = {method: _row(method, group, figures[method]) for method, group in by_method.items()}
    unranked = _why_unranked(grade, rows, figures)
    floor = {metric: _mean_floor(scored, metric) for metric in metrics}
    logs = {entry.name for entry in registry.entries("metric") if entry.log}
    is_log = {metric: name_of(metric) in logs for metric in metrics}
    for metric in metrics:
        scores = {name: row.scores[metric] for name, row in rows.items() if metric in row.scores}
        if not unranked:
            own = {
                name: _doublings(each, {metric: is_log[metric]}) or _plain(each[metric])
                for name, each in figures.items()
            }
            _rank(scores, own, rows, by_metric)
        for score in scores.values():
            at_floor = score.mean <= _highest_at_floor(floor[metric], score.exact)
            score.at_floor = at_floor and grade != UNCERTIFIED
    ranked_by = wanted or headline
    ranking = [metric for metric in metrics if name_of(metric) in ranked_by]
    counted = {
        metric: is_log[metric]
        for metric in ranking
        # A floor of zero has no multiples, but that of a logarithm has.
        if is_log[metric] or floor[metric]["mean"] > 0.0
    }
    for name, row in rows.items():
        row.doublings = _doublings(figures[name], counted)
        if row.doublings:
            row.overall = _score(list(row.doublings.values()), row)
    overall = {name: row.overall for name, row in rows.items() if row.overall is not None}
    if not unranked:
        _rank(overall, {name: row.doublings for name, row in rows.items()}, rows, True)

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
        grade,
        sorted(rows.values(), key=order),
        sorted({each for record in records if (each := repetition(record))}),
        unranked,
        stale,
        not_sealed(records),
        by_earlier_rules(records),
    )


def _why_unranked(
    grade: str, rows: dict[str, Row], figures: dict[str, dict[str, dict[str, Reading]]]
) -> str:
    """Why a board gives no ranks; "" where it does."""
    if grade == UNCERTIFIED:
        return "the reference is not certified (grade C): what perfect draws read is not known"
    solved = {split for own in figures.values() for each in own.values() for split in each}
    number = len(solved & shared_splits(row for row in rows.values() if row.scores))
    if solved and number < MIN_SPLITS:
        return (
            f"ranks need {MIN_SPLITS} splits that most methods have, and here are {number}: run "
            f"them with --splits {MIN_SPLITS}"
        )
    return ""


def _highest_at_floor(level: dict[str, float], exact: bool) -> float:
    """The largest mean figure that is no worse than that of perfect draws, or of the right law."""
    if exact:
        return level["mean"] * EXACT_SHARE
    return level["mean"] + 2 * math.hypot(level["sd"], level.get("standard_error", 0.0))


def _mean_floor(records: list[dict[str, Any]], metric: str) -> dict[str, float]:
    """A metric's floor; the mean over repetitions, which have references of their own."""
    by_repetition = {
        repetition(record): record["metrics"][metric]["noise_floor"]
        for record in records
        if metric in record["metrics"]
    }
    floors = list(by_repetition.values())
    if len(floors) == 1:
        return dict(floors[0])
    common = set.intersection(*(set(floor) for floor in floors))  # older ones know less
    return {name: sum(floor[name] for floor in floors) / len(floors) for name in sorted(common)}


def by_label(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Records by the label of their method."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record["identity"]["method"]["label"], []).append(record)
    return found


def is_timed(record: dict[str, Any]) -> bool:
    """Whether a record with figures has seconds that no other work made longer."""
    return (record["other_load_cores"] or 0.0) <= MAX_OTHER_LOAD


def _row(method: str, records: list[dict[str, Any]], figures: dict[str, dict[str, Reading]]) -> Row:
    scored = [record for record in records if record["status"] in SCORED]
    row = Row(method, _track(method, records), len(scored))
    row.tried = sorted(map(split_of, records))
    for metric, own in figures.items():
        if own:
            row.scores[metric] = _score(list(_plain(own).values()), row)
            row.scores[metric].exact = all(each.exact for each in own.values())
    for score in row.scores.values():
        score.unreliable = any(record["status"] == "unreliable" for record in scored)
        score.misfit = any(misses_posterior(record.get("importance")) for record in scored)
    timed = list(filter(is_timed, scored))
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
    ratios = [record.get("importance") or {} for record in scored]
    known = [each for each in ratios if each.get("k_hat") is not None]
    row.k_hat = max((each["k_hat"] for each in known), default=None)
    row.ess_share = min((each["ess_share"] for each in known), default=None)
    if len(timed) < len(scored):
        row.notes.append(f"{len(scored) - len(timed)} timed beside other work")
    for status in ("failed", "timeout", "not applicable", "unreliable"):
        reasons = [record["reason"] for record in records if record["status"] == status]
        if reasons:
            row.states.append(f"{len(reasons)} {status}")
            row.notes.append(f"{len(reasons)} {status}: {one_line(reasons[0])}")
    warned = [record["warnings"] for record in scored if record.get("warnings")]
    row.warned = len(warned)
    row.warnings = list(dict.fromkeys(one_line(each) for sentences in warned for each in sentences))
    return row


def _track(method: str, records: list[dict[str, Any]]) -> str:
    """What the method was allowed to use; that of the reference for what is no merge."""
    entry = registry.find("method", base_name(method))
    return records[0]["track"] if entry is None or entry.ranked else REFERENCE_TRACK


def _score(figures: list[tuple[float, float]], row: Row) -> Score:
    mean, standard_error = _mean_of(figures)
    sd = None
    if len(figures) > 1:
        sd = math.sqrt(sum((value - mean) ** 2 for value, _ in figures) / (len(figures) - 1))
    unreliable = any(score.unreliable for score in row.scores.values())
    misfit = any(score.misfit for score in row.scores.values())
    return Score(mean, sd, standard_error, unreliable=unreliable, misfit=misfit)


def _mean_of(figures: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean of a few figures, and the standard error that theirs give it."""
    mean = sum(value for value, _ in figures) / len(figures)
    return mean, math.sqrt(sum(error**2 for _, error in figures)) / len(figures)


def _rank(
    scores: dict[str, Score], figures: Figures, rows: dict[str, Row], intervals: bool
) -> None:
    """Give every reliable merge its tie group, and its rank interval if wanted.

    A merge whose density misses the posterior has neither, but takes its place among the others:
    those that have no density to be looked at must not gain by it.
    """
    merges = {
        name: figures[name]
        for name, score in scores.items()
        if rows[name].track != REFERENCE_TRACK and not score.unreliable
    }
    resampled = resample(merges)
    if not intervals:
        for name, group in tie_groups(resampled).items():
            scores[name].group = None if scores[name].misfit else group
        return
    for name, standing in standings(resampled).items():
        if not scores[name].misfit:
            scores[name].rank, scores[name].group = standing.rank, standing.group


def by_split(records: list[dict[str, Any]], metric: str) -> dict[str, Reading]:
    """A method's figures by split, where it has any."""
    return {
        split_of(record): Reading(
            record["metrics"][metric]["value"],
            record["metrics"][metric]["standard_error"],
            record["metrics"][metric]["noise_floor"]["mean"],
            record["metrics"][metric]["standard_error"] == 0.0 and _tells_law(record),
        )
        for record in records
        if record["status"] in SCORED and metric in record["metrics"]
    }


def _tells_law(record: dict[str, Any]) -> bool:
    """Whether a merge tells the exact law of its draws.

    Then the metrics that its problem is judged by have no Monte Carlo error. One metric without
    an error does not say so: a share of missed modes, say, has none where draws miss no mode.
    """
    errors = [
        figure["standard_error"]
        for metric, figure in record["metrics"].items()
        if name_of(metric) in record["headline"]
    ]
    return bool(errors) and max(errors) == 0.0


def _plain(readings: dict[str, Reading]) -> dict[str, tuple[float, float]]:
    return {split: (each.value, each.standard_error) for split, each in readings.items()}


def _doublings(
    figures: dict[str, dict[str, Reading]], is_log: dict[str, bool]
) -> dict[str, tuple[float, float]]:
    """Doublings above the floor, and their standard errors, by split.

    Every metric has the same weight; splits that lack one of them are left out, and those where
    a floor of zero has no multiples. A metric that is a logarithm already counts by its excess over
    the floor: a held-out log predictive density that is log 2 worse is one doubling.

    Args:
        figures: of one method, by metric and split.
        is_log: the metrics that count, and whether each is a logarithm.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for metric, log in is_log.items():
        for split, each in figures[metric].items():
            if log:
                doublings = max(each.value - each.floor, 0.0) / _LOG_2
                found.setdefault(split, []).append((doublings, each.standard_error / _LOG_2))
            elif each.floor > 0.0:
                above = max(each.value, each.least)
                error = each.standard_error / (above * _LOG_2)
                found.setdefault(split, []).append((math.log2(above / each.floor), error))
    return {split: _mean_of(each) for split, each in found.items() if len(each) == len(is_log)}
