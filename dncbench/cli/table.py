"""Tables for a terminal, drawn line by line: a page of two hundred boards is there at once."""

import itertools
import textwrap
from collections.abc import Iterator

_NARROWEST = 6
_TOP, _BELOW_HEAD, _BETWEEN, _BOTTOM = "┏━┳┓", "┡━╇┩", "├─┼┤", "└─┴┘"


def drawn(
    header: list[str], rows: list[list[str]], foot: list[str], left: set[str], width: int
) -> str:
    """A table with a frame.

    Args:
        header: titles of the columns; the first column is never cut.
        rows: texts, each in one line.
        foot: a last row, set apart by a rule; empty where there is none.
        left: titles of the columns that are aligned at the left; the others are at the right.
        width: of the screen. Columns that leave it go on in the next line.
    """
    everything = [header, *rows, *([foot] if foot else [])]
    widths = _fitted([max(map(len, column)) for column in zip(*everything, strict=True)], width)
    at_left = [title in left for title in header]

    def rule(pieces: str) -> str:
        start, line, crossing, end = tuple(pieces)
        return start + crossing.join(line * (size + 2) for size in widths) + end

    lines = [rule(_TOP), *_row(header, widths, at_left, "┃"), rule(_BELOW_HEAD)]
    for row in rows:
        lines += _row(row, widths, at_left, "│")
    if foot:
        lines += [rule(_BETWEEN), *_row(foot, widths, at_left, "│")]
    return "\n".join([*lines, rule(_BOTTOM)])


def _fitted(widths: list[int], width: int) -> list[int]:
    """The widest columns but the first made narrower, until the table fits or nothing is left."""
    widths = list(widths)
    excess = sum(widths) + 3 * len(widths) + 1 - width
    while excess > 0 and len(widths) > 1:
        widest = max(range(1, len(widths)), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _row(cells: list[str], widths: list[int], at_left: list[bool], bar: str) -> Iterator[str]:
    wrapped = [
        textwrap.wrap(cell, size) if len(cell) > size else [cell]
        for cell, size in zip(cells, widths, strict=True)
    ]
    for line in itertools.zip_longest(*wrapped, fillvalue=""):
        padded = (
            text.ljust(size) if left else text.rjust(size)
            for text, size, left in zip(line, widths, at_left, strict=True)
        )
        yield f"{bar} {f' {bar} '.join(padded)} {bar}"
