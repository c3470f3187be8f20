"""A problem, method or budget with its settings, as text: ``consensus[weights=shard]``."""

import ast
import dataclasses
import re
from typing import Any

from dncbench import registry
from dncbench.entry import Entry, Kind
from dncbench.errors import UnknownNameError, nearest

_SPEC = re.compile(r"^(?P<name>[^\[\]]+?)(?:\[(?P<options>[^\[\]]*)\])?$")


def configure(kind: Kind, spec: str, **settings: Any) -> tuple[Entry, Any]:
    """Build the configured problem or method that ``spec`` describes.

    Args:
        kind: "problem" or "method".
        spec: a registered name, with settings in brackets where wanted:
            ``"swiss"``, ``"consensus[weights=shard]"``; for a method followed by a
            correction where wanted: ``"swiss + psis"``.
        settings: the same settings as keywords.

    Returns:
        The registry entry and the instance.

    Raises:
        UnknownNameError: unknown name or setting, with the nearest known ones.
    """
    base, plus, correction = spec.rpartition(" + ")
    if plus and kind == "method":
        entry, method = configure(kind, base, **settings)
        return corrected(entry, method, correction.strip())
    name, written = parse(spec)
    entry = registry.get(kind, name)
    known = {field.name: field.default for field in dataclasses.fields(entry.target) if field.init}
    return entry, entry.target(**checked(f"{kind} {entry.name!r}", written | settings, known))


def corrected(entry: Entry, method: Any, correction: str) -> tuple[Entry, Any]:
    """A configured method followed by a correction.

    Raises:
        UnknownNameError: no such correction, or the method has nothing to correct.
    """
    then = registry.get("correction", correction)
    return dataclasses.replace(entry, then=then), then.target(method)


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``"consensus[weights=shard]"`` into its name and its settings.

    Raises:
        UnknownNameError: the text is not of this form.
    """
    match = _SPEC.match(spec.strip())
    if not match:
        raise UnknownNameError(f"{spec!r} is not of the form NAME or NAME[SETTING=VALUE,...]")
    settings = {}
    for pair in filter(None, (match["options"] or "").split(",")):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UnknownNameError(f"{spec!r}: write the setting {key!r} as {key}=VALUE")
        settings[key] = _literal(value)
    return match["name"].strip(), settings


def checked(owner: str, settings: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The settings, each of them known and of its default's kind.

    Args:
        owner: whose they are, for messages.
        settings: by name.
        known: the default of every setting there is.

    Raises:
        UnknownNameError: an unknown setting, or a value of another kind.
    """
    for key in settings:
        if key not in known:
            options = ", ".join(known) or "none"
            raise UnknownNameError(
                f"{owner} has no setting {key!r}{nearest(key, known)}; its settings: {options}"
            )
    return {key: _of_kind(owner, key, value, known[key]) for key, value in settings.items()}


def _of_kind(owner: str, key: str, value: Any, default: Any) -> Any:
    """The value, if it is of its default's kind: true or false, a number, a text."""
    kinds: dict[type, tuple[Any, str]] = {
        bool: (bool, "true or false"),
        int: (int, "a whole number"),
        float: (int | float, "a number"),
        str: (str, "a text"),
    }
    allowed, description = kinds.get(type(default), (object, ""))
    if not isinstance(value, allowed) or (isinstance(value, bool) and allowed is not bool):
        raise UnknownNameError(f"{owner}: {key}={value!r} must be {description}")
    return float(value) if type(default) is float else value


def settings_of(instance: Any) -> dict[str, Any]:
    """All settings of a configured problem or method, defaults included."""
    found = {
        field.name: getattr(instance, field.name)
        for field in dataclasses.fields(instance)
        if field.init
    }
    return {
        name: settings_of(value) if dataclasses.is_dataclass(value) else value
        for name, value in found.items()
    }


def label(entry: Entry, instance: Any) -> str:
    """The name with those settings that differ from the defaults, e.g. in a table's row."""
    if entry.then is not None:
        inner = dataclasses.replace(entry, then=None)
        return f"{label(inner, instance.method)} + {entry.then.name}"
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
