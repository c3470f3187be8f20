"""A signal ends a command at once and with a word; a closed pipe does not end it."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from handmade import copied_plugins

from dncbench.storage.records import Records

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="needs signals of threads"
)

ENDLESS = '''
import jax
import jax.numpy as jnp

from dncbench import Method, register_method


@register_method("endless")
class Endless(Method):
    """A compiled loop that never ends."""

    def fit(self, shard, key):
        return jax.lax.while_loop(lambda x: jnp.all(x < 1e9), jnp.cos, shard.values)

    def merge(self, messages, key, num_draws):
        return messages[0, :num_draws], {}
'''


@pytest.fixture(autouse=True)
def _heeded() -> Iterator[None]:
    """What is started from here heeds signals, even where these tests run under nohup."""
    before = {
        number: signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_IGN
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def process(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a folder, which is gone afterwards, come what may."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder) as run:
        try:
            yield run
        finally:
            run.kill()


def of_plugins(folder: Path, cache: Path, method: str) -> list[str]:
    """The command that runs a method on a problem of a plugin."""
    (folder / "endless.py").write_text(ENDLESS)
    plugins = [*copied_plugins(folder, "known"), "--plugin", str(folder / "endless.py")]
    command = [sys.executable, "-m", "dncbench", "run", *plugins, "--problem", "known"]
    command += ["--method", method, "--splits", "1", "--budget", "smoke"]
    return [*command, "--results", str(folder / "results"), "--cache", str(cache)]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_compiled_loop_with_a_word(
    name: str, tmp_path: Path, session_cache: Path
) -> None:
    number = getattr(signal, name)
    with process(of_plugins(tmp_path, session_cache, "endless"), tmp_path) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "split 0, endless" in line:
                break
        time.sleep(2)  # the loop is compiled meanwhile, or the signal comes before: both count
        run.send_signal(number)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert said.splitlines()[-1] == "stopped; what is recorded stays, repeat the command to go on"
    assert "Traceback" not in said


def test_a_signal_while_modules_are_imported_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "dncbench", "list"]
    with process(command, tmp_path) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.rstrip().endswith("click.core"):  # the command line is being imported
                break
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert "Traceback" not in said
    assert run.returncode in (0, 130)  # the list may have been quicker


def test_a_closed_pipe_ends_nothing(tmp_path: Path, session_cache: Path) -> None:
    with process(of_plugins(tmp_path, session_cache, "average"), tmp_path) as run:
        for stream in (run.stdout, run.stderr):
            assert stream is not None
            stream.close()
        assert run.wait(timeout=120) == 0
    (record,) = Records(tmp_path / "results")
    assert record["status"] == "ok"
