"""The plan of a run: which cells there are, and which of them have a record already."""

import dataclasses
import operator
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dncbench import registry
from dncbench.budget import Budget
from dncbench.budget import get as get_budget
from dncbench.configure import configure, corrected, label, settings_of
from dncbench.entry import Entry
from dncbench.errors import NotApplicableError, UnknownNameError, nearest
from dncbench.method import Method
from dncbench.posterior import SPACES
from dncbench.problem import Problem
from dncbench.splits import parse_scheme
from dncbench.storage.identity import Identity, Named, Terms
from dncbench.storage.records import SCORED, Records, contradicts

DEFAULT_SPLITS = 5
MOST_SPLITS = 10_000


def require_splits(splits: int) -> None:
    """Refuse a number of splits that is none, or that no plan could list.

    Raises:
        UnknownNameError: it is no whole number from 1 to :data:`MOST_SPLITS`.
    """
    if not hasattr(splits, "__index__") or not 1 <= splits <= MOST_SPLITS:
        raise UnknownNameError(
            f"splits must be a whole number from 1 to {MOST_SPLITS}, not {splits!r}"
        )


@dataclass(frozen=True)
class Case:
    """One problem under one set of terms.

    Attributes:
        problem: a registered name, with settings where wanted, or "all".
        splits: how many splits, 0 to ``splits - 1``.
        scheme: split scheme, see :mod:`dncbench.splits`.
        space: "unconstrained", or "natural": what is merged. The same for problems
            without constraints, whose cells are always recorded as "unconstrained", and
            for problems whose draws are nothing of the kind.
        budget: of this case; None stands for the run's.

    Raises:
        UnknownNameError: ``splits`` is no whole number from 1 to :data:`MOST_SPLITS`.
    """

    problem: str
    splits: int = DEFAULT_SPLITS
    scheme: str = "random"
    space: str = SPACES[0]
    budget: str | None = None

    def __post_init__(self) -> None:
        require_splits(self.splits)


@dataclass(frozen=True)
class Cell:
    """One run to be made and recorded.

    Attributes:
        problem: configured, with its registry ``problem_entry``.
        method: configured, with its registry ``method_entry``.
        identity: what it is found by.
        budget: what it spends.
        metrics: ids of those to be read.
        earlier: a record of this cell that lacks some metric; None where there is none.
    """

    problem_entry: Entry
    problem: Problem
    method_entry: Entry
    method: Method
    identity: Identity
    budget: Budget
    metrics: frozenset[str] = frozenset()
    earlier: dict[str, Any] | None = None

    @property
    def terms(self) -> Terms:
        """What it shares with other cells."""
        return self.identity.terms

    @property
    def settings(self) -> dict[str, Any]:
        """Those of problem and method, defaults included, for the record."""
        return {"problem": settings_of(self.problem), "method": settings_of(self.method)}


@dataclass
class Plan:
    """The cells of a run.

    Attributes:
        todo: those to be run, by problem and split.
        done: records of those that are there already.
        left_out: by kind of draws, the methods that "all" does not stand for, as they merge
            draws of other kinds alone. A method that is asked for by its name is run, and its
            record says that it is not applicable.
    """

    todo: list[Cell] = field(default_factory=list)
    done: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def by_terms(self) -> list[list[Cell]]:
        """The cells to be run, those that share everything but split and method together."""
        found: dict[Terms, list[Cell]] = {}
        for cell in self.todo:
            found.setdefault(cell.terms, []).append(cell)
        return list(found.values())


def published(problem: str, space: str = SPACES[0]) -> Case:
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


def plan(
    cases: Sequence[Case],
    methods: Sequence[str],
    *,
    seed: int,
    budget: Budget,
    records: Records,
    force: bool = False,
    correct: str | None = None,
    metrics: Sequence[str] = (),
) -> Plan:
    """Work out which cells there are and which of them need running.

    Raises:
        UnknownNameError: an unknown problem, method, setting, scheme, space, correction or metric.
    """
    seed = _of_64_bits(seed)
    require_metrics(metrics)
    configured = [
        (*_followed(*configure("method", spec), correct), spec in methods)
        for spec in _expand(methods, registry.entries("method"))
    ]
    result = Plan()
    for case in cases:
        parse_scheme(case.scheme)
        spent = get_budget(case.budget) if case.budget else budget
        if case.splits < 1:
            raise NotApplicableError(f"splits is {case.splits}; ask for at least one")
        if case.space not in SPACES:
            raise UnknownNameError(
                f"no space is called {case.space!r}{nearest(case.space, SPACES)}; "
                f"known: {', '.join(SPACES)}"
            )
        for spec in _expand([case.problem], registry.entries("problem")):
            problem_entry, problem = configure("problem", spec)
            kind, wanted = problem.space_for(case.space).kind, metric_ids(problem, metrics)
            applying: list[tuple[Entry, Method]] = []
            others: list[str] = []
            for entry, method, by_name in configured:
                if by_name or kind in method.spaces:
                    applying.append((entry, method))
                else:
                    others.append(label(entry, method))
            if others:
                result.left_out[kind] = others
            for split in range(case.splits):
                for method_entry, method in applying:
                    identity = Identity(
                        Named(problem_entry.id, label(problem_entry, problem)),
                        Named(method_entry.id, label(method_entry, method)),
                        case.scheme,
                        split,
                        seed,
                        problem.space_for(case.space).name,
                        spent.name,
                    )
                    cell = Cell(
                        problem_entry, problem, method_entry, method, identity, spent, wanted
                    )
                    _place(result, cell, None if force else records.get(identity))
    return result


def require_metrics(names: Iterable[str]) -> None:
    """Refuse names of metrics, other than "all", that are unknown.

    Raises:
        UnknownNameError: one is.
    """
    for name in names:
        if name != "all":
            registry.get("metric", name)


def metric_ids(problem: Problem, names: Collection[str] = ()) -> frozenset[str]:
    """Ids of the metrics that a problem is judged by, and of others by name; "all" for every."""
    wanted = {*problem.headline, *names}
    return frozenset(
        entry.id for entry in registry.entries("metric") if "all" in wanted or entry.name in wanted
    )


def _of_64_bits(seed: int) -> int:
    try:
        found = operator.index(seed)
    except TypeError:
        found = 2**63
    if isinstance(seed, bool) or abs(found) >= 2**63:
        raise UnknownNameError(f"seed is {seed!r}; give a whole number of 64 bits") from None
    return found


def _place(result: Plan, cell: Cell, record: dict[str, Any] | None) -> None:
    """Put a cell where it belongs: to be run, to be scored, or done."""
    if record is None or made_otherwise(record, cell):
        result.todo.append(cell)
    elif _is_complete(record, cell.metrics):
        result.done.append(record)
    else:
        earlier = record if record["status"] in SCORED else None
        result.todo.append(dataclasses.replace(cell, earlier=earlier))


def made_otherwise(record: dict[str, Any], cell: Cell) -> bool:
    """Whether the same label and budget name stood for other numbers when it was recorded."""
    return contradicts(record["settings"], cell.settings) or contradicts(
        record["budget"], cell.budget.contents()
    )


def _is_complete(record: dict[str, Any], metrics: frozenset[str]) -> bool:
    """A failed cell is tried again; one without a metric that is wanted is scored again."""
    if record["status"] in SCORED:
        return metrics <= {*record["metrics"], *record.get("metrics_not_applicable", ())}
    return record["status"] == "not applicable"


def _followed(entry: Entry, method: Method, correct: str | None) -> tuple[Entry, Method]:
    """With the correction that was asked for; the truth itself needs none."""
    if correct is None or "reference" in method.needs:
        return entry, method
    return corrected(entry, method, correct)


def _expand(specs: Sequence[str], known: Iterable[Entry]) -> list[str]:
    wanted: list[str] = []
    for spec in specs:
        wanted += [s for entry in known for s in entry.specs] if spec == "all" else [spec]
    return list(dict.fromkeys(wanted))
