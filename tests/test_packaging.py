"""The wheel holds every module of the source tree."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from handmade import REPOSITORY


@pytest.fixture(scope="module")
def tracked():
    """Files of the checkout, as git lists them."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout, to compare the wheel with what git lists")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and _there(REPOSITORY / name)]


def _there(path):
    return path.is_symlink() or path.exists()


@pytest.fixture(scope="module")
def wheel(tracked, tmp_path_factory):
    """Names in a wheel that is built from the tracked files alone."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target]
    done = subprocess.run([*command, source], cwd=target, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    (file,) = target.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def _installed_name(name):
    top = Path(name).parts[0]
    return f"dncbench/{name}" if top in ("methods", "problems") else name


def test_folders_of_methods_and_problems_are_relative_symlinks(tracked):
    for folder in ("methods", "problems"):
        assert f"dncbench/{folder}" in tracked
        link = REPOSITORY / "dncbench" / folder
        assert link.is_symlink()
        assert link.readlink() == Path("..") / folder


def test_wheel_holds_exactly_the_tracked_modules_and_tables(tracked, wheel):
    tops, kinds = ("dncbench", "methods", "problems"), (".py", ".toml", ".j2", ".css", ".js")
    expected = {
        _installed_name(name)
        for name in tracked
        if name.endswith(kinds) and Path(name).parts[0] in tops
    }
    assert {
        "dncbench/methods/consensus.py",
        "dncbench/problems/suites.toml",
        "dncbench/report/templates/page.html.j2",
    } < expected
    assert {name for name in wheel if name.endswith(kinds)} == expected


def test_wheel_is_marked_as_typed_and_has_the_console_script(wheel):
    assert "dncbench/py.typed" in wheel
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel)
    assert any("dist-info" in name and name.endswith("LICENSE") for name in wheel)
