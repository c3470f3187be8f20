"""Shapes of JSON values: what a reader may rely on, and the same as JSON Schema.

A shape holds a value to what it may be, and writes itself down as a schema, so that what is
enforced and what is documented cannot differ. Only how a number is spelled no schema can tell:
in digits alone it has at most 64 bits, and a whole number has no point.
"""

import marshal
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dncbench.storage.text import UNPRINTABLE

MOST_TEXT = 100_000
"""Characters of a text."""

DEPTH = 6
"""Levels of lists and objects in what readers pass over or show as it is."""

PRINTABLE = rf"[^{UNPRINTABLE}]"
"""One character of a text in one line."""

LARGEST = sys.float_info.max

_ENCODABLE = r"[^\ud800-\udfff]*"
_MOST_KEY = 200
_MOST_SEEN = 4_096
_MOST_WHOLE = 2**63


class Shape(NamedTuple):
    """What a value may be.

    Attributes:
        check: raises :class:`Misfit` for what is something else.
        schema: the same as JSON Schema, draft 2020-12.
    """

    check: Callable[[Any], None]
    schema: dict[str, Any]


class Misfit(ValueError):
    """A value that is not of the shape asked for, and where in the document it stands."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.place: list[str] = []

    def within(self, part: object) -> "Misfit":
        """The same, as told from one level further out."""
        self.place.insert(0, str(part))
        return self

    def __str__(self) -> str:
        place = ".".join(self.place)
        if not place.isprintable() or len(place) > 200:
            place = shown(place)
        return f"{place}: {self.args[0]}" if place else str(self.args[0])


def shown(value: object, most: int = 60) -> str:
    """A value as a message shows it: in one line, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to write some out
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value[: most + 1] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}..."


def text(pattern: str = _ENCODABLE, what: str = "a text", most: int = MOST_TEXT) -> Shape:
    """A text.

    Args:
        pattern: that the whole of it fits; Python and ECMAScript read it alike.
        what: a text of the pattern is called in messages.
        most: characters.
    """
    fits = re.compile(pattern).fullmatch
    seen: set[str] = set()  # names are the same in thousands of records

    def check(value: Any) -> None:
        if type(value) is str and value in seen:
            return
        if type(value) is not str or not fits(value):
            raise Misfit(f"{shown(value)} is not {what}")
        if len(value) > most:
            raise Misfit(f"{shown(value)} has {len(value)} characters, of at most {most}")
        if len(value) <= _MOST_KEY and len(seen) < _MOST_SEEN:
            seen.add(value)

    # Python's $ passes over a line break at the end, hence the last group.
    schema = {"type": "string", "maxLength": most, "pattern": rf"^(?:{pattern})$(?!\n)"}
    return Shape(check, schema)


def number(low: float, high: float, least: float = 0.0) -> Shape:
    """A finite number.

    Args:
        low, high: its range.
        least: its size, unless it is zero: squares and ratios of numbers have to stay finite.
    """
    what = f"a number from {low:g} to {high:g}" + (f", 0 or {least:g} in size" if least else "")

    def check(value: Any) -> None:
        if type(value) is float:
            if low <= value <= high and (value >= least or value <= -least or value == 0.0):
                return
        elif type(value) is int and -_MOST_WHOLE <= value < _MOST_WHOLE and low <= value <= high:
            return
        raise Misfit(f"{shown(value)} is not {what}")

    schema: dict[str, Any] = {"type": "number", "minimum": low, "maximum": high}
    if least:
        schema["anyOf"] = [{"const": 0}, {"minimum": least}, {"maximum": -least}]
    return Shape(check, schema)


def whole(low: int, high: int) -> Shape:
    """A whole number, written without a point."""

    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise Misfit(f"{shown(value)} is not a whole number from {low} to {high}")

    return Shape(check, {"type": "integer", "minimum": low, "maximum": high})


def one_of(*values: str | int | None) -> Shape:
    """One of a few values."""

    def check(value: Any) -> None:
        if not any(type(value) is type(each) and value == each for each in values):
            raise Misfit(f"{shown(value)} is none of {', '.join(map(repr, values))}")

    return Shape(check, {"enum": list(values)})


def nullable(shape: Shape) -> Shape:
    """A value or null."""

    def check(value: Any) -> None:
        if value is not None:
            shape.check(value)

    return Shape(check, {"anyOf": [shape.schema, {"type": "null"}]})


def listed(shape: Shape, fewest: int = 0) -> Shape:
    """A list of values of one shape."""

    def check(value: Any) -> None:
        if type(value) is not list:
            raise Misfit(f"{shown(value)} is not a list")
        if len(value) < fewest:
            raise Misfit(f"it has {len(value)} entries, of at least {fewest}")
        each = shape.check
        for place, entry in enumerate(value):
            try:
                each(entry)
            except Misfit as misfit:
                raise misfit.within(place) from None

    return Shape(check, {"type": "array", "items": shape.schema, "minItems": fewest})


def mapped(key: Shape, shape: Shape, most: int | None = None) -> Shape:
    """An object with any names of one shape and values of another.

    Args:
        key: shape of the names.
        shape: of the values.
        most: entries; None for any number.
    """

    def check(value: Any) -> None:
        _require_object(value)
        if most is not None and len(value) > most:
            raise Misfit(f"it has {len(value)} entries, of at most {most}")
        known, each = key.check, shape.check
        for name, entry in value.items():
            known(name)
            try:
                each(entry)
            except Misfit as misfit:
                raise misfit.within(name) from None

    limit = {} if most is None else {"maxProperties": most}
    schema = {
        "type": "object",
        "propertyNames": key.schema,
        "additionalProperties": shape.schema,
        **limit,
    }
    return Shape(check, schema)


def fields(
    required: Mapping[str, Shape],
    optional: Mapping[str, Shape] | None = None,
    others: Shape | None = None,
) -> Shape:
    """An object with known names.

    Args:
        required: what it must have.
        optional: what it may have.
        others: shape of what has any other name; None where there must be nothing else.
    """
    known, needed = {**required, **(optional or {})}, frozenset(required)
    checks = {name: shape.check for name, shape in known.items()}

    def check(value: Any) -> None:
        _require_object(value)
        if not needed <= value.keys():
            lacking = next(name for name in required if name not in value)
            raise Misfit(f"it lacks {lacking!r}")
        for name, entry in value.items():
            own = checks.get(name)
            if own is None:
                if others is None:
                    raise Misfit(f"{shown(name)} is no field of it")
                _KEY.check(name)
                own = others.check
            try:
                own(entry)
            except Misfit as misfit:
                raise misfit.within(name) from None

    schema: dict[str, Any] = {
        "type": "object",
        "required": sorted(required),
        "properties": {name: shape.schema for name, shape in sorted(known.items())},
        "additionalProperties": False if others is None else others.schema,
    }
    if others is not None:
        schema["propertyNames"] = _KEY.schema
    return Shape(check, schema)


def repeated(shape: Shape) -> Shape:
    """What is the same in thousands of records: each value is held to its shape once.

    So many are remembered, and of such a size, that they never need much memory.
    """
    sound: set[bytes] = set()

    def check(value: Any) -> None:
        try:
            content = marshal.dumps(value, 2)  # tells 1, 1.0 and True apart
        except ValueError:  # nested too deeply, or nothing that JSON has
            content = b""
        if content in sound:
            return
        shape.check(value)
        if 0 < len(content) <= _MOST_SEEN and len(sound) < _MOST_SEEN:
            sound.add(content)

    return Shape(check, shape.schema)


def anything() -> Shape:
    """Whatever JSON can say without infinities, in :data:`DEPTH` levels of lists and objects."""
    return Shape(lambda value: _check_any(value, DEPTH), {"$ref": f"#/$defs/levels-{DEPTH}"})


def _check_any(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _FREE.check(value)
    elif kind is float or kind is int:
        _FINITE.check(value)
    elif kind is dict or kind is list:
        if not depth:
            raise Misfit("it is nested too deeply")
        for name, entry in value.items() if kind is dict else enumerate(value):
            if kind is dict:
                _KEY.check(name)
            try:
                _check_any(entry, depth - 1)
            except Misfit as misfit:
                raise misfit.within(name) from None
    elif value is not None and kind is not bool:
        raise Misfit(f"{shown(value)} is nothing that JSON has")


def _require_object(value: Any) -> None:
    if type(value) is not dict:
        raise Misfit(f"{shown(value)} is not an object")


_KEY = text(rf"{PRINTABLE}*", "a name in one line", _MOST_KEY)
_FREE = text()
_FINITE = number(-LARGEST, LARGEST)
_SCALAR = {
    "type": ["null", "boolean", "number", "string"],
    **{name: limit for name, limit in _FREE.schema.items() if name != "type"},
    **{name: limit for name, limit in _FINITE.schema.items() if name != "type"},
}


def document(shape: Shape, title: str) -> dict[str, Any]:
    """A shape as a whole schema document."""
    levels: dict[str, Any] = {"levels-0": _SCALAR}
    for depth in range(1, DEPTH + 1):
        inner = {"$ref": f"#/$defs/levels-{depth - 1}"}
        levels[f"levels-{depth}"] = _SCALAR | {
            "type": [*_SCALAR["type"], "array", "object"],
            "items": inner,
            "propertyNames": _KEY.schema,
            "additionalProperties": inner,
        }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return head | shape.schema | {"$defs": levels}
