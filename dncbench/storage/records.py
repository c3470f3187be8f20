"""Append-only records: one JSON file for each cell (``docs/record.md`` says what is in it)."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dncbench.storage.files import digest, write_atomically
from dncbench.storage.identity import ID, Identity, identity_of

RECORD_SCHEMA = 2

SCORED = ("ok", "unreliable")
"""Statuses of records with figures; "unreliable": the merge's own sampling did not converge."""

WITHOUT_FIGURES = ("failed", "not applicable", "timeout")
"""Statuses of records that give a reason instead."""


class Records:
    """One JSON file for each cell.

    ``<root>/records/<problem>/<method>/<split>-<seed>-<digest>.json``; two people's
    records merge without conflicts.

    Args:
        root: the results folder; by default ``DNCBENCH_RESULTS`` or ``./results``.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("DNCBENCH_RESULTS") or "results")

    def path(self, identity: Identity) -> Path:
        """Where the record of a cell is or would be."""
        split = f"{identity.scheme}-{identity.split}".replace(":", "_")
        name = f"{split}-{identity.seed}-{digest(identity.to_json())[:12]}.json"
        return self.root / "records" / identity.problem.name / identity.method.name / name

    def get(self, identity: Identity) -> dict[str, Any] | None:
        """The record of a cell, or None."""
        path = self.path(identity)
        return read_record(path) if path.is_file() else None

    def put(self, record: dict[str, Any]) -> Path:
        """Write a record; replaces an earlier one of the same cell.

        Raises:
            ValueError: it is not a whole record.
        """
        validate(record)
        path = self.path(identity_of(record))
        text = json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n"
        write_atomically(path, text.encode())
        return path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.root / "records").rglob("*.json")):
            record = read_record(path)
            if record is not None:
                yield record


def latest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record for each cell: the newest, where several people's folders became one."""
    found: dict[Identity, dict[str, Any]] = {}
    for record in records:
        identity = identity_of(record)
        if identity not in found or record["created"] > found[identity]["created"]:
            found[identity] = record
    return list(found.values())


def contradicts(recorded: Any, present: Any) -> bool:
    """Whether settings, or a budget's numbers, that both have are not the same.

    What only one of them has is a setting that came later or went.
    """
    if isinstance(recorded, dict) and isinstance(present, dict):
        return any(contradicts(recorded[key], present[key]) for key in recorded.keys() & present)
    return bool(recorded != present)


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None (and a line on stderr) where the file is not one of this schema."""
    try:
        record = _parsed(path)
        validate(record)
        return record
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
    print(f"dncbench: {path} is left out: {reason}", file=sys.stderr)
    return None


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not a record: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a figure")


def validate(record: Any) -> None:
    """Hold a record to what readers rely on.

    Raises:
        ValueError: what is wrong with it.
    """
    if not isinstance(record, dict) or "schema" not in record:
        raise ValueError("it is not a record")
    if record["schema"] != RECORD_SCHEMA:
        raise ValueError(f"it has schema {record['schema']}, this version reads {RECORD_SCHEMA}")
    _of_types(record, _ALWAYS, "it")
    identity_of(record)
    for kind in ("problem", "method"):
        _of_types(record["settings"], {kind: dict}, "its settings")
    _of_types(record["reference"], {"grade": str, "failures": list}, "its reference")
    _texts(record["headline"], "headline")
    _texts(record["reference"]["failures"], "reference's failures")
    if record["status"] not in (*SCORED, *WITHOUT_FIGURES):
        raise ValueError(f"its status {record['status']!r} is none")
    if record["status"] != "ok":
        _of_types(record, {"reason": str}, "it")
    if record["status"] in SCORED:
        _scored(record)
    for metric, figure in record["metrics"].items():
        if not ID.fullmatch(metric):
            raise ValueError(f"the metric's id {metric!r} is not NAME@VERSION")
        _of_types(figure, {"noise_floor": dict}, metric)
        for name in ("value", "standard_error"):
            _number(figure.get(name), f"{name} of {metric}")
        for name in ("mean", "sd", "max"):
            _number(figure["noise_floor"].get(name), f"noise floor ({name}) of {metric}")


def _scored(record: dict[str, Any]) -> None:
    """What a cell with figures has beside them."""
    _of_types(record, _SCORED_FIELDS, "it")
    _of_types(record["seconds"], dict.fromkeys(_PHASES, (int, float)), "its seconds")
    for phase, spent in record["seconds"].items():
        _number(spent, f"seconds of {phase}")
    _texts(record["warnings"], "warnings")
    _of_types({"importance": {}, "memory_bytes": {}, "rounds": []} | record, _MAYBE, "it")
    for program, needed in record.get("memory_bytes", {}).items():
        _number(needed, f"memory of {program}")
    if (k_hat := (record.get("importance") or {}).get("k_hat")) is not None:
        _number(k_hat, "k-hat")
    for one in record.get("rounds", ()):
        _of_types(one, {"metrics": dict, "bytes_up": int, "bytes_down": int}, "a round")
        for metric, error in one["metrics"].items():
            _number(error, f"{metric} after a round")


_ALWAYS: dict[str, type | tuple[type, ...]] = {
    "identity": dict,
    "settings": dict,
    "budget": dict,
    "headline": list,
    "status": str,
    "track": str,
    "created": str,
    "reference": dict,
    "metrics": dict,
    "environment": dict,
}
_SCORED_FIELDS: dict[str, type | tuple[type, ...]] = {
    "seconds": dict,
    "bytes_communicated": int,
    "other_load_cores": (int, float, type(None)),
    "info": dict,
    "warnings": list,
}
_MAYBE: dict[str, type | tuple[type, ...]] = {
    "importance": (dict, type(None)),
    "memory_bytes": dict,
    "rounds": list,
}
_PHASES = ("sampling", "sampling_compile", "compile", "fit_slowest_shard", "fit_total", "merge")


def _of_types(found: Any, wanted: dict[str, Any], owner: str) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{owner}: {found!r} is not an object")
    for name, kind in wanted.items():
        if name not in found:
            raise ValueError(f"{owner} lacks {name!r}")
        if not isinstance(found[name], kind):
            raise ValueError(f"{owner}: {name!r} is {type(found[name]).__name__}")


def _texts(found: list[Any], what: str) -> None:
    for text in found:
        if not isinstance(text, str):
            raise ValueError(f"its {what}: {text!r} is not a text")


def _number(value: Any, what: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) <= sys.float_info.max):  # NaN is not; an int may be larger
        raise ValueError(f"the {what} is {value!r}, not a finite number")
