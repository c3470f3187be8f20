"""Keeping things: a content-addressed cache of arrays, and append-only records.

Everything is written to a temporary name, synced, then renamed, so that a crash
leaves either the old file or the new one. Nothing is pickled.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

RECORD_SCHEMA = 1
_CONFIGURED = ("problem", "method")

SCORED = ("ok", "unreliable")
"""Statuses of records with figures; "unreliable": the merge's own sampling did not converge."""


def canonical(content: Any) -> str:
    """JSON with sorted keys and no NaN, the same text for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: Any) -> str:
    """SHA-256 of the canonical JSON of ``content``, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


class Cache:
    """Arrays by what determines them: draws, references, noise floors.

    Args:
        root: folder; by default ``DNCBENCH_CACHE`` or the user's cache folder.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        chosen = root or os.environ.get("DNCBENCH_CACHE") or platformdirs.user_cache_dir("dncbench")
        self.root = Path(chosen)

    def path(self, kind: str, key: dict[str, Any]) -> Path:
        """Where the arrays of ``key`` are or would be."""
        return self.root / kind / f"{digest(key)}.npz"

    def get(self, kind: str, key: dict[str, Any]) -> tuple[dict[str, np.ndarray], Any] | None:
        """Arrays and their info, or None where they are missing or damaged.

        A damaged file is set aside as ``*.damaged`` and reported, never trusted.
        """
        path = self.path(kind, key)
        checksum = path.with_suffix(".sha256")
        if not (path.is_file() and checksum.is_file()):
            return None
        content = path.read_bytes()
        try:
            if hashlib.sha256(content).hexdigest() != checksum.read_text().strip():
                raise ValueError("its checksum does not match")
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            info = json.loads(arrays.pop("info").tobytes())
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            aside = path.with_suffix(".damaged")
            os.replace(path, aside)
            print(
                f"dncbench: {path} is damaged ({error}); set aside as {aside.name}, recomputing",
                file=sys.stderr,
            )
            return None
        return arrays, info

    def put(self, kind: str, key: dict[str, Any], arrays: dict[str, np.ndarray], info: Any) -> None:
        """Store arrays with their info (plain JSON values)."""
        path = self.path(kind, key)
        buffer = io.BytesIO()
        text = np.frombuffer(canonical(info).encode(), dtype=np.uint8)
        for name, array in arrays.items():
            if array.dtype == object:
                raise ValueError(f"{name}: Object arrays cannot be saved without pickle")
        contents: dict[str, Any] = {"info": text, **arrays}
        np.savez(buffer, **contents)
        content = buffer.getvalue()
        write_atomically(path, content)
        # Last, so that arrays without a checksum are never read.
        checksum = hashlib.sha256(content).hexdigest()
        write_atomically(path.with_suffix(".sha256"), checksum.encode())


class Records:
    """One JSON file for each cell.

    ``<root>/records/<problem>/<method>/<split>-<seed>-<digest>.json``; two people's
    records merge without conflicts.

    Args:
        root: the results folder; by default ``DNCBENCH_RESULTS`` or ``./results``.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("DNCBENCH_RESULTS") or "results")

    def path(self, identity: dict[str, Any]) -> Path:
        """Where the record of a cell is or would be."""
        split = f"{identity['split']['scheme']}-{identity['split']['index']}".replace(":", "_")
        name = f"{split}-{identity['seed']}-{digest(identity)[:12]}.json"
        problem, method = identity["problem"]["name"], identity["method"]["name"]
        return self.root / "records" / problem / method / name

    def get(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a cell, or None."""
        path = self.path(identity)
        return read_record(path) if path.is_file() else None

    def put(self, record: dict[str, Any]) -> Path:
        """Write a record; replaces an earlier one of the same cell."""
        path = self.path(record["identity"])
        text = json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n"
        write_atomically(path, text.encode())
        return path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.root / "records").rglob("*.json")):
            record = read_record(path)
            if record is not None:
                yield record


def latest(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record for each cell: the newest.

    A cell has two where its method or problem got a new setting: the labels are the same, for
    they name only what differs from the defaults, and so is what was run.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        identity = record["identity"]
        labels = {kind: [identity[kind][x] for x in ("id", "label")] for kind in _CONFIGURED}
        cell = canonical({**identity, **labels})
        if cell not in found or record["created"] > found[cell]["created"]:
            found[cell] = record
    return list(found.values())


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a figure")


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None (and a line on stderr) where the file is not one of this schema."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if record["schema"] == RECORD_SCHEMA:
            missing = {"identity", "status", "metrics"} - record.keys()
            if not missing:
                return record
            raise KeyError(*missing)
        reason = f"has schema {record['schema']}, this version reads {RECORD_SCHEMA}"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"is not a record ({type(error).__name__})"
    print(f"dncbench: {path} {reason}; left out", file=sys.stderr)
    return None
