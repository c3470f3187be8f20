"""A signal ends a command at once and with a word; a closed pipe does not end it."""

import signal
import subprocess
import sys
import time
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


def started(folder: Path, cache: Path, method: str) -> subprocess.Popen[str]:
    """A run of a plugin in a process of its own, in which signals are not ignored."""
    (folder / "endless.py").write_text(ENDLESS)
    plugins = [*copied_plugins(folder, "known"), "--plugin", str(folder / "endless.py")]
    command = [sys.executable, "-m", "dncbench", "run", *plugins, "--problem", "known"]
    command += ["--method", method, "--splits", "1", "--budget", "smoke"]
    command += ["--results", str(folder / "results"), "--cache", str(cache)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_compiled_loop_with_a_word(
    name: str, tmp_path: Path, session_cache: Path
) -> None:
    run = started(tmp_path, session_cache, "endless")
    assert run.stderr is not None
    for line in run.stderr:
        if "split 0, endless" in line:
            break
    time.sleep(2)  # the loop is compiled meanwhile, or the signal comes while it is: both count
    number = getattr(signal, name)
    run.send_signal(number)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert said.splitlines()[-1] == "stopped; what is recorded stays, repeat the command to go on"
    assert "Traceback" not in said


def test_a_signal_while_modules_are_imported_prints_no_traceback(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "dncbench", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert run.stderr is not None
    for line in run.stderr:
        if line.rstrip().endswith("click.core"):  # the command line is being imported
            break
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert "Traceback" not in said
    assert run.returncode in (0, 130)  # the list may have been quicker


def test_a_closed_pipe_ends_nothing(tmp_path: Path, session_cache: Path) -> None:
    run = started(tmp_path, session_cache, "average")
    for stream in (run.stdout, run.stderr):
        assert stream is not None
        stream.close()
    assert run.wait(timeout=120) == 0
    (record,) = Records(tmp_path / "results")
    assert record["status"] == "ok"
