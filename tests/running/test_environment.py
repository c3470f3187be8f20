"""What a record says about where it was made: the commit, and what else the machine did."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dncbench.running import environment
from dncbench.running.environment import OtherLoad

TICKS = 0.01  # seconds: Linux accounts CPU time in such steps
BUSY = "print('started', flush=True)\nwhile True: pass"


def git(folder: Path, *arguments: str) -> str:
    """What git says, with nobody's own settings."""
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def scratch(folder: Path) -> Path:
    """A checkout with methods and problems outside the package, behind symlinks, as here."""
    package = folder / "package"
    for kind in ("methods", "problems"):
        (folder / kind / "deep").mkdir(parents=True)
        (folder / kind / "deep" / "some.py").write_text("first = 1\n")
    package.mkdir()
    (package / "__init__.py").write_text("")
    (folder / "README.md").write_text("read me\n")
    for kind in ("methods", "problems"):
        (package / kind).symlink_to(Path("..") / kind)
    git(folder, "init", "-q")
    return package


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package of a scratch repository with everything committed."""
    package = scratch(tmp_path)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "all")
    return package


# ---------------------------------------------------------------- the commit


def test_a_clean_checkout_is_named_by_its_commit(checkout: Path) -> None:
    assert environment._commit(checkout) == git(checkout, "rev-parse", "HEAD")[:12]


@pytest.mark.parametrize(
    "file", ["methods/deep/some.py", "problems/deep/some.py", "package/__init__.py"]
)
@pytest.mark.parametrize("staged", [False, True], ids=["edited", "staged"])
def test_an_edit_of_any_source_is_seen(checkout: Path, file: str, staged: bool) -> None:
    commit, root = environment._commit(checkout), checkout.parent
    committed = (root / file).read_text()
    (root / file).write_text("second = 2\n")
    if staged:
        git(root, "add", file)
    assert environment._commit(checkout) == f"{commit}+"
    (root / file).write_text(committed)
    git(root, "add", file)
    assert environment._commit(checkout) == commit


@pytest.mark.parametrize("kind", ["methods", "problems"])
def test_a_source_that_was_taken_away_is_missed(checkout: Path, kind: str) -> None:
    commit = environment._commit(checkout)
    (checkout.parent / kind / "deep" / "some.py").unlink()
    assert environment._commit(checkout) == f"{commit}+"


def test_what_is_no_source_does_not_count(checkout: Path) -> None:
    commit = environment._commit(checkout)
    (checkout.parent / "README.md").write_text("read me again\n")
    (checkout.parent / "results").mkdir()
    (checkout.parent / "results" / "record.json").write_text("{}")
    assert environment._commit(checkout) == commit


def test_what_git_does_not_know_has_no_commit(tmp_path: Path) -> None:
    package = scratch(tmp_path)
    assert environment._commit(package) is None
    git(tmp_path, "add", ".")
    assert environment._commit(package) is None  # nothing is committed yet
    (tmp_path / "installed").mkdir()
    git(tmp_path, "commit", "-q", "-m", "all")
    assert environment._commit(tmp_path / "installed") is None


def test_a_machine_without_git_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment._commit(checkout) is None


# ---------------------------------------------------------------- other work


def test_another_process_that_keeps_a_core_busy_is_measured() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            watched = psutil.Process(other.pid)
            with OtherLoad() as load:
                before = watched.cpu_times()
                time.sleep(2.0)
                after = watched.cpu_times()
        finally:
            other.kill()
    spent = after.user - before.user + after.system - before.system
    # Its own account says how much of a core it got on a machine that may be busy otherwise;
    # every one of the three readings is rounded to a tick for each core.
    assert spent > 0.1
    assert load.cores is not None
    rounding = 3 * TICKS * (psutil.cpu_count() or 1)
    assert load.cores * load.seconds >= spent - rounding


def test_what_this_process_does_is_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # Wall clock, busy seconds of all cores, and those of this process: 4 s of which 3 are own.
    readings = iter([(10.0, 100.0, 20.0), (12.0, 104.0, 23.0)])
    monkeypatch.setattr(OtherLoad, "_read", staticmethod(lambda: next(readings)))
    with OtherLoad() as load:
        pass
    assert (load.cores, load.seconds) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("wall", "own", "cores"), [(0.49, 0.0, None), (0.5, 0.0, 2.0), (0.5, 1.02, 0.0)]
)
def test_short_spans_are_not_judged_and_rounding_is_no_work(
    monkeypatch: pytest.MonkeyPatch, wall: float, own: float, cores: float | None
) -> None:
    readings = iter([(0.0, 0.0, 0.0), (wall, 1.0, own)])
    monkeypatch.setattr(OtherLoad, "_read", staticmethod(lambda: next(readings)))
    with OtherLoad() as load:
        pass
    assert (load.cores, load.seconds) == (cores, wall)
