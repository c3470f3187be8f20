"""Boards to one table: how many times above the floor a method is, over problems.

Raw figures of different metrics and problems share no unit; doublings above the noise
floor do (``Row.overall`` of :mod:`dncbench.boards.leaderboard`). Boards of one problem (five data
sets, two spaces) share the weight of one. A method that has no figure somewhere would gain
by it, so there are two means: over the problems that every method solved, and over all of
them, where whoever failed or does not apply in a split gets the worst figure there. A method
that was not even tried on some board is left out, and said to be. Boards that rank nothing, of too
few splits or an uncertified reference, have no share in it. How a method does depends on what it
is tried on: classes of posteriors (:data:`dncbench.entry.SHAPES`) have means of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from dncbench import registry
from dncbench.boards.board import Board, Row, shared_splits
from dncbench.boards.ranking import MIN_SPLITS, Resampled, resample, standings
from dncbench.storage.identity import REFERENCE_TRACK

GLM, NOT_LOG_CONCAVE = "glm", "not log-concave"
"""Of :data:`dncbench.entry.SHAPES`."""

REAL = frozenset({"unconstrained", "natural"})
"""Spaces whose boards are put together."""


@dataclass
class Line:
    """One method over all boards.

    Attributes:
        method, track: what it is called, and what it was allowed to use.
        above_floor: doublings above the floor on each board; None where there is no figure.
        states: for each board what went wrong there, in a few words; empty where nothing did.
        complete: weighted mean over the boards on which every method has figures; None
            where there is no such board.
        imputed: weighted mean over all boards, the worst figure where there is none.
        mean_rank: weighted mean of its rank on the boards, imputed likewise.
        rank: 95% interval of its rank by ``imputed``.
        group: tie group by ``imputed``.
        by_class: the weighted mean over the boards of each class of :attr:`Summary.classes`,
            imputed likewise.
    """

    method: str
    track: str
    above_floor: list[float | None]
    states: list[str]
    complete: float | None = None
    imputed: float = float("nan")
    mean_rank: float = float("nan")
    rank: tuple[int, int] = (0, 0)
    group: int = 0
    by_class: dict[str, float] = field(default_factory=dict)


@dataclass
class Summary:
    """Methods over boards of one budget and seed.

    Attributes:
        budget, seed: of all boards.
        metrics: for each board the ids that its figures were made from, with equal weights.
        boards: a title for each.
        weights: of each board; they sum to one.
        complete: numbers of the boards on which every method has figures.
        lines: best first.
        classes: by name the numbers of the boards of a class of posteriors.
        unranked: titles of the boards that have no share, and why.
        left_out: methods that were not run on every board, with the number of boards they lack.
    """

    budget: str
    seed: int
    metrics: list[list[str]]
    boards: list[str]
    weights: list[float]
    complete: list[int]
    lines: list[Line] = field(default_factory=list)
    classes: dict[str, list[int]] = field(default_factory=dict)
    unranked: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


def summaries(boards: Sequence[Board]) -> list[Summary]:
    """A summary for each budget, seed and kind of space of which two boards or more rank merges.

    Problems that are registered as not ranked have no share in it.
    """
    grouped: dict[tuple[str, int, str], list[Board]] = {}
    unranked = {entry.name for entry in registry.entries("problem") if not entry.ranked}
    for board in boards:
        if _worst(board) and _name(board) not in unranked:
            key = board.terms.budget, board.terms.seed, draws_of(board)
            grouped.setdefault(key, []).append(board)
    made = []
    for group in grouped.values():
        reasons = [board.unranked or _too_few(board) for board in group]
        ranked = [board for board, why in zip(group, reasons, strict=True) if not why]
        if len(ranked) > 1:
            without = [
                (title_of(board), why) for board, why in zip(group, reasons, strict=True) if why
            ]
            made.append(_summarise(ranked, without))
    return made


def _summarise(boards: list[Board], unranked: list[tuple[str, str]]) -> Summary:
    tracks = {row.method: row.track for board in boards for row in _merges(board)}
    tried = [_tried(board) for board in boards]
    lacking = {method: sum(method not in each for each in tried) for method in tracks}
    left_out = {method: number for method, number in sorted(lacking.items()) if number}
    lines = [
        _line(method, track, boards) for method, track in tracks.items() if method not in left_out
    ]
    summary = Summary(
        boards[0].terms.budget,
        boards[0].terms.seed,
        [board.ranking for board in boards],
        [title_of(board) for board in boards],
        _weights(boards),
        [],
        classes=_classes(boards),
        unranked=unranked,
        left_out=left_out,
    )
    if lines:
        _place(summary, lines, boards)
    return summary


def _place(summary: Summary, lines: list[Line], boards: list[Board]) -> None:
    """Fill in the aggregates, ranks and order of the lines."""
    weights = summary.weights
    summary.complete = complete = [
        number
        for number in range(len(boards))
        if all(line.above_floor[number] is not None for line in lines)
    ]
    each = [_imputed(board, [line.method for line in lines], n) for n, board in enumerate(boards)]
    means = sum(weight * one.means for weight, one in zip(weights, each, strict=True))
    centre = sum(weight * one.centre for weight, one in zip(weights, each, strict=True))
    ranks = sum(weight * _ranks(one.centre) for weight, one in zip(weights, each, strict=True))
    names = each[0].names
    standing = standings(Resampled(names, np.asarray(centre), np.asarray(means)))
    place = {name: number for number, name in enumerate(names)}
    for line in lines:
        number = place[line.method]
        line.imputed = float(np.asarray(centre)[number])
        line.mean_rank = float(np.asarray(ranks)[number])
        line.rank, line.group = standing[line.method].rank, standing[line.method].group
        if complete:
            share = sum(weights[b] for b in complete)
            line.complete = sum(weights[b] * (line.above_floor[b] or 0.0) for b in complete) / share
        for name, members in summary.classes.items():
            share = sum(weights[b] for b in members)
            figures = sum(weights[b] * each[b].centre[number] for b in members)
            line.by_class[name] = float(figures / share)
    summary.lines = sorted(lines, key=lambda line: (line.imputed, line.method))


def _classes(boards: Sequence[Board]) -> dict[str, list[int]]:
    """The boards of each class of posteriors, and of all but generalised linear models."""
    shapes = {entry.name: entry.shape for entry in registry.entries("problem")}
    own = [shapes.get(_name(board), "") for board in boards]
    classes = {
        GLM: [b for b, shape in enumerate(own) if shape == GLM],
        f"not {GLM}": [b for b, shape in enumerate(own) if shape not in (GLM, "")],
        NOT_LOG_CONCAVE: [b for b, shape in enumerate(own) if shape == NOT_LOG_CONCAVE],
    }
    return {name: members for name, members in classes.items() if 0 < len(members) < len(boards)}


def _ranks(figures: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """Ranks from 1; equal figures share the mean of theirs."""
    return np.array([np.sum(figures < x) + (np.sum(figures == x) + 1) / 2 for x in figures])


def title_of(board: Board) -> str:
    """The board's problem, and what else tells it from another one."""
    terms = board.terms
    parts = [terms.problem]
    parts += [terms.scheme] * (terms.scheme not in ("random", "in-order"))
    parts += [f"{terms.space} space"] * (terms.space == "natural")
    return ", ".join(parts)


def draws_of(board: Board) -> str:
    """What kind of draws the board's methods merge: those of one kind can be put together."""
    return "real" if board.terms.space in REAL else board.terms.space


def _merges(board: Board) -> list[Row]:
    return [row for row in board.rows if row.track != REFERENCE_TRACK]


def _name(board: Board) -> str:
    """The problem's name, without settings."""
    return board.terms.problem.partition("[")[0]


def _weights(boards: Sequence[Board]) -> list[float]:
    names = [_name(board) for board in boards]
    return [1.0 / (names.count(name) * len(set(names))) for name in names]


def _too_few(board: Board) -> str:
    """Why a board that ranks by single metrics does not by all of them; "" where it does."""
    if len(_worst(board)) < MIN_SPLITS:
        return f"fewer than {MIN_SPLITS} splits have figures in all of its metrics"
    return ""


def _worst(board: Board) -> dict[str, tuple[float, float]]:
    """The worst figure of each split that most merges were tried on."""
    rows = _merges(board)
    return {
        split: max(row.doublings[split] for row in rows if split in row.doublings)
        for split in sorted(shared_splits(rows))
        if any(split in row.doublings for row in rows)
    }


def _tried(board: Board) -> set[str]:
    """The methods that were tried on all of them."""
    splits = shared_splits(board.rows)
    return {row.method for row in _merges(board) if splits <= set(row.tried)}


def _line(method: str, track: str, boards: Sequence[Board]) -> Line:
    rows = [next(row for row in board.rows if row.method == method) for board in boards]
    return Line(
        method,
        track,
        [row.overall.mean if row.overall else None for row in rows],
        [", ".join(row.states) for row in rows],
    )


def _imputed(board: Board, methods: list[str], seed: int) -> Resampled:
    """A board's resampled doublings; whoever has none in a split gets the worst there."""
    rows = {row.method: row.doublings for row in _merges(board)}
    worst = _worst(board)
    return resample(
        {
            method: {split: rows[method].get(split, worst[split]) for split in worst}
            for method in methods
        },
        seed,
    )
