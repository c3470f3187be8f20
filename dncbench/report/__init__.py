"""The report: everything that the records and the cache say, as one HTML file that loads nothing.

Data first, looks later: :mod:`~dncbench.report.page` puts plain data together,
:mod:`~dncbench.report.render` writes them down. The same records and cache give the same bytes.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from dncbench import registry, scaling
from dncbench.boards.board import Board
from dncbench.errors import DncbenchError
from dncbench.report.page import SummaryTable
from dncbench.storage.cache import Cache
from dncbench.storage.identity import identity_of
from dncbench.storage.records import Records

__all__ = ["build"]


def build(
    store: Records,
    *,
    problems: Iterable[str] = (),
    budgets: Iterable[str] = (),
    cache: str | Path | None = None,
    draws: bool = True,
    say: Callable[[str], None] = lambda message: None,
) -> str:
    """Make the page.

    Args:
        store: where the records are.
        problems: names to keep; all where empty.
        budgets: names to keep; all where empty.
        cache: folder of draws; by default ``DNCBENCH_CACHE`` or the user's.
        draws: whether to read the cache at all.
        say: told what is being done.

    Raises:
        UnknownNameError: no such problem.
        DncbenchError: there are no records of this kind.
    """
    from dncbench.report.grouping import groups
    from dncbench.report.growth import growths
    from dncbench.report.kept import read
    from dncbench.report.page import page
    from dncbench.report.render import html

    problems, budgets, records = list(problems), list(budgets), list(store)
    known = {identity_of(record).problem.name for record in records}
    for name in problems:
        if name not in known:
            registry.get("problem", name)  # unknown names get suggestions
    found = groups(records, problems, budgets)
    if not found:
        chosen = " ".join(
            [*(f"--problem {p}" for p in problems), *(f"--budget {b}" for b in budgets)]
        )
        raise DncbenchError(
            f"no records in {store.root / 'records'}{f' of {chosen}' if chosen else ''}; "
            f"make some with: dncbench run {chosen}".rstrip()
        )
    kept = []
    for group in found:
        say(f"{group.board.terms.problem}: reading what the cache has")
        kept.append(read(group, Cache(cache) if draws else None))
    say("drawing scaling studies")
    studies = growths(list(Records(store.root / scaling.FOLDER)))
    say("writing the page")
    over_problems = _over_problems([group.board for group in found])
    return html(page(found, kept, over_problems, studies, _commits_timed(store.root)))


def _commits_timed(root: Path) -> int:
    """How many commits asv has measured, on any machine; one file each, beside machine.json."""
    files = {file.name.partition("-")[0] for file in (root / "asv").glob("*/*.json")}
    return len(files - {"machine.json"})


def _over_problems(boards: list[Board]) -> list[SummaryTable]:
    from dncbench.boards import summary_tables
    from dncbench.boards.summary import summaries

    return [
        SummaryTable(
            summary_tables.title(each),
            summary_tables.LEGEND,
            summary_tables.header(each),
            summary_tables.cells(each),
            summary_tables.notes(each),
            summary_tables.lead(each),
        )
        for each in summaries(boards)
    ]
