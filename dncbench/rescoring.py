"""New metrics on old runs: the merged draws are kept, so nothing is merged again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dncbench import registry
from dncbench.bench import Bench, Cell
from dncbench.budget import Budget
from dncbench.configure import configure
from dncbench.progress import Progress, Silent
from dncbench.store import SCORED, Cache, Records, canonical
from dncbench.timing import forget_programs


@dataclass
class Rescored:
    """How many records were read.

    Attributes:
        scored: have new figures now.
        complete: had them before.
        without_draws: whose merged draws are not in the cache.
    """

    scored: int = 0
    complete: int = 0
    without_draws: int = 0


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
    progress = progress or Silent()
    kept = Cache(cache)
    wanted = {
        registry.get("metric", name).id
        for name in metrics or [entry.name for entry in registry.entries("metric")]
    }
    done = Rescored()
    by_terms: dict[tuple, list[Cell]] = {}
    for record in store:
        if record["status"] not in SCORED:
            continue
        if wanted <= {*record["metrics"], *record.get("metrics_not_applicable", ())}:
            done.complete += 1
        elif not kept.path("merged", record["identity"]).is_file():
            done.without_draws += 1
        else:
            by_terms.setdefault(_terms(record["identity"]), []).append(_cell(record))
    progress.plan(sum(map(len, by_terms.values())))
    for cells in by_terms.values():
        forget_programs()
        spent = Budget(**cells[0].identity["budget"])
        bench = Bench(cells[0], spent, kept, progress)
        bench.prepare(wanted)
        for cell in cells:
            again = bench.scored_again(cell)
            if again is None:  # the file was damaged
                done.without_draws += 1
                continue
            store.put(again)
            done.scored += 1
            progress.done(again)
    return done


def _terms(identity: dict[str, Any]) -> tuple:
    return (
        identity["problem"]["label"],
        identity["split"]["scheme"],
        identity["space"],
        identity["seed"],
        canonical(identity["budget"]),
    )


def _cell(record: dict[str, Any]) -> Cell:
    identity = record["identity"]
    problem_entry, problem = configure("problem", identity["problem"]["label"])
    method = identity["method"]["label"].partition(" + ")[0]
    method_entry, configured = configure("method", method)
    return Cell(
        problem_entry,
        problem,
        method_entry,
        configured,
        identity["split"]["index"],
        identity,
        record,
    )
