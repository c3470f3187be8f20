"""The block of a Markdown file that the suite writes: the summary of the records."""

from pathlib import Path

from dncbench import summary_tables
from dncbench.errors import DataError
from dncbench.summary import Summary

BEGIN = "<!-- leaderboard: made by `dncbench publish --readme`, do not edit -->"
END = "<!-- end of leaderboard -->"
FIGURE = "![Error of every method in multiples of the noise floor](results/overview.svg)"


def block(found: list[Summary]) -> str:
    """What stands between the marks."""
    return f"\n{summary_tables.to_markdown(found)}\n{FIGURE}\n\n"


def update(path: Path, found: list[Summary]) -> None:
    """Replace what stands between the marks of a file.

    Raises:
        DataError: the marks are not there, or there is nothing to put between them.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DataError(
            f"{path} has no leaderboard block; put these two lines into it:\n{BEGIN}\n{END}"
        )
    if not found:
        raise DataError("a summary needs records of at least two problems under the same budget")
    path.write_text(before + begin + block(found) + end + after, encoding="utf-8")
