"""Methods that end the process or change it cost themselves, and nothing else."""

import os
import signal
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from handmade import copied_plugins, import_shipped

from dncbench.cli import main
from dncbench.errors import PluginError
from dncbench.plugins import load_plugin
from dncbench.running.run import run
from dncbench.storage.records import Records

METHODS = ["exits", "exits-hard", "generator-exit", "moves", "average"]


class Notes:
    """Keeps what a run says for good."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def plan(self, units: float) -> None: ...
    def say(self, what: str) -> None: ...
    def advance(self, units: float) -> None: ...
    def merging(self, started: dict) -> None: ...
    def done(self, record: dict) -> None: ...

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def plugins(tmp_path: Path, clean_registry) -> Path:
    import_shipped()
    for file in copied_plugins(tmp_path, "known", "misbehaving")[1::2]:
        load_plugin(file)
    return tmp_path


def test_every_planned_cell_has_a_record(
    plugins: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plugins)
    notes = Notes()
    common = {"splits": 1, "budget": "smoke", "cache": session_cache}
    (alone,) = run("known", ["average"], results="alone", **common)
    state = os.getcwd(), dict(os.environ), sys.path[:], sys.stdout, sys.getrecursionlimit()
    x64, errors, filters = jax.config.jax_enable_x64, np.geterr(), warnings.filters[:]
    handler = signal.getsignal(signal.SIGTERM)
    np.random.seed(5)  # noqa: NPY002
    run("known", METHODS, results="results", progress=notes, **common)
    assert np.random.random() == np.random.RandomState(5).random()  # noqa: NPY002
    assert state == (os.getcwd(), os.environ, sys.path, sys.stdout, sys.getrecursionlimit())
    assert (x64, errors, filters) == (jax.config.jax_enable_x64, np.geterr(), warnings.filters)
    assert handler is signal.getsignal(signal.SIGTERM)
    records = {
        record["identity"]["method"]["label"]: record for record in Records(plugins / "results")
    }
    assert {method: record["status"] for method, record in records.items()} == {
        "exits": "failed",
        "exits-hard": "failed",
        "generator-exit": "failed",
        "moves": "ok",
        "average": "ok",
    }
    assert records["average"]["metrics"] == alone["metrics"]
    assert "SystemExit(0)" in records["exits"]["reason"]
    assert "end of the process" in records["exits-hard"]["reason"]
    (said,) = [note for note in notes.lines if "put back" in note]
    for what in ("working folder", "environment", "JAX's", "NumPy's", "signals", "standard"):
        assert what in said
    # A failed cell is told by the exit code too.
    command = ["run", "--problem", "known", "--method", "exits", "--splits", "1"]
    command += ["--budget", "smoke", "--results", "results", "--cache", str(session_cache)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1


def test_a_plugin_that_exits_or_reconfigures_on_import_is_told(
    tmp_path: Path, clean_registry, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "quits.py"
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(PluginError, match=r"quits.py.*SystemExit\(0\)"):
        load_plugin(file)
    file = tmp_path / "single.py"
    file.write_text("import jax\njax.config.update('jax_enable_x64', False)\n")
    load_plugin(file)
    assert jax.config.jax_enable_x64
    assert "JAX's configuration changed meanwhile; put back" in capsys.readouterr().err


def test_a_failure_never_replaces_figures(
    plugins: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, notes = plugins / "results", Notes()
    common = {"splits": 1, "budget": "smoke", "results": results, "cache": session_cache}
    run("known", ["average"], **common)
    before = {path: path.read_bytes() for path in results.rglob("*.json")}

    def fail(*arguments: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr("dncbench.running.cells.run_method", fail)
    (failed,) = run("known", ["average"], force=True, progress=notes, **common)
    assert failed["status"] == "failed"
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before
    assert any("the earlier record, with figures, stays" in note for note in notes.lines)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_results_that_cannot_be_written_are_found_before_the_sampling(
    plugins: Path, session_cache: Path
) -> None:
    notes = Notes()
    with pytest.raises(OSError, match=r"/proc/.*/results/.* cannot be written"):
        run("known", ["average"], budget="smoke", results="/proc/self/results", progress=notes)
    assert notes.lines == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_a_cache_that_cannot_be_written_costs_no_figures(
    plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = run(
        "known",
        ["average"],
        splits=1,
        budget="smoke",
        results=plugins / "results",
        cache="/proc/self/cache",
    )
    assert record["status"] == "ok"
    assert capsys.readouterr().err.count("/proc/self/cache keeps nothing") >= 1
    assert len(list(Records(plugins / "results"))) == 1


ENDLESS = '''
import os
import signal
import time

import jax
import jax.numpy as jnp

from dncbench import Method, register_method


class _Untraced(Method):
    untraced = frozenset({"finish"})

    def fit(self, shard, key):
        return shard.values


@register_method("endless")
class Endless(_Untraced):
    """A compiled loop that never ends: nothing in its process can stop it."""

    def merge(self, messages, key, num_draws):
        turned = jax.jit(lambda x: jax.lax.while_loop(lambda x: x < 2.0, jnp.cos, x))
        return turned(jnp.array(0.5)), {}


@register_method("killed")
class Killed(_Untraced):
    """Killed from outside, as by a system that is out of memory."""

    def merge(self, messages, key, num_draws):
        os.kill(os.getpid(), signal.SIGKILL)
'''


def test_a_merge_over_its_time_is_ended_and_the_others_go_on(
    tmp_path: Path, session_cache: Path, clean_registry
) -> None:
    import_shipped()
    (tmp_path / "endless.py").write_text(ENDLESS)
    for file in [*copied_plugins(tmp_path, "known")[1::2], tmp_path / "endless.py"]:
        load_plugin(file)
    common = {"splits": 2, "budget": "smoke", "cache": session_cache}
    (alone, _) = run("known", ["average"], results=tmp_path / "alone", **common)
    made = run(
        "known",
        ["endless", "killed", "average"],
        results=tmp_path / "results",
        time_limit=12.0,
        force=True,
        **common,
    )
    told = {
        (record["identity"]["method"]["label"], record["identity"]["split"]["index"]): record
        for record in Records(tmp_path / "results")
    }
    assert len(made) == len(told) == 6
    assert {cell: record["status"] for cell, record in told.items()} == {
        ("endless", 0): "timeout",
        ("endless", 1): "timeout",
        ("killed", 0): "failed",
        ("killed", 1): "failed",
        ("average", 0): "ok",
        ("average", 1): "ok",
    }
    assert "ended after 12" in told["endless", 0]["reason"]
    assert "an earlier split took" in told["endless", 1]["reason"]
    assert "killed by signal 9" in told["killed", 0]["reason"]
    assert told["average", 0]["metrics"] == alone["metrics"]
