"""Everything that is made from the records, made at once, so that it all says the same."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dncbench.boards import summary_tables, tables
from dncbench.boards.board import Board
from dncbench.boards.leaderboard import boards
from dncbench.boards.summary import Summary, summaries
from dncbench.errors import DataError
from dncbench.report.overview_figure import svg
from dncbench.storage.files import read_regular, write_atomically
from dncbench.storage.records import Records

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
        DataError: the README has no block, or there is nothing to put into it. Nothing is written.
    """
    from dncbench.report import build

    if readme_file is not None:
        _around_block(readme_file)  # before anything is written
    page = build(store, budgets=[BUDGET], cache=cache, say=say)
    found = published_boards(store)
    texts = {
        store.root / "leaderboard.md": leaderboard_text(found),
        store.root / "overview.svg": svg(found),
        store.root / "report.html": page,
    }
    if readme_file is not None:
        texts[readme_file] = readme_text(readme_file, summaries(found))
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)


# ---------------------------------------------------------------- the README's block

BEGIN = "<!-- leaderboard: made by `dncbench publish --readme`, do not edit -->"
END = "<!-- end of leaderboard -->"
FIGURE = "![Error of every method in multiples of the noise floor](results/overview.svg)"


def readme_block(found: list[Summary]) -> str:
    """What stands between the marks."""
    return f"\n{summary_tables.to_markdown(found)}\n{FIGURE}\n\n"


def readme_text(path: Path, found: list[Summary]) -> str:
    """A file with its block brought up to date: what stands between the marks is replaced.

    Raises:
        DataError: the file is none that can be read, the marks are not there, or there is
            nothing to put between them.
    """
    before, after = _around_block(path)
    if not found:
        raise DataError("a summary needs records of at least two problems under the same budget")
    return before + BEGIN + readme_block(found) + END + after


def _around_block(path: Path) -> tuple[str, str]:
    """What stands before and after the marks."""
    try:
        text = read_regular(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DataError(
            f"{path} has no leaderboard block; put these two lines into it:\n{BEGIN}\n{END}"
        )
    return before, after
