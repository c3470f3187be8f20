"""A run that is killed loses at most the cell in flight, and goes on to the same figures."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from handmade import copied_plugins

from dncbench.plugins import load_plugin
from dncbench.running.run import run
from dncbench.storage.records import Records

METHODS = ["average", "consensus", "median", "oracle"]
SPLITS = 2
DEADLINE = 300  # seconds


def _figures(root):
    return {
        json.dumps(record["identity"], sort_keys=True): (record["status"], record["metrics"])
        for record in Records(root)
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, session_cache, module_registry):
    """Figures of a run in this process, with a cache of its own."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    for file in copied_plugins(folder, "known", "median")[1::2]:
        load_plugin(file)
    run("known", METHODS, splits=SPLITS, budget="smoke", results=folder, cache=session_cache)
    return _figures(folder)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The folder and records of a run that was killed, and what the next one said."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "dncbench", "run", "--problem", "known", "--budget", "smoke"]
    command += [*copied_plugins(folder, "known", "median"), "--splits", str(SPLITS)]
    command += ["--results", str(folder / "results"), "--cache", str(folder / "cache")]
    for method in METHODS:
        command += ["--method", method]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        until = time.monotonic() + DEADLINE
        try:
            while not list((folder / "results").rglob("*.json")):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, "no record in time"
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    killed = {path: path.read_bytes() for path in (folder / "results").rglob("*.json")}
    parts = [path for path in (folder / "results").rglob(".*") if path.is_file()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    return folder / "results", process.returncode, killed, parts, done


def test_killed_run_leaves_whole_records_only(resumed):
    _, returncode, killed, parts, _ = resumed
    assert returncode == -signal.SIGKILL
    assert 1 <= len(killed) < len(METHODS) * SPLITS
    for content in killed.values():
        record = json.loads(content)
        assert record["status"] == "ok"
        assert set(record) >= {"schema", "identity", "metrics", "seconds", "environment"}
    assert len(parts) <= 1


def test_resumed_run_skips_what_was_recorded_and_completes(resumed):
    results, _, killed, _, done = resumed
    assert done.returncode == 0, done.stderr[-500:]
    left = len(METHODS) * SPLITS - len(killed)
    assert f"{left} cells run, {len(killed)} skipped" in done.stdout
    assert len(list(Records(results))) == len(METHODS) * SPLITS
    for path, content in killed.items():
        assert path.read_bytes() == content, os.path.basename(path)


def test_resumed_run_has_the_figures_of_an_uninterrupted_one(resumed, uninterrupted):
    figures = _figures(resumed[0])
    assert figures.keys() == uninterrupted.keys()
    assert len(figures) == len(METHODS) * SPLITS
    for cell, expected in uninterrupted.items():
        assert figures[cell] == expected, cell
