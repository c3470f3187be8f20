"""Putting other people's records beside one's own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dncbench.errors import DataError
from dncbench.storage.identity import identity_of
from dncbench.storage.records import Records, read_record


@dataclass
class Merged:
    """What became of the records of another folder.

    Attributes:
        added: cells that were not there.
        same: cells that were there with the same figures; ours stay.
        conflicts: cells that were there with other figures; ours stay, unless theirs were
            preferred.
    """

    added: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def merge_results(source: Path, into: Records, *, prefer_theirs: bool = False) -> Merged:
    """Copy the records of a results folder into a store.

    Args:
        source: a results folder, the one that holds ``records``.
        into: the store.
        prefer_theirs: where figures differ, take theirs.

    Raises:
        DataError: there are no records in ``source``.
        StorageError: a record cannot be written.
    """
    files = Records(source).files()
    if not files:
        raise DataError(f"{source} has no records; give the folder that holds 'records'")
    merged = Merged()
    for file in files:
        theirs = read_record(file)
        if theirs is None:
            continue
        identity = identity_of(theirs)
        name = str(into.path(identity).relative_to(into.root))
        ours = into.get(identity)
        if ours is None:
            merged.added.append(name)
        elif _figures(ours) == _figures(theirs):
            merged.same.append(name)
            continue
        else:
            merged.conflicts.append(name)
            if not prefer_theirs:
                continue
        into.copy(theirs)
    return merged


def _figures(record: dict[str, Any]) -> tuple[str, dict[str, float]]:
    values = {metric: figure["value"] for metric, figure in record["metrics"].items()}
    return record["status"], values
