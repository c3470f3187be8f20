"""Suites: named lists of cases, read from ``problems/suites.toml``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from dncbench.errors import UnknownNameError
from dncbench.experiment import Case
from dncbench.registry import nearest

_FILE = Path(__file__).parent / "problems" / "suites.toml"


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
        UnknownNameError: there is none.
    """
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


def _read() -> dict:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
