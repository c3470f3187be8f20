"""Append-only records: one JSON file for each cell (``docs/record.md`` says what is in it)."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dncbench.storage import contents
from dncbench.storage.contents import RECORD_SCHEMA, RULES, SCORED, WITHOUT_FIGURES
from dncbench.storage.files import digest, read_regular, require_writable, write_atomically
from dncbench.storage.identity import Identity, identity_of
from dncbench.storage.reading import without_collection
from dncbench.storage.seals import is_intact, sealed
from dncbench.storage.text import one_line

__all__ = [
    "MOST_BYTES",
    "RECORD_SCHEMA",
    "RULES",
    "SCORED",
    "WITHOUT_FIGURES",
    "Records",
    "by_earlier_rules",
    "contradicts",
    "latest",
    "read_record",
    "validate",
]

MOST_BYTES = 1_000_000
"""Of a record's file."""


class Records:
    """One JSON file for each cell.

    ``<root>/records/<problem>/<method>/<split>-<seed>-<digest>.json``; two people's
    records merge without conflicts.

    Args:
        root: the results folder; by default ``DNCBENCH_RESULTS`` or ``./results``.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        chosen = Path(root or os.environ.get("DNCBENCH_RESULTS") or "results")
        self.root = chosen.absolute()  # a plugin may change the working folder

    def path(self, identity: Identity) -> Path:
        """Where the record of a cell is or would be."""
        split = f"{identity.scheme}-{identity.split}".replace(":", "_")
        name = f"{split}-{identity.seed}-{digest(identity.to_json())[:12]}.json"
        return self.root / "records" / identity.problem.name / identity.method.name / name

    def get(self, identity: Identity) -> dict[str, Any] | None:
        """The record of a cell, or None."""
        path = self.path(identity)
        record = read_record(path) if os.path.lexists(path) else None
        if record is not None and identity_of(record) != identity:
            _left_out(path, ValueError(f"it is of another cell: {identity_of(record).title()}"))
            return None
        return record

    def put(self, record: dict[str, Any]) -> Path:
        """Seal a record and write it; replaces an earlier one of the same cell.

        Raises:
            ValueError: it is not a whole record.
            StorageError: it cannot be written.
        """
        validate(record)
        return self.copy(sealed(record))

    def require_writable(self) -> None:
        """Make sure that records can be written, before there are any.

        Raises:
            StorageError: they cannot.
        """
        require_writable(self.root / "records" / "any.json")

    def copy(self, record: dict[str, Any]) -> Path:
        """Write a record that was read: its seal, or that it has none, stays.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.path(identity_of(record))
        write_atomically(path, _text(record))
        return path

    def files(self) -> list[Path]:
        """Whatever is called ``*.json``, by name; a folder that cannot be listed is told of."""
        found = []
        for folder, inner, names in os.walk(self.root / "records", onerror=_cannot_list):
            inner.sort()
            found += [Path(folder, name) for name in sorted(names + inner) if _is_json(name)]
        return found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with without_collection():
            found = [read_record(path) for path in self.files()]
        return (record for record in found if record is not None)


def _is_json(name: str) -> bool:
    return name.endswith(".json")


def _cannot_list(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        _left_out(Path(error.filename), error)


def latest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record for each cell: the newest, where several people's folders became one."""
    found: dict[Identity, dict[str, Any]] = {}
    for record in records:
        identity = identity_of(record)
        if identity not in found or record["created"] > found[identity]["created"]:
            found[identity] = record
    return list(found.values())


def by_earlier_rules(records: Iterable[dict[str, Any]]) -> int:
    """How many records with figures were made before the present :data:`RULES`."""
    return sum(record["status"] in SCORED and record.get("rules", 1) < RULES for record in records)


def contradicts(recorded: Any, present: Any) -> bool:
    """Whether settings, or a budget's numbers, that both have are not the same.

    What only one of them has is a setting that came later or went.
    """
    if isinstance(recorded, dict) and isinstance(present, dict):
        return any(contradicts(recorded[key], present[key]) for key in recorded.keys() & present)
    return bool(recorded != present)


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None (and a line on stderr) where the file is none, or its seal is broken."""
    try:
        content = read_regular(path, MOST_BYTES)
        record = _parsed(content)
        contents.check(record)
        identity_of(record)
        if "seal" in record and not is_intact(record, content):
            raise ValueError("its contents are not those that were sealed: somebody changed them")
    except (ValueError, OSError) as error:
        _left_out(path, error)
        return None
    return record


def _left_out(path: Path, error: Exception) -> None:
    reason = (isinstance(error, OSError) and error.strerror) or error
    print(one_line(f"dncbench: {path} is left out: {reason}"), file=sys.stderr)


def _parsed(content: bytes) -> Any:
    try:
        return _DECODER.decode(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not a record: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a figure")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def validate(record: Any) -> None:
    """Hold a record to what readers rely on, as it would be read back.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        content = _text(record)
    except TypeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has {len(content)} bytes, of at most {MOST_BYTES}")
    contents.check(_parsed(content))
    identity_of(record)


def _text(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n"
    return text.encode()
