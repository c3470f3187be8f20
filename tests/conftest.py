"""Shared fixtures: nothing a test does reaches the user's cache, results or the network.

All tests run strictly: shapes and types of dncbench's annotations are checked at run time, and
JAX refuses to broadcast over axes that nobody wrote.
"""

import atexit
import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("dncbench", "strictness.typechecker")  # before dncbench is imported
# pytest keeps the modules of tests, those of dncbench/contracts too: it rewrites their asserts.
sys.meta_path.insert(1, sys.meta_path.pop(0))

# One core for each worker: the threads of XLA, which wait busily for one another, would take those
# of the other workers for nothing.
if hasattr(os, "sched_setaffinity") and (worker := os.environ.get("PYTEST_XDIST_WORKER")):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
# What one process of this session has compiled the others load: workers and subprocesses
# inherit these from the first.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="dncbench-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

import dncbench.merging.run
from dncbench import plugins, registry
from dncbench.contracts.real_data import real_data_folder
from dncbench.merging.executors import Local
from dncbench.timing import forget_programs

MOST_MAPS = 20_000
"""Of the 65 530 that Linux allows a process; a group of tests adds some thousands."""

SLOW = {"contracts", "methods", "truth", "running", "report", "cli", "test_examples"}
"""Tests that come first, lest one worker be left alone with them at the end."""

# Timing each shard alone would compile a second program for every method.
dncbench.merging.run.EXECUTOR = Local(time_alone=False)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker takes all contracts of a method, whose programs are compiled once, or a module."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        method = parameters.get("method", parameters.get("name"))
        contract = item.path.parent.name == "contracts" and isinstance(method, str)
        group = method if contract else item.path.stem
        entry = parameters.get("entry")
        if isinstance(entry, registry.Entry) and entry.kind == "method":
            group = parameters["spec"]  # with its contracts, whose programs it runs
        # A name that ends with a bracket would be no group to xdist.
        item.add_marker(pytest.mark.xdist_group(group.translate({ord("["): "-", ord("]"): "-"})))
    items.sort(key=lambda item: SLOW.isdisjoint({item.path.parent.name, item.path.stem}))


def _group(item: pytest.Item) -> str:
    """What `pytest_collection_modifyitems` said about this test, before xdist renames it."""
    marker = item.get_closest_marker("xdist_group")
    assert marker is not None
    return str(marker.args[0])


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Compiled programs go before a worker runs out of memory maps, between two groups."""
    if nextitem is not None and _group(nextitem) != _group(item) and _memory_maps() > MOST_MAPS:
        forget_programs()


def _memory_maps() -> float:
    """How many this process has; infinity where the system does not say."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return float("inf")


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of draws and references for the whole session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_folders(session_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNCBENCH_CACHE", str(session_cache))
    monkeypatch.setenv("DNCBENCH_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone afterwards; what ships is imported before, and stays."""
    for kind in registry._PACKAGES:
        for entry in registry.entries(kind):
            importlib.import_module(entry.module)
    for kind, entries in registry._registered.items():
        monkeypatch.setitem(registry._registered, kind, dict(entries))
    monkeypatch.setattr(plugins, "_loaded", {})


@pytest.fixture(scope="session")
def spambase_data() -> Path:
    """The folder of the real data sets, where spambase is one of them."""
    return real_data_folder("spambase")
