"""Getting real data sets, and refusing those whose content is not the published one.

Order: the folder that ``DNCBENCH_DATA`` names, the user's cache, a download from
the original public source. Whatever the way, the parsed array is checked.
"""

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from dncbench.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from and what it must contain.

    Attributes:
        name: folder name under ``DNCBENCH_DATA`` and in the cache.
        file: the data file in that folder.
        url: the original source's zip archive.
        archive_sha256: checksum of that archive; None where it is packed anew now and then.
        shape: rows and columns of the parsed array.
        array_sha256: checksum of the parsed array as little-endian float64, row by row.
        parse: reads the file into a (rows, columns) float64 array.
        stand_in: the synthetic problem to use where the data cannot be had; None without one.
        member: path of the file in the archive, where it is not ``file`` itself.
    """

    name: str
    file: str
    url: str
    archive_sha256: str | None
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
            array = np.asarray(self.parse(path), dtype="<f8")
        except ValueError as error:
            raise DataError(f"{path} cannot be parsed: {error}; {self._remedy()}") from error
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
        import pooch

        folder = data_cache() / self.name
        try:
            archive = pooch.retrieve(
                self.url,
                known_hash=self.archive_sha256 and f"sha256:{self.archive_sha256}",
                path=folder,
                fname=f"{self.name}.zip",
                progressbar=False,
            )
            with zipfile.ZipFile(archive) as opened:
                content = opened.read(self.member or self.file)
        # pooch raises ValueError on a wrong checksum; requests' errors are OSErrors.
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            override = os.environ.get("DNCBENCH_DATA")
            looked = [str(Path(override) / self.name)] if override else ["DNCBENCH_DATA (not set)"]
            reason = str(error).split("\n")[0][:160]
            raise DataError(
                f"the {self.name} data set is not here and could not be downloaded.\n"
                f"  looked in: {', '.join([*looked, str(folder)])}\n"
                f"  tried:     {self.url}\n"
                f"             {type(error).__name__}: {reason}\n"
                f"  remedy:    {self._remedy()}"
                + (
                    f"\n  or:        use --problem {self.stand_in}, "
                    "a synthetic stand-in that needs no data"
                    if self.stand_in
                    else ""
                )
            ) from error
        part = folder / f"{self.file}.part"
        part.write_bytes(content)
        part.replace(folder / self.file)
        return folder / self.file

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
