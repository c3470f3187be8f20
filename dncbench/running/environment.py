"""What a record says about where it was made."""

import os
import platform
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("dncbench", "jax", "jaxlib", "numpy", "scipy", "blackjax", "equinox", "arviz-stats")


@cache
def describe() -> dict[str, Any]:
    """Versions, processor, cores and commit; plain JSON values."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(terse=True),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "commit": _commit(Path(__file__).resolve().parents[1]),
    }


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit(package: Path) -> str | None:
    """The commit of a source checkout, with ``+`` where files differ from it; None elsewhere.

    Methods and problems lie outside the package, behind symlinks: they are looked at as well.

    Args:
        package: folder of the package, itself no symlink.
    """
    sources = [package, (package / "methods").resolve(), (package / "problems").resolve()]

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True)

    try:
        tracked = git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "--short=12", "--verify", "HEAD")
        if tracked.returncode or commit.returncode:
            return None
        changed = git("diff", "--quiet", "HEAD", "--", *map(str, sources))
    except OSError:
        return None
    return commit.stdout.strip() + "+" * bool(changed.returncode)


class OtherLoad:
    """How many cores other work kept busy while this was open.

    A timing made beside other work says so in its record. Linux accounts CPU time
    in steps of 10 ms, so spans below half a second are not judged (``cores`` None).

    Attributes:
        cores: mean number of cores busy with anything but this process.
        seconds: how long it was open.
    """

    cores: float | None = None
    seconds: float = 0.0

    def __enter__(self) -> "OtherLoad":
        self._start = self._read()
        return self

    def __exit__(self, *error: object) -> None:
        wall, busy, own = (b - a for a, b in zip(self._start, self._read(), strict=True))
        self.seconds = wall
        if wall >= 0.5:
            self.cores = max(0.0, (busy - own) / wall)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        system = psutil.cpu_times()
        own = psutil.Process().cpu_times()
        busy = sum(system) - system.idle - getattr(system, "iowait", 0.0)
        # Linux counts a guest's time in user and nice already.
        busy -= getattr(system, "guest", 0.0) + getattr(system, "guest_nice", 0.0)
        return time.perf_counter(), busy, own.user + own.system
