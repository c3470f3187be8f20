"""A content-addressed cache of arrays: draws, references, noise floors."""

import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from dncbench.storage.files import canonical, digest, write_atomically


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
