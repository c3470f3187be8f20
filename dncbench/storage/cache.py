"""A content-addressed cache of arrays: draws, references, noise floors."""

import contextlib
import functools
import hashlib
import io
import json
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from dncbench.errors import StorageError
from dncbench.storage.files import canonical, digest, read_regular, write_atomically
from dncbench.storage.text import one_line

Content = tuple[dict[str, np.ndarray], Any]
"""Arrays by name, and their info."""

_CHECKSUM = 64
"""Bytes of the SHA-256, in hexadecimal, that a file ends with."""


class Cache:
    """Arrays by what determines them: draws, references, noise floors.

    Each entry is one file, a ``.npz`` archive that NumPy opens, with the checksum of all before
    it as the archive's comment: whoever reads beside a writer has the old entry or the new one.

    Args:
        root: folder; by default ``DNCBENCH_CACHE`` or the user's cache folder.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        chosen = root or os.environ.get("DNCBENCH_CACHE") or platformdirs.user_cache_dir("dncbench")
        self.root = Path(chosen).absolute()  # a plugin may change the working folder

    def path(self, kind: str, key: dict[str, Any]) -> Path:
        """Where the arrays of ``key`` are or would be."""
        return self.root / kind / f"{digest(key)}.npz"

    def has(self, kind: str, key: dict[str, Any]) -> bool:
        """Whether there is an entry; it may be damaged."""
        return os.path.isfile(self.path(kind, key))

    def get(
        self,
        kind: str,
        key: dict[str, Any],
        check: Callable[[dict[str, np.ndarray], Any], object] | None = None,
    ) -> Content | None:
        """Arrays and their info, or None where they are missing, damaged or not what is needed.

        A damaged file is set aside as ``*.damaged`` and reported, never trusted.

        Args:
            kind, key: as they were put.
            check: given arrays and info; whatever it raises, they are none that can be used.
        """
        path = self.path(kind, key)
        if not os.path.lexists(path):
            return None
        try:
            found = _unpacked(read_regular(path))
            if check is not None:
                check(*found)
        except FileNotFoundError:
            if not path.is_symlink():  # another process has set it aside
                return None
            self.set_aside(kind, key, "it is a link to nothing")
        except MemoryError:  # that is no fault of the file
            raise
        except Exception as error:  # the file may be anything, and so may what reading it raises
            self.set_aside(kind, key, f"{type(error).__name__}: {error}")
        else:
            return found
        return None

    def set_aside(self, kind: str, key: dict[str, Any], why: str) -> None:
        """Take an entry that is not to be trusted out of the way, and say so on stderr."""
        path = self.path(kind, key)
        aside = path.with_suffix(".damaged")
        told = f"set aside as {aside.name}, recomputing"
        try:
            with contextlib.suppress(FileNotFoundError):
                if aside.is_dir() and not aside.is_symlink():
                    shutil.rmtree(aside)
                os.replace(path, aside)
        except OSError as error:
            told = f"it cannot be set aside ({error.strerror}), recomputing"
        print(one_line(f"dncbench: {path} is damaged ({why}); {told}"), file=sys.stderr)

    def put(self, kind: str, key: dict[str, Any], arrays: dict[str, np.ndarray], info: Any) -> None:
        """Store arrays with their info (plain JSON values).

        Where the cache cannot be written, a line on stderr says so, once for each reason, and
        what is computed next does without it.

        Raises:
            ValueError: an array of objects, or info that is not JSON.
        """
        buffer = io.BytesIO()
        text = np.frombuffer(canonical(info).encode(), dtype=np.uint8)
        for name, array in arrays.items():
            if array.dtype == object:
                raise ValueError(f"{name}: Object arrays cannot be saved without pickle")
        contents: dict[str, Any] = {"info": text, **arrays}
        np.savez(buffer, **contents)
        # The last two bytes of an archive are the length of its comment.
        content = buffer.getvalue()[:-2] + _CHECKSUM.to_bytes(2, "little")
        try:
            write_atomically(self.path(kind, key), content + _checksum(content))
        except StorageError as error:
            _say_once(f"dncbench: {self.root} keeps nothing: {error}")


@functools.cache
def _say_once(text: str) -> None:
    print(one_line(text), file=sys.stderr)


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of named arrays: names, shapes, dtypes and contents."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name}{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _checksum(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _unpacked(content: bytes) -> Content:
    """What :meth:`Cache.put` has packed; anything else raises."""
    if _checksum(memoryview(content)[:-_CHECKSUM]) != content[-_CHECKSUM:]:
        raise ValueError("its checksum does not match")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, and may grow to any size")
        if any(member.flag_bits & 1 for member in members):
            raise ValueError("it is encrypted")
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("it claims to hold more than it does")
        arrays = {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}
    return arrays, json.loads(arrays.pop("info").tobytes())


def _array(content: bytes) -> np.ndarray:
    """An array in NumPy's format, once its header is seen to claim no more than there is."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of it is of another version of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != len(content) - stream.tell():
        raise ValueError(f"an array of it claims {claimed} bytes, and has not as many")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
