"""Files that are there whole or not at all, and the digests that name them.

Everything is written to a temporary name, synced, then renamed, so that a crash
leaves either the old file or the new one. Nothing is pickled.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

from dncbench.errors import StorageError

_PREFIX, _SUFFIX = ".dncbench-", ".part"
_ABANDONED = 3_600.0
"""Seconds after which a temporary file that cannot be locked is nobody's."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(content: Any) -> str:
    """JSON with sorted keys and no NaN, the same text for the same content."""
    return _ENCODER.encode(content)


def digest(content: Any) -> str:
    """SHA-256 of the canonical JSON of ``content``, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def read_regular(path: Path | str, most: int | None = None) -> bytes:
    """The content of a regular file, of a link to one too.

    Args:
        path: of the file.
        most: bytes that it may have; None for any number.

    Raises:
        OSError: it is not there, is something else (a pipe would be waited for), is larger,
            or cannot be read.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"it is {_kind(found.st_mode)}, not a file")
    if most is not None and found.st_size > most:
        raise OSError(f"it has {found.st_size} bytes, of at most {most}")
    with open(path, "rb") as file:
        return file.read(-1 if most is None else most)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def require_writable(path: Path) -> None:
    """Make sure that a file can be written, before what goes into it is computed.

    Raises:
        StorageError: it cannot, as :func:`write_atomically` says.
    """
    if os.path.lexists(path):
        _require_file(path)
    probe = Path(os.path.realpath(path)).with_name(".dncbench-probe")
    write_atomically(probe, b"")
    probe.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; a link stays, what it leads to is written.

    Raises:
        StorageError: the path is a folder, a pipe or a device, its folder cannot be made or
            written to, or the disk is full.
    """
    try:
        _require_file(path)
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OSError(errno.ELOOP, "it is a link to itself")
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        file = _temporary(target.parent)
        try:
            # Locked until it has its name, lest another process take it for abandoned.
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)
            raise
    except StorageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        why = getattr(error, "strerror", None) or error
        raise StorageError(f"{path} cannot be written: {why}; name another place") from error


def _require_file(path: Path) -> None:
    if os.path.exists(path) and not stat.S_ISREG(mode := os.stat(path).st_mode):
        raise StorageError(
            f"{path} is {_kind(mode)}, which no file may replace; name another place"
        )


def _temporary(folder: Path) -> Any:
    """A new file with a name of its own, locked while it is open."""
    while True:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115  # renamed while it is open
            suffix=_SUFFIX, prefix=_PREFIX, dir=folder, delete=False
        )
        _lock(file)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # swept away before it was locked


def _lock(file: Any) -> bool | None:
    """Whether the file is locked by this process now; None where files cannot be locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder; once for each process."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open("rb") as file:
            locked = _lock(file)
            old = time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED
            if locked or (locked is None and old):
                path.unlink()
