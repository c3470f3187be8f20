"""Carrying out a plan.

Cells that have a record are skipped, cells that fail are recorded and the others go
on; a crash loses at most the cell in flight.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dncbench.budget import get as get_budget
from dncbench.configure import configure, label
from dncbench.errors import DncbenchError, UnknownNameError
from dncbench.posterior import SPACES
from dncbench.running.cells import run_cell, timed_out, without_figures
from dncbench.running.limited import beside
from dncbench.running.plan import (
    DEFAULT_SPLITS,
    Case,
    Cell,
    Plan,
    metric_ids,
    plan,
    require_metrics,
)
from dncbench.running.prepared import (
    REFERENCE_UNITS,
    SAMPLING_UNITS,
    Prepared,
    kinds_of_draws,
    prepare,
)
from dncbench.running.progress import Progress, Silent
from dncbench.storage.cache import Cache
from dncbench.storage.identity import Identity, Terms, identity_of
from dncbench.storage.records import SCORED, Records
from dncbench.storage.seals import sealed
from dncbench.timing import forget_programs
from dncbench.undisturbed import undisturbed


def run(
    problems: str | Sequence[str | Case] = "toy-logistic",
    methods: str | Sequence[str] = "all",
    *,
    splits: int = DEFAULT_SPLITS,
    scheme: str = "random",
    space: str = SPACES[0],
    seed: int = 0,
    budget: str = "quick",
    correct: str | None = None,
    metrics: str | Sequence[str] = (),
    results: str | Path | None = None,
    cache: str | Path | None = None,
    force: bool = False,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run cells of the benchmark and record them.

    Args:
        problems: registered names, with settings where wanted, or "all"; or
            :class:`Case` objects, which bring splits, scheme and space of their own.
        methods: registered names, with settings where wanted, or "all".
        splits: how many splits, 0 to ``splits - 1``.
        scheme: split scheme, see :mod:`dncbench.splits`.
        space: "unconstrained", or "natural" to merge natural parameters.
        seed: random seed; all randomness derives from it.
        budget: "smoke", "quick" or "paper", with settings where wanted.
        correct: None, or a registered correction that follows every merge, e.g. "psis".
        metrics: names of metrics to read beside those that a problem is judged by, or "all".
        results: folder of the records; by default ``DNCBENCH_RESULTS`` or ``./results``.
        cache: folder of draws and references; by default ``DNCBENCH_CACHE`` or the user's.
        force: run cells again that have a record.
        time_limit: seconds that one merge may take (compiling, fitting, merging). The cells
            then run in a process beside this one, which is ended when they are over; the cell's
            status is "timeout", and so is that of the method's next splits of that problem, on
            which it is not run. That process knows plugins by their files, or as installed.
        progress: display.

    Returns:
        The records of all cells asked for, those of earlier runs included.

    Raises:
        UnknownNameError: an unknown name; nothing was run.
        DataError: a problem's data cannot be had; the other problems were run.
        DncbenchError: a problem raised something else, or several problems failed; likewise.
    """
    progress = Silent() if progress is None else progress
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise UnknownNameError(f"time_limit is {time_limit!r}; give a number of seconds above 0")
    store = Records(results)
    asked = _Asked(
        [
            each if isinstance(each, Case) else Case(each, splits, scheme, space)
            for each in ([problems] if isinstance(problems, str) else problems)
        ],
        [methods] if isinstance(methods, str) else list(methods),
        seed,
        budget,
        correct,
        force,
        [metrics] if isinstance(metrics, str) else list(metrics),
    )
    planned = asked.plan(store)
    if planned.todo:
        store.require_writable()  # now, and not when the sampling is done
    runner = _Runner(store, Cache(cache), progress, time_limit)
    progress.plan(_units(planned.todo))
    for kind, names in planned.left_out.items():
        progress.note(
            f"{len(names)} methods that do not merge {kind} draws are left out, e.g. {names[0]}"
        )
    if time_limit is None or not planned.todo:
        runner.run(planned)
    else:
        runner.run_beside(asked, time_limit)
    return planned.done + runner.made


class _Asked(NamedTuple):
    """What :func:`run` was asked for."""

    cases: list[Case]
    methods: list[str]
    seed: int
    budget: str
    correct: str | None
    force: bool
    metrics: list[str]

    def plan(self, store: Records) -> Plan:
        """The cells."""
        return plan(
            self.cases,
            self.methods,
            seed=self.seed,
            budget=get_budget(self.budget),
            records=store,
            force=self.force,
            correct=self.correct,
            metrics=self.metrics,
        )


def _carry_out(
    progress: Progress,
    asked: _Asked,
    results: Path,
    cache: Path,
    time_limit: float,
    done: set[Identity],
    slow: dict[tuple[Terms, str], float],
) -> None:
    """What the process beside does: all but what is done already."""
    store = Records(results)
    planned = asked.plan(store)
    left = Plan([cell for cell in planned.todo if cell.identity not in done])
    _Runner(store, Cache(cache), progress, time_limit, slow=slow).run(left)


@dataclass
class _Runner:
    """Runs cells of one problem after another.

    Attributes:
        store, cache, progress, time_limit: as :func:`run` has them.
        made: records.
        errors: of problems that could not be prepared, by label.
        slow: seconds of methods, by label, that took too long under some terms.
    """

    store: Records
    cache: Cache
    progress: Progress
    time_limit: float | None
    made: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    slow: dict[tuple[Terms, str], float] = field(default_factory=dict)

    def run(self, planned: Plan) -> None:
        """Run all cells.

        Raises:
            DncbenchError: problems that could not be prepared; the others were run.
        """
        for cells in planned.by_terms():
            forget_programs()
            self._of_terms(cells)
        self._raise_errors()

    def run_beside(self, asked: _Asked, time_limit: float) -> None:
        """Run all cells in another process, which is ended where a merge takes too long."""
        done: set[Identity] = set()

        def recorded(record: dict[str, Any]) -> None:
            self.made.append(record)
            done.add(identity_of(record))

        arguments = {"asked": asked, "results": self.store.root, "cache": self.cache.root}
        arguments |= {"time_limit": time_limit, "done": done, "slow": self.slow}
        while ended := beside(_carry_out, arguments, time_limit, self.progress, recorded):
            record = sealed(without_figures(ended.started, ended.status, ended.reason))
            identity = identity_of(record)
            self.progress.note(f"{identity.title()}: {ended.reason}")
            if ended.status == "timeout":
                self.slow[identity.terms, identity.method.label] = ended.seconds
            self._keep(record)
            recorded(record)
            self.progress.done(record)

    def _of_terms(self, cells: list[Cell]) -> None:
        """Run the cells of one problem under one set of terms."""
        first = cells[0]
        name = first.terms.problem
        try:
            with undisturbed(lambda what: self.progress.note(f"{name}: {what}")):
                ready = prepare(
                    first.problem_entry,
                    first.problem,
                    first.terms,
                    first.budget,
                    self.cache,
                    self.progress,
                    first.metrics,
                )
        except Exception as error:  # a plugin's data() may raise anything
            self.errors[name] = error
            self.progress.note(f"{name}: {error}")
            self.progress.advance(_units(cells))
            return
        self.progress.advance(REFERENCE_UNITS)
        for cell in cells:
            record = sealed(self._one(ready, cell))
            self._keep(record)
            self.made.append(record)
            self.progress.done(record)

    def _keep(self, record: dict[str, Any]) -> None:
        """Write a record, unless it has no figures and would replace one that has them."""
        identity = identity_of(record)
        if record["status"] not in SCORED:
            earlier = self.store.get(identity)
            if earlier is not None and earlier["status"] in SCORED:
                self.progress.note(
                    f"{identity.title()}: {record['status']} this time; the earlier record, "
                    f"with figures, stays. To give it up, delete {self.store.path(identity)}"
                )
                return
        self.store.put(record)

    def _one(self, ready: Prepared, cell: Cell) -> dict[str, Any]:
        if self.time_limit is None:
            return run_cell(ready, cell)
        method = cell.terms, cell.identity.method.label
        if method in self.slow:
            return timed_out(ready, cell, self.slow[method], self.time_limit)
        record = run_cell(ready, cell)
        if (took := _seconds(record)) > self.time_limit:
            self.slow[method] = took
        return record

    def _raise_errors(self) -> None:
        """Say which problems could not be run; a single one raises what it raised."""
        if not self.errors:
            return
        (first, error), *others = self.errors.items()
        if others:
            lines = [f"  {name}: {_said(each)}" for name, each in self.errors.items()]
            raise DncbenchError(
                "\n".join([f"{len(lines)} problems could not be run:", *lines])
            ) from error
        if isinstance(error, DncbenchError):
            raise error
        raise DncbenchError(f"problem {first} failed: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, DncbenchError) else f"{type(error).__name__}: {error}"


def _seconds(record: dict[str, Any]) -> float:
    spent = record.get("seconds", {})
    return sum(spent.get(phase, 0.0) for phase in ("compile", "fit_total", "merge"))


def _units(cells: list[Cell]) -> float:
    problems = {cell.terms for cell in cells}
    sampled = {
        (cell.terms, cell.identity.split, kind)
        for cell in cells
        for kind in kinds_of_draws(cell.method)
    }
    return len(cells) + REFERENCE_UNITS * len(problems) + SAMPLING_UNITS * len(sampled)


def certified(
    problem: str,
    *,
    seed: int = 0,
    budget: str = "quick",
    metrics: Sequence[str] = (),
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """A problem with its certificate and noise floors; from the cache where they are there.

    Args:
        problem, seed, budget, metrics, cache, progress: as those of :func:`run`.

    Raises:
        UnknownNameError, DataError: as :func:`run`.
    """
    require_metrics(metrics)
    entry, configured = configure("problem", problem)
    spent = get_budget(budget)
    terms = Terms(label(entry, configured), "random", spent.name, seed, configured.space.name)
    return prepare(
        entry,
        configured,
        terms,
        spent,
        Cache(cache),
        Silent() if progress is None else progress,
        metric_ids(configured, metrics),
    )
