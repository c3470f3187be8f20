"""New metrics on old runs: the merged draws are kept, so nothing is merged again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dncbench import registry
from dncbench.budget import get as get_budget
from dncbench.configure import configure
from dncbench.running.cache_keys import merged_key
from dncbench.running.cells import scored_again
from dncbench.running.plan import Cell, made_otherwise
from dncbench.running.prepared import prepare
from dncbench.running.progress import Progress, Silent
from dncbench.storage.cache import Cache
from dncbench.storage.identity import Terms, identity_of
from dncbench.storage.records import SCORED, Records
from dncbench.timing import forget_programs


@dataclass
class Rescored:
    """How many records were read.

    Attributes:
        scored: have new figures now.
        complete: had them before.
        without_draws: whose merged draws are not in the cache, or were made with settings that
            their labels no longer stand for.
        failed: of which a metric could not be read; the record says why.
    """

    scored: int = 0
    complete: int = 0
    without_draws: int = 0
    failed: int = 0


def rescore(
    store: Records,
    metrics: Sequence[str] = (),
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Rescored:
    """Read metrics that records lack, on the draws that were kept.

    Args:
        store: the records; those that change are written anew.
        metrics: names; all registered ones where empty.
        cache: folder of draws and references. A reference that is not there is made.
        progress: display.

    Raises:
        UnknownNameError: an unknown metric, or a record of a problem that is not registered.
    """
    progress = Silent() if progress is None else progress
    kept = Cache(cache)
    wanted = frozenset(
        registry.get("metric", name).id
        for name in metrics or [entry.name for entry in registry.entries("metric")]
    )
    done = Rescored()
    by_terms: dict[Terms, list[Cell]] = {}
    for record in store:
        if record["status"] not in SCORED:
            continue
        if wanted <= {*record["metrics"], *record.get("metrics_not_applicable", ())}:
            done.complete += 1
        elif (cell := _cell(record, wanted, kept)) is None:
            done.without_draws += 1
        else:
            by_terms.setdefault(cell.terms, []).append(cell)
    progress.plan(sum(map(len, by_terms.values())))
    for cells in by_terms.values():
        forget_programs()
        first = cells[0]
        ready = prepare(
            first.problem_entry, first.problem, first.terms, first.budget, kept, progress, wanted
        )
        for cell in cells:
            again = scored_again(ready, cell)
            if again is None:  # the file was damaged
                done.without_draws += 1
                continue
            store.put(again)
            if wanted & again.get("metrics_failed", {}).keys():
                done.failed += 1
            else:
                done.scored += 1
            progress.done(again)
    return done


def _cell(record: dict[str, Any], wanted: frozenset[str], kept: Cache) -> Cell | None:
    """The cell of a record; None where its draws are not there, or are not what they were."""
    if not kept.has("merged", merged_key(record)):
        return None
    identity = identity_of(record)
    problem_entry, problem = configure("problem", identity.problem.label)
    method_entry, method = configure("method", identity.method.label)
    budget = get_budget(identity.budget)
    cell = Cell(problem_entry, problem, method_entry, method, identity, budget, wanted, record)
    return None if made_otherwise(record, cell) else cell
