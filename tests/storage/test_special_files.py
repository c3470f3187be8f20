"""What is no regular file is neither waited for nor replaced, wherever a file is expected."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import record

from dncbench.cli import main
from dncbench.errors import StorageError
from dncbench.report.publish import BEGIN, END
from dncbench.storage.cache import Cache
from dncbench.storage.files import write_atomically
from dncbench.storage.identity import identity_of
from dncbench.storage.merge_results import merge_results
from dncbench.storage.records import Records, read_record

KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "dangling link": lambda path: path.symlink_to(path.parent / "nothing"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "too large": lambda path: path.write_bytes(b" " * 1_000_001),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_no_record_and_costs_no_other(tmp_path, capsys, kind) -> None:
    store = Records(tmp_path / "ours")
    path = store.put(record()).parent / "special.json"
    KINDS[kind](path)
    assert [identity_of(each) for each in store] == [identity_of(record())]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dncbench: {path} is left out: ")
    into = Records(tmp_path / "into")
    assert len(merge_results(store.root, into).added) == 1
    assert len(list(into)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_of_a_record_it_is_no_record(tmp_path, kind) -> None:
    store = Records(tmp_path)
    path = store.path(identity_of(record()))
    path.parent.mkdir(parents=True)
    KINDS[kind](path)
    assert store.get(identity_of(record())) is None


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_of_a_cache_entry_it_is_set_aside(tmp_path, capsys, kind) -> None:
    cache, key = Cache(tmp_path), {"a": 1}
    path = cache.path("draws", key)
    path.parent.mkdir()
    for _ in range(2):  # what was set aside before is in nobody's way
        KINDS[kind](path)
        assert cache.get("draws", key) is None
        (line,) = capsys.readouterr().err.splitlines()
        assert "set aside as" in line
        assert not os.path.lexists(path)


def test_a_link_to_a_record_is_read(tmp_path) -> None:
    store = Records(tmp_path)
    path = store.put(record())
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    assert read_record(path) is not None


def test_a_folder_that_cannot_be_listed_is_told_of(tmp_path, capsys) -> None:
    (tmp_path / "records").write_text("a file")
    assert list(Records(tmp_path)) == []
    assert "records is left out: " in capsys.readouterr().err


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device"])
def test_writing_replaces_nothing_but_files(tmp_path, kind) -> None:
    path = tmp_path / "special"
    KINDS[kind](path)
    before = os.lstat(path)
    with pytest.raises(StorageError, match="which no file may replace; name another place"):
        write_atomically(path, b"new")
    assert os.lstat(path) == before
    assert os.listdir(tmp_path) == ["special"]


def test_writing_goes_through_a_link(tmp_path) -> None:
    (tmp_path / "inner").mkdir()
    target, link = tmp_path / "inner" / "target", tmp_path / "link"
    link.symlink_to(target)  # dangles at first
    for content in (b"one", b"two"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.parametrize("path", ["file/inside", "x" * 300, "loop", "/proc/new/file", "zero\0byte"])
def test_what_cannot_be_written_is_one_error_that_names_it(tmp_path, path) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError) as raised:
        write_atomically(tmp_path / path, b"new")
    assert str(raised.value).startswith(f"{tmp_path / path} cannot be written: ")
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path) -> None:
    left = tmp_path / ".dncbench-killed.part"
    left.write_bytes(b"half")
    write_atomically(tmp_path / "file", b"whole")
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_living_writer_has_open_stays(tmp_path) -> None:
    busy = tmp_path / ".dncbench-busy.part"
    old = time.time() - 86_400
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(busy, (old, old))
        write_atomically(tmp_path / "file", b"whole")
        assert busy.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--results", "x" * 5000],
        ["score", "--metric", "mah", "--results", "x" * 5000],
        ["leaderboard", "--plugin", "x" * 5000],
        ["compare", "x" * 5000, "x" * 5000],
        ["merge-results", "x" * 5000, "--results", "."],
    ],
)
def test_a_name_that_is_too_long_is_an_error_of_one_line(tmp_path, monkeypatch, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert isinstance(done.exception, SystemExit)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_with_a_name_that_is_too_long_has_nothing(tmp_path) -> None:
    cache = Cache(tmp_path / ("x" * 5000))
    assert not cache.has("draws", {"a": 1})
    assert cache.get("draws", {"a": 1}) is None


UNFIT = KINDS | {
    "binary": lambda path: path.write_bytes(b"\xff"),
    "for more than one problem": lambda path: path.write_text(f"{BEGIN}\n{END}\n"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_in_place_of_a_readme_it_is_refused_before_anything_is_written(tmp_path, kind) -> None:
    store, readme = Records(tmp_path / "ours"), tmp_path / "README.md"
    store.put(record(budget="quick"))
    UNFIT[kind](readme)
    arguments = ["publish", "--results", str(store.root), "--readme", str(readme)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert [path.name for path in store.root.iterdir()] == ["records"]
