"""Suites: named lists of cases, read from ``problems/suites.toml``."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dncbench.configure import configure, label
from dncbench.errors import UnknownNameError, nearest
from dncbench.running.plan import MOST_SPLITS, Case, require_splits
from dncbench.storage.identity import Terms, identity_of

_FILE = Path(__file__).parents[1] / "problems" / "suites.toml"


@dataclass(frozen=True)
class Suite:
    """Cases that are run together.

    Attributes:
        name: what the command line calls it.
        summary: one line.
        cases: for the number of splits that was asked for.
    """

    name: str
    summary: str
    cases: tuple[Case, ...]


def names() -> list[str]:
    """All suites."""
    return list(_read())


def get(name: str, splits: int) -> Suite:
    """The suite called ``name``.

    Args:
        name: of the suite.
        splits: for cases that do not say; of a case that repeats over data sets, how
            many of them at most.

    Raises:
        UnknownNameError: there is none, or ``splits`` is no number of splits.
    """
    require_splits(splits)
    known = _read()
    if name not in known:
        raise UnknownNameError(
            f"no suite is called {name!r}{nearest(name, known)}; known: {', '.join(known)}"
        )
    cases = []
    for entry in known[name]["cases"]:
        for number in range(min(entry.get("repeat", 1), splits)):
            cases.append(
                Case(
                    entry["problem"].format(number=number),
                    entry.get("splits", splits),
                    entry.get("scheme", "random"),
                    entry.get("space", "unconstrained"),
                )
            )
    return Suite(name, known[name]["summary"], tuple(cases))


def of_suite(name: str, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of a suite's cases, whatever the number of splits.

    Raises:
        UnknownNameError: there is no such suite.
    """
    wanted = {_planned(case) for case in get(name, MOST_SPLITS).cases}
    return [record for record in records if _case(identity_of(record).terms) in wanted]


def _planned(case: Case) -> tuple[str, str, str]:
    """Problem, scheme and space as records have them: what is merged need not be points."""
    entry, problem = configure("problem", case.problem)
    return label(entry, problem), case.scheme, problem.space_for(case.space).name


def _case(terms: Terms) -> tuple[str, str, str]:
    return terms.problem, terms.scheme, terms.space


def _read() -> dict:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
