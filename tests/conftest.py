"""Shared fixtures: nothing a test does reaches the user's cache, results or the network.

All tests run strictly: shapes and types of dncbench's annotations are checked at run time, and
JAX refuses to broadcast over axes that nobody wrote.
"""

import atexit
import gc
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="dncbench-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Programs are compiled in half the time, and run a little slower. The laws are the same; figures
# that are published were computed without these. A JAX that does not know a flag ends the process.
QUICKLY_COMPILED = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = QUICKLY_COMPILED
    asked = [sys.executable, "-c", "import jax; jax.devices()"]
    if subprocess.run(asked, capture_output=True).returncode:
        os.environ["XLA_FLAGS"] = ""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

import dncbench.merging.run
import dncbench.running.rescoring
import dncbench.running.run
from dncbench import plugins, registry
from dncbench.contracts.real_data import real_data_folder
from dncbench.entry import Entry
from dncbench.merging.executors import Local
from dncbench.shipped import PACKAGES
from dncbench.timing import forget_programs

MOST_MAPS = 40_000
"""Of the 65 530 that Linux allows a process; a group of tests adds some thousands."""

SLOW = {"contracts", "methods", "truth", "running", "report", "cli", "test_examples"}
"""Tests that come first, lest one worker be left alone with them at the end."""

# Tracing makes many objects that live; looking for cycles among all of them takes time for nothing.
gc.freeze()
gc.set_threshold(100_000, 20, 100)

# Timing each shard alone would compile a second program for every method.
dncbench.merging.run.EXECUTOR = Local(time_alone=False)


def _forget_if_many() -> None:
    """Drop compiled programs before the process runs out of memory maps, and no earlier."""
    try:
        maps = Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:  # the system does not say
        maps = MOST_MAPS + 1
    if maps > MOST_MAPS:
        forget_programs()


# The runs of two tests are of the same problem, as those of one command are not.
dncbench.running.run.forget_programs = _forget_if_many
dncbench.running.rescoring.forget_programs = _forget_if_many


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker takes all contracts of a method, whose programs are compiled once, or a module."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        method = parameters.get("method", parameters.get("name"))
        contract = item.path.parent.name == "contracts" and isinstance(method, str)
        group = method if contract else item.path.stem
        entry = parameters.get("entry")
        if isinstance(entry, Entry) and entry.kind == "method":
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
    """Between two groups, which share few programs."""
    if nextitem is not None and _group(nextitem) != _group(item):
        _forget_if_many()


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
    """What a test registers is gone afterwards."""
    forget_what_is_registered(monkeypatch)


@pytest.fixture(scope="module")
def module_registry() -> Iterator[None]:
    """What the tests of a module register is gone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        forget_what_is_registered(patch)
        yield


def forget_what_is_registered(patch: pytest.MonkeyPatch) -> None:
    """Take back, at the end of the patch, what was registered; what ships is imported and stays."""
    for kind in PACKAGES:
        for entry in registry.entries(kind):
            importlib.import_module(entry.module)
    for kind, entries in registry._registered.items():
        patch.setitem(registry._registered, kind, dict(entries))
    patch.setattr(plugins, "_loaded", {})


@pytest.fixture(scope="session")
def spambase_data() -> Path:
    """The folder of the real data sets, where spambase is one of them."""
    return real_data_folder("spambase")
