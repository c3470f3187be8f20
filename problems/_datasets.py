"""Getting real data sets, and refusing those whose content is not the published one.

Order: the folder that ``DNCBENCH_DATA`` names, the user's cache, a download from
the original public source. Whatever the way, the parsed array is checked; what was downloaded
is held to a checksum byte by byte before it is kept. A file in the cache that is refused is
deleted, so that the next try downloads it anew.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from dncbench.errors import DataError
from dncbench.problems._download import file_in_archive
from dncbench.storage.files import write_atomically


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from and what it must contain.

    Attributes:
        name: folder name under ``DNCBENCH_DATA`` and in the cache.
        file: the data file in that folder.
        url: the original source's zip archive.
        file_sha256: checksum of the data file in that archive, which may be packed anew.
        shape: rows and columns of the parsed array.
        array_sha256: checksum of the parsed array as little-endian float64, row by row.
        parse: reads the file into a (rows, columns) float64 array.
        stand_in: the synthetic problem to use where the data cannot be had; None without one.
        member: path of the file in the archive, where it is not ``file`` itself.
    """

    name: str
    file: str
    url: str
    file_sha256: str
    shape: tuple[int, int]
    array_sha256: str
    parse: Callable[[Path], np.ndarray]
    stand_in: str | None
    member: str | None = None

    def load(self) -> np.ndarray:
        """The checked array, (rows, columns) float64.

        Raises:
            DataError: not there and not to be downloaded, or not the published content.
        """
        path = self._find() or self._download()
        try:
            return self._checked(path)
        except DataError as error:
            if path.parent != data_cache() / self.name:
                raise  # somebody's own file
            with contextlib.suppress(OSError):
                path.unlink()
            raise DataError(f"{error}; it was deleted, the next try downloads it anew") from error

    def _checked(self, path: Path) -> np.ndarray:
        try:
            array = np.asarray(self.parse(path), dtype="<f8")
        except Exception as error:  # a file of another kind makes a parser raise anything
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{path} cannot be parsed: {reason}; {self._remedy()}") from error
        self._check(array, path)
        return array

    def _find(self) -> Path | None:
        override = os.environ.get("DNCBENCH_DATA")
        folders = [Path(override)] if override else []
        for folder in [*folders, data_cache()]:
            path = folder / self.name / self.file
            if path.is_file():
                return path
        return None

    def _download(self) -> Path:
        path = data_cache() / self.name / self.file
        try:
            content = file_in_archive(self.url, self.member or self.file, self.file_sha256)
        except Exception as error:  # what came may be anything, and so may what reading it raises
            override = os.environ.get("DNCBENCH_DATA")
            looked = [str(Path(override) / self.name)] if override else ["DNCBENCH_DATA (not set)"]
            reason = str(error).split("\n")[0][:160]
            raise DataError(
                f"the {self.name} data set is not here and could not be downloaded.\n"
                f"  looked in: {', '.join([*looked, str(path.parent)])}\n"
                f"  tried:     {self.url}\n"
                f"             {type(error).__name__}: {reason}; nothing of it was kept\n"
                f"  remedy:    {self._remedy()}"
                + (
                    f"\n  or:        use --problem {self.stand_in}, "
                    "a synthetic stand-in that needs no data"
                    if self.stand_in
                    else ""
                )
            ) from error
        write_atomically(path, content)
        return path

    def _check(self, array: np.ndarray, path: Path) -> None:
        if array.shape != self.shape:
            raise DataError(
                f"{path} has {' x '.join(map(str, array.shape))} values, "
                f"not {self.shape[0]} x {self.shape[1]}; {self._remedy()}"
            )
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        if digest != self.array_sha256:
            raise DataError(
                f"{path}: the parsed values differ from the published ones "
                f"(sha256 {digest[:12]}..., expected {self.array_sha256[:12]}...); shuffled rows "
                f"and edited cells are common in copies; {self._remedy()}"
            )

    def _remedy(self) -> str:
        return (
            f"put {self.file} from {self.url} into a folder {self.name}/ "
            "and set DNCBENCH_DATA to that folder's parent"
        )


def data_cache() -> Path:
    """The user's cache of downloaded data sets; ``DNCBENCH_CACHE`` moves it."""
    override = os.environ.get("DNCBENCH_CACHE")
    return Path(override or platformdirs.user_cache_dir("dncbench")) / "data"
