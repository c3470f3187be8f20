"""Text that anybody may have written, made safe to print.

A record's reasons and warnings are other people's sentences. Before they reach a terminal or a
table they become one line without control characters.
"""

UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
"""Inside a regular expression's brackets: what breaks a line, steers a terminal or hides."""


def one_line(text: str) -> str:
    """The text in one line; what does not print, control sequences too, as escapes: ``\\x1b``.

    Line breaks and runs of blanks become one blank.
    """
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(map(_printable, line))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def csv_value(value: object) -> object:
    """A value for a cell of csv: a text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def markdown(text: str) -> str:
    """The text as Markdown shows it literally, in one line."""
    return one_line(text).translate(_MARKDOWN)


_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|~$&#"})
