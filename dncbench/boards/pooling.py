"""Which records share a board: problems that repeat one experiment do, as splits."""

import functools
from typing import Any

from dncbench import registry
from dncbench.storage.identity import Identity, Terms, identity_of


def board_terms(identity: Identity) -> Terms:
    """The terms of the board that a record belongs to.

    Those of its cell, without the setting whose values repeat the problem's experiment (the
    number of a simulated data set): five data sets are five splits of one board.
    """
    terms = identity.terms
    setting = _setting(identity)
    if not setting:
        return terms
    return Terms(_without(terms.problem, setting), *_rest(terms))


def split_of(record: dict[str, Any]) -> str:
    """What tells a record from the others of its method on a board: its split, or repetition."""
    identity = identity_of(record)
    value = repetition(record)
    return str(identity.split) if value is None else f"{value}, split {identity.split}"


def repetition(record: dict[str, Any]) -> str | None:
    """``dataset 2``: which repetition of its problem a record is of; None where there is one."""
    setting = _setting(identity_of(record))
    if not setting:
        return None
    return f"{setting} {record['settings']['problem'].get(setting, 'by default')}"


def _setting(identity: Identity) -> str:
    """Whose values repeat the problem's experiment; "" for none."""
    entry = registry.find("problem", identity.problem.name)
    return "" if entry is None else entry.repeats


def _rest(terms: Terms) -> tuple[str, str, int, str]:
    return terms.scheme, terms.budget, terms.seed, terms.space


@functools.cache
def _without(label: str, setting: str) -> str:
    """A problem's label without one of its settings."""
    name, _, inside = label.partition("[")
    others = [
        pair
        for pair in inside.removesuffix("]").split(",")
        if pair and pair.partition("=")[0] != setting
    ]
    return f"{name}[{','.join(others)}]" if others else name
