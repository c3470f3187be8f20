"""The plan of a run (which cells), and carrying it out.

Cells that have a record are skipped, cells that fail are recorded and the others go
on; a crash loses at most the cell in flight.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dncbench import registry
from dncbench.bench import REFERENCE_UNITS, SAMPLING_UNITS, Bench, Cell, kinds_of_draws
from dncbench.budget import Budget
from dncbench.budget import get as get_budget
from dncbench.configure import configure, label, settings_of
from dncbench.errors import DncbenchError, NotApplicableError, UnknownNameError
from dncbench.problem import SPACES
from dncbench.progress import Progress, Silent
from dncbench.registry import Entry
from dncbench.splits import parse_scheme
from dncbench.store import SCORED, Cache, Records, canonical
from dncbench.timing import forget_programs

DEFAULT_SPLITS = 5

CORRECTIONS = ("psis",)
"""What a merge may be followed by; see :mod:`dncbench.correction`."""


@dataclass(frozen=True)
class Case:
    """One problem under one set of terms.

    Attributes:
        problem: a registered name, with settings where wanted, or "all".
        splits: how many splits, 0 to ``splits - 1``.
        scheme: split scheme, see :mod:`dncbench.splits`.
        space: "unconstrained", or "natural": what is merged. The same for problems
            without constraints, whose cells are always recorded as "unconstrained".
        budget: of this case; None stands for the run's.
    """

    problem: str
    splits: int = DEFAULT_SPLITS
    scheme: str = "random"
    space: str = "unconstrained"
    budget: str | None = None


def published(problem: str, space: str = "unconstrained") -> Case:
    """The authors' own data of a problem, and their own split of it.

    Raises:
        UnknownNameError: the problem has no published data of this kind.
    """
    entry, configured = configure("problem", problem)
    if "published" not in settings_of(configured):
        raise UnknownNameError(
            f"problem {entry.name!r} has no published simulation to choose; leave out "
            "--data published"
        )
    chosen = dataclasses.replace(configured, published=True)
    return Case(label(entry, chosen), 1, "in-order", space)


@dataclass
class Plan:
    """The cells of a run.

    Attributes:
        todo: those to be run, by problem and split.
        done: records of those that are there already.
    """

    todo: list[Cell] = field(default_factory=list)
    done: list[dict[str, Any]] = field(default_factory=list)


def plan(
    cases: Sequence[Case],
    methods: Sequence[str],
    *,
    seed: int,
    budget: Budget,
    records: Records,
    force: bool = False,
    correct: str | None = None,
) -> Plan:
    """Work out which cells there are and which of them need running.

    Raises:
        UnknownNameError: an unknown problem, method, setting, scheme, space or correction.
    """
    if correct is not None and correct not in CORRECTIONS:
        raise UnknownNameError(
            f"no correction is called {correct!r}{registry.nearest(correct, CORRECTIONS)}; "
            f"known: {', '.join(CORRECTIONS)}"
        )
    metric_ids = {entry.id for entry in registry.entries("metric")}
    configured = [
        configure("method", spec) for spec in _expand(methods, registry.entries("method"))
    ]
    result = Plan()
    for case in cases:
        parse_scheme(case.scheme)
        spent = get_budget(case.budget) if case.budget else budget
        if case.splits < 1:
            raise NotApplicableError(f"splits is {case.splits}; ask for at least one")
        if case.space not in SPACES:
            raise UnknownNameError(
                f"no space is called {case.space!r}{registry.nearest(case.space, SPACES)}; "
                f"known: {', '.join(SPACES)}"
            )
        for spec in _expand([case.problem], registry.entries("problem")):
            problem_entry, problem = configure("problem", spec)
            for split in range(case.splits):
                for method_entry, method in configured:
                    identity = {
                        "problem": _describe(problem_entry, problem),
                        "split": {"scheme": case.scheme, "index": split},
                        "seed": seed,
                        "method": _described_method(method_entry, method, correct),
                        "budget": spent.contents(),
                        "space": case.space if problem.is_constrained() else SPACES[0],
                    }
                    record = None if force else records.get(identity)
                    if record and _is_complete(record, metric_ids):
                        result.done.append(record)
                        continue
                    earlier = record if record and record["status"] in SCORED else None
                    result.todo.append(
                        Cell(problem_entry, problem, method_entry, method, split, identity, earlier)
                    )
    return result


def _described_method(entry: Entry, method: Any, correct: str | None) -> dict[str, Any]:
    described = _describe(entry, method)
    if correct is not None and "reference" not in method.needs:
        described |= {"correct": correct, "label": f"{described['label']} + {correct}"}
    return described


def _is_complete(record: dict[str, Any], metric_ids: set[str]) -> bool:
    """A failed cell is tried again; one without a present metric is scored again."""
    if record["status"] in SCORED:
        return metric_ids <= {*record["metrics"], *record.get("metrics_not_applicable", ())}
    return record["status"] == "not applicable"


def _expand(specs: Sequence[str], known: Iterable[Entry]) -> list[str]:
    wanted: list[str] = []
    for spec in specs:
        wanted += [s for entry in known for s in entry.specs] if spec == "all" else [spec]
    return list(dict.fromkeys(wanted))


def _describe(entry: Entry, instance: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "id": entry.id,
        "label": label(entry, instance),
        "settings": settings_of(instance),
    }


def run(
    problems: str | Sequence[str | Case] = "toy-logistic",
    methods: str | Sequence[str] = "all",
    *,
    splits: int = DEFAULT_SPLITS,
    scheme: str = "random",
    space: str = "unconstrained",
    seed: int = 0,
    budget: str = "quick",
    correct: str | None = None,
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
        seed: everything random follows from it.
        budget: "smoke", "quick" or "paper", with settings where wanted.
        correct: None, or "psis": one more round, see :mod:`dncbench.correction`.
        results: folder of the records; by default ``DNCBENCH_RESULTS`` or ``./results``.
        cache: folder of draws and references; by default ``DNCBENCH_CACHE`` or the user's.
        force: run cells again that have a record.
        time_limit: seconds (compiling, fitting, merging). A method that took longer on one
            split is not run on the next ones of that problem; their status is "timeout".
        progress: display.

    Returns:
        The records of all cells asked for, those of earlier runs included.

    Raises:
        UnknownNameError: an unknown name; nothing was run.
        DataError: a problem's data cannot be had; the other problems were run.
        DncbenchError: a problem raised something else; likewise.
    """
    progress = progress or Silent()
    store = Records(results)
    chosen = get_budget(budget)
    todo = plan(
        [
            each if isinstance(each, Case) else Case(each, splits, scheme, space)
            for each in ([problems] if isinstance(problems, str) else problems)
        ],
        [methods] if isinstance(methods, str) else methods,
        seed=seed,
        budget=chosen,
        records=store,
        force=force,
        correct=correct,
    )
    progress.plan(_units(todo.todo))
    made: list[dict[str, Any]] = []
    errors: list[Exception] = []
    by_problem: dict[tuple[str, ...], list[Cell]] = {}
    for cell in todo.todo:
        by_problem.setdefault(_terms(cell), []).append(cell)
    for cells in by_problem.values():
        forget_programs()
        spent = Budget(**cells[0].identity["budget"])
        bench = Bench(cells[0], spent, Cache(cache), progress)
        try:
            bench.prepare()
        except Exception as error:  # a plugin's data() may raise anything
            errors.append(error)
            if len(by_problem) > 1:
                progress.note(f"{cells[0].identity['problem']['label']}: {error}")
            progress.advance(_units(cells))
            continue
        progress.advance(REFERENCE_UNITS)
        slow: dict[str, float] = {}
        for cell in cells:
            label_of = cell.identity["method"]["label"]
            if time_limit is not None and label_of in slow:
                record = bench.timed_out(cell, slow[label_of], time_limit)
            else:
                record = bench.run(cell)
                took = _seconds(record)
                if time_limit is not None and took > time_limit:
                    slow[label_of] = took
            store.put(record)
            made.append(record)
            progress.done(record)
    if errors and isinstance(errors[0], DncbenchError):
        raise errors[0]
    if errors:
        reason = f"{type(errors[0]).__name__}: {errors[0]}"
        raise DncbenchError(f"a problem failed: {reason}") from errors[0]
    return todo.done + made


def _seconds(record: dict[str, Any]) -> float:
    spent = record.get("seconds", {})
    return sum(spent.get(phase, 0.0) for phase in ("compile", "fit_total", "merge"))


def _terms(cell: Cell) -> tuple[str, ...]:
    """What the cells of one bench have in common."""
    identity = cell.identity
    return (
        identity["problem"]["label"],
        identity["split"]["scheme"],
        identity["space"],
        canonical(identity["budget"]),
    )


def _units(cells: list[Cell]) -> float:
    problems = {_terms(cell) for cell in cells}
    sampled = {
        (*_terms(cell), cell.split, kind) for cell in cells for kind in kinds_of_draws(cell.method)
    }
    return len(cells) + REFERENCE_UNITS * len(problems) + SAMPLING_UNITS * len(sampled)


def certify(
    problem: str,
    *,
    seed: int = 0,
    budget: str = "quick",
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """A problem's certificate and noise floors; from the cache where they are there.

    Raises:
        UnknownNameError, DataError: as :func:`run`.
    """
    chosen = get_budget(budget)
    entry, configured = configure("problem", problem)
    identity = {
        "problem": _describe(entry, configured),
        "split": {"scheme": "random"},
        "space": SPACES[0],
        "seed": seed,
    }
    oracle_entry, oracle = configure("method", "oracle")
    cell = Cell(entry, configured, oracle_entry, oracle, 0, identity)
    bench = Bench(cell, chosen, Cache(cache), progress or Silent())
    bench.prepare()
    return bench.reference.certificate, bench.scorer.floors
