"""Records of one suite by case and method, and ratios of two methods' figures over splits."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from dncbench import registry
from dncbench.boards.versions import current_ids, is_fresh
from dncbench.configure import configure, label
from dncbench.running import suites
from dncbench.storage.identity import identity_of
from dncbench.storage.records import SCORED, latest

STANDARD_ERRORS = 2.0
_LEAST = 1e-12  # of a figure, before its logarithm: what rounding leaves of zero

Split = tuple[int, int]
"""Seed and index of a split."""


class Cells:
    """What was run of a suite, by this version of its problems and methods.

    Args:
        suite: its name.
        records: from a store.
        budget: name of the one whose records are read.

    Attributes:
        suite: its name.
        cases: labels of its problems.
    """

    def __init__(self, suite: str, records: Iterable[dict[str, Any]], budget: str) -> None:
        self.suite = suite
        listed = suites.get(suite, 1).cases
        self.cases = list(dict.fromkeys(_label("problem", case.problem) for case in listed))
        own = suites.of_suite(suite, latest(records))
        current = current_ids(own)
        self._found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in own:
            identity = identity_of(record)
            if identity.budget == budget and is_fresh(identity, current):
                key = identity.problem.label, identity.method.label
                self._found.setdefault(key, []).append(record)

    def records(self, case: str, method: str) -> list[dict[str, Any]]:
        """Those with figures.

        Args:
            case: label of a problem.
            method: as :func:`dncbench.configure.configure` reads it.
        """
        found = self._found.get((case, _label("method", method)), [])
        return [record for record in found if record["status"] in SCORED]

    def named(self, case: str, name: str) -> list[dict[str, Any]]:
        """Those with figures of a method by its registered name, whatever its settings."""
        return [
            record
            for (problem, _), found in self._found.items()
            for record in found
            if problem == case
            and identity_of(record).method.name == name
            and record["status"] in SCORED
        ]

    def applies(self, case: str, method: str) -> bool:
        """False where all that is recorded is that the method does not apply."""
        found = self._found.get((case, _label("method", method)), [])
        return not found or any(record["status"] != "not applicable" for record in found)

    def figures(self, case: str, method: str, metric: str) -> dict[Split, float]:
        """A metric of every split that has it."""
        found = {}
        for record in self.records(case, method):
            value = figure(record, metric)
            if value is not None:
                identity = identity_of(record)
                found[identity.seed, identity.split] = value
        return found

    def missing(self, methods: Iterable[str], metric: str) -> list[str]:
        """Labels of methods that apply to some case and have no figure there."""
        labels = dict.fromkeys(_label("method", method) for method in methods)
        return [
            each
            for each in labels
            if any(
                self.applies(case, each) and not self.figures(case, each, metric)
                for case in self.cases
            )
        ]


def figure(record: dict[str, Any], metric: str) -> float | None:
    """A metric of a record, as its present version reads it; None where it was not read."""
    identifier = {entry.name: entry.id for entry in registry.entries("metric")}[metric]
    found = record["metrics"].get(identifier)
    return None if found is None else found["value"]


class Ratio(NamedTuple):
    """How many times one method's figures are another's.

    Attributes:
        value: geometric mean over splits.
        error: standard error of its logarithm, from the spread between splits; infinite where
            there is only one.
        number: of splits that both have.
    """

    value: float
    error: float
    number: int

    @property
    def interval(self) -> tuple[float, float]:
        """Two standard errors to either side, of few splits as many more as Student's t asks."""
        if self.number == 1:
            return 0.0, float("inf")
        freedom = self.number - 1
        times = stats.t.ppf(stats.norm.cdf(STANDARD_ERRORS), freedom)
        factor = np.exp(times * self.error)
        return float(self.value / factor), float(self.value * factor)


def ratio_of(first: dict[Split, float], second: dict[Split, float]) -> Ratio | None:
    """The ratio of figures, split by split; None where no split has both."""
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    above, below = (np.maximum([of[split] for split in both], _LEAST) for of in (first, second))
    logs = np.log(above / below)
    error = np.std(logs, ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else np.inf
    return Ratio(float(np.exp(np.mean(logs))), float(error), len(logs))


@functools.cache
def _label(kind: Any, spec: str) -> str:
    return label(*configure(kind, spec))
