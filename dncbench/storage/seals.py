"""Seals: a record that is changed after it was written is told.

A seal is no signature: whoever means to deceive can make a new one. It tells a change by hand, or
by a fault of a disk.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from dncbench.storage.files import digest


def seal_of(record: dict[str, Any]) -> str:
    """SHA-256 of all that a record holds beside its seal, as canonical JSON."""
    return digest({name: value for name, value in record.items() if name != "seal"})


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the seal of what it holds."""
    return record | {"seal": seal_of(record)}


def not_sealed(records: Iterable[dict[str, Any]]) -> int:
    """How many records have no seal."""
    return sum("seal" not in record for record in records)


def is_intact(record: dict[str, Any], content: bytes) -> bool:
    """Whether a record holds what was sealed.

    Args:
        record: with a seal.
        content: the text that it was read from.
    """
    return bool(
        record["seal"] == _seal_of_text(record["seal"], content)
        or record["seal"] == seal_of(record)
    )


def _seal_of_text(seal: str, content: bytes) -> str | None:
    """The seal of a record, in half the time, where its text is laid out as we write it.

    Blanks beside line breaks and after a name's colon are then all that tells it from canonical
    JSON. Strings hold no line breaks, and no quotation mark without a backslash.
    """
    if rb"\": " in content:  # perhaps within a string
        return None
    packed = b"".join(map(bytes.strip, content.split(b"\n"))).replace(b'": ', b'":')
    return sha256(packed.replace(b',"seal":"%s"' % seal.encode(), b"", 1)).hexdigest()
