"""A problem or method with its settings, as text: ``consensus[weights=shard]``."""

import ast
import dataclasses
import re
from typing import Any

from dncbench import registry
from dncbench.errors import UnknownNameError
from dncbench.registry import Entry, Kind

_SPEC = re.compile(r"^(?P<name>[^\[\]]+?)(?:\[(?P<options>[^\[\]]*)\])?$")


def configure(kind: Kind, spec: str, **settings: Any) -> tuple[Entry, Any]:
    """Build the configured problem or method that ``spec`` describes.

    Args:
        kind: "problem" or "method".
        spec: a registered name, with settings in brackets where wanted:
            ``"swiss"``, ``"consensus[weights=shard]"``.
        settings: the same settings as keywords.

    Returns:
        The registry entry and the instance.

    Raises:
        UnknownNameError: unknown name or setting, with the nearest known ones.
    """
    match = _SPEC.match(spec.strip())
    if not match:
        raise UnknownNameError(f"{spec!r} is not of the form NAME or NAME[SETTING=VALUE,...]")
    entry = registry.get(kind, match["name"].strip())
    for pair in filter(None, (match["options"] or "").split(",")):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UnknownNameError(f"{spec!r}: write the setting {key!r} as {key}=VALUE")
        settings[key] = _literal(value)
    known = {field.name: field for field in dataclasses.fields(entry.target) if field.init}
    for key in settings:
        if key not in known:
            options = ", ".join(known) or "none"
            raise UnknownNameError(
                f"{kind} {entry.name!r} has no setting {key!r}{registry.nearest(key, known)}; "
                f"its settings: {options}"
            )
        settings[key] = _checked(entry.name, key, settings[key], known[key].default)
    return entry, entry.target(**settings)


def _checked(name: str, key: str, value: Any, default: Any) -> Any:
    """The value, if it is of its default's kind: true or false, a number, a text."""
    kinds: dict[type, tuple[Any, str]] = {
        bool: (bool, "true or false"),
        int: (int, "a whole number"),
        float: (int | float, "a number"),
        str: (str, "a text"),
    }
    allowed, description = kinds.get(type(default), (object, ""))
    if not isinstance(value, allowed) or (isinstance(value, bool) and allowed is not bool):
        raise UnknownNameError(f"{name}: {key}={value!r} must be {description}")
    return float(value) if type(default) is float else value


def settings_of(instance: Any) -> dict[str, Any]:
    """All settings of a configured problem or method, defaults included."""
    return {
        field.name: getattr(instance, field.name)
        for field in dataclasses.fields(instance)
        if field.init
    }


def label(entry: Entry, instance: Any) -> str:
    """The name with those settings that differ from the defaults, e.g. in a table's row."""
    changed = [
        f"{field.name}={getattr(instance, field.name)}"
        for field in dataclasses.fields(instance)
        if field.init and getattr(instance, field.name) != field.default
    ]
    return f"{entry.name}[{','.join(changed)}]" if changed else entry.name


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false", "on", "off"):
        return text.lower() in ("true", "on")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
