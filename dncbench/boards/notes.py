"""What a reader should know beside a board's figures. What holds for most rows is said once."""

import re
from collections.abc import Iterable

from dncbench import registry
from dncbench.boards.board import Board, Row
from dncbench.storage.identity import base_name

_COMMON = 3  # methods, and half of those with figures: their warning is the board's

_NUMBERS = re.compile(r"\d[\d.,e%+-]*")
_PLACES = re.compile(r" in [^\s,;]+")


def of_board(board: Board) -> list[str]:
    """Sentences about the board, about its rows, and about what is left out."""
    lines = [f"no ranks: {board.unranked}"] if board.unranked else []
    common = _common_warnings(board.rows)
    scored = sum(bool(row.scores) for row in board.rows)
    lines += [
        f"{len(methods)} of {scored} methods warn, e.g. {example}"
        for methods, example in common.values()
    ]
    lines += [line for row in board.rows if (line := _alone(row, set(common)))]
    lines += whose(row.method for row in board.rows)
    if board.stale:
        lines.append(f"{board.stale} stale records (of older versions) are left out")
    number = sum(len(row.tried) for row in board.rows)
    if board.earlier_rules:
        lines.append(
            f"{board.earlier_rules} of {number} records were made under earlier rules of what "
            "draws are worth: errors and noise floors may be too small, and with them the "
            "intervals of ranks"
        )
    if board.unsealed:
        lines.append(
            f"{board.unsealed} of {number} records are not sealed: nothing tells whether their "
            "contents were changed"
        )
    return lines


def of_row(row: Row) -> list[str]:
    """What a row's own records say, warnings included."""
    warned = f"{row.warned} with warnings, e.g. {row.warnings[0]}" if row.warnings else ""
    return [*row.notes, *([warned] if warned else [])]


def whose(labels: Iterable[str]) -> list[str]:
    """Which methods are this project's own, and what they were developed on; [] where none is."""
    names = dict.fromkeys(base_name(label) for label in labels)
    told = [
        f"{name} (developed on {places})" if (places := ", ".join(entry.developed_on)) else name
        for name in names
        if (entry := registry.find("method", name)) is not None and entry.ours
    ]
    return [f"this project's own: {', '.join(told)}"] if told else []


def provenance(label: str) -> str:
    """``this project's own, developed on spambase``; "" for a method from elsewhere."""
    entry = registry.find("method", base_name(label))
    if entry is None or not entry.ours:
        return ""
    places = ", ".join(entry.developed_on)
    return "this project's own" + (f", developed on {places}" if places else "")


def marked(label: str) -> str:
    """A method's label, as tables show it: ``swiss-product (ours)`` for this project's own."""
    return f"{label} (ours)" if provenance(label) else label


def kind_of(warning: str) -> str:
    """What warnings that differ in numbers and parameters alone have in common."""
    return _PLACES.sub(" in #", _NUMBERS.sub("#", warning))


def _common_warnings(rows: list[Row]) -> dict[str, tuple[set[str], str]]:
    """By kind: the methods that warn so, and an example; of the kinds that most have."""
    found: dict[str, tuple[set[str], str]] = {}
    for row in rows:
        for warning in row.warnings:
            found.setdefault(kind_of(warning), (set(), warning))[0].add(row.method)
    scored = sum(bool(row.scores) for row in rows)
    enough = max(_COMMON, scored / 2)
    return {kind: each for kind, each in found.items() if len(each[0]) >= enough}


def _alone(row: Row, common: set[str]) -> str:
    """What is to be said of one row alone; "" where that is nothing."""
    own = [warning for warning in row.warnings if kind_of(warning) not in common]
    told = [*row.notes, *([f"warns: {own[0]}"] if own else [])]
    if len(own) > 1:
        told[-1] += f" ({len(own) - 1} more)"
    return f"{row.method}: {'; '.join(told)}" if told else ""
