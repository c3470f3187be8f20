"""Everything that is made from the records, made at once, so that it all says the same."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dncbench import readme, summary_tables, tables
from dncbench.leaderboard import Board, boards
from dncbench.report.overview_figure import svg
from dncbench.store import Records, write_atomically
from dncbench.summary import summaries

BUDGET = "quick"


def published_boards(records: Iterable[dict[str, Any]]) -> list[Board]:
    """The boards that are published: those of the budget for whose figures the suite stands."""
    return boards(records, budgets=[BUDGET])


def leaderboard_text(found: list[Board]) -> str:
    """``leaderboard.md``: the summary, then every board."""
    return (
        "# Leaderboard\n\nMade from the records in this folder by `dncbench publish`; "
        "how to read it is in the README.\n\n"
        + "\n".join([summary_tables.to_markdown(summaries(found)), tables.to_markdown(found)])
    )


def publish(
    store: Records,
    *,
    readme_file: Path | None = None,
    cache: str | Path | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> list[Path]:
    """Write the leaderboard, the overview figure, the report, and the README's block.

    Args:
        store: the records; the files are written beside them.
        readme_file: whose block is brought up to date; None for none.
        cache: folder of draws and references, for the report; nothing is sampled.
        say: told what is being done.

    Returns:
        What was written.

    Raises:
        DncbenchError: there are no records.
        DataError: the README has no block.
    """
    from dncbench.report import build

    page = build(store, budgets=[BUDGET], cache=cache, say=say)
    found = published_boards(store)
    texts = {
        "leaderboard.md": leaderboard_text(found),
        "overview.svg": svg(found),
        "report.html": page,
    }
    for name, text in texts.items():
        write_atomically(store.root / name, text.encode())
    written = [store.root / name for name in texts]
    if readme_file is not None:
        readme.update(readme_file, summaries(found))
        written.append(readme_file)
    return written
