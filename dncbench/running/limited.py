"""Cells in a process beside this one, which is ended when a merge takes longer than it may.

A compiled program cannot be interrupted from within its process, and a merge may end the process
or use up its memory. Here that costs one cell: it is recorded, and a new process goes on.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from dncbench import plugins
from dncbench.errors import DncbenchError
from dncbench.running.progress import Progress


class Ended(NamedTuple):
    """A cell whose process was ended, or ended itself.

    Attributes:
        started: what its record had before it merged.
        status: "timeout" or "failed".
        reason: for the record.
        seconds: how long it had been merging.
    """

    started: dict[str, Any]
    status: str
    reason: str
    seconds: float


def beside(
    work: Callable[..., None],
    arguments: dict[str, Any],
    limit: float,
    progress: Progress,
    recorded: Callable[[dict[str, Any]], None],
) -> Ended | None:
    """Do work in a process of its own until it is done, or a merge of it is ended.

    Args:
        work: a function of a module, called with ``progress`` and the arguments.
        arguments: by name; they are pickled.
        limit: seconds that one merge may take, compilation and the timing of shards alone
            included.
        progress: told what the work tells.
        recorded: called with every record that was made.

    Returns:
        None, or the cell that was ended; what comes after it is left to be done.

    Raises:
        DncbenchError: the work raised it.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, plugins.loaded_files(), work, arguments))
    process.start()
    theirs.close()
    merging: dict[str, Any] | None = None
    since = 0.0
    try:
        while True:
            left = None if merging is None else max(0.0, since + limit - time.monotonic())
            if not ours.poll(left):
                assert merging is not None
                took = time.monotonic() - since
                reason = f"it was ended after {took:.3g} s; the limit is {limit:.3g} s"
                return Ended(merging, "timeout", reason, took)
            try:
                event, content = ours.recv()
            except EOFError:
                process.join()
                return _died(merging, process.exitcode, time.monotonic() - since)
            if event == "finished":
                return None
            if event == "raised":
                raise DncbenchError(content)
            if event == "merging":
                merging, since = content, time.monotonic()
            elif event == "done":
                merging = None
                recorded(content)
                progress.done(content)
            else:
                getattr(progress, event)(content)
    finally:
        process.kill()
        process.join()
        ours.close()


def _died(merging: dict[str, Any] | None, code: int | None, seconds: float) -> Ended:
    killed = code is not None and code < 0
    how = f"was killed by signal {-(code or 0)}" if killed else f"ended with exit code {code}"
    if merging is None:
        raise DncbenchError(f"the process that ran the cells {how} between two merges")
    why = "; was it out of memory?" if killed else ""
    return Ended(merging, "failed", f"the process that ran it {how}{why}", seconds)


class _Told:
    """Progress that is told in another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, event: str, content: Any) -> None:
        self._connection.send((event, content))

    def plan(self, units: float) -> None:
        self.send("plan", units)

    def say(self, what: str) -> None:
        self.send("say", what)

    def advance(self, units: float) -> None:
        self.send("advance", units)

    def merging(self, started: dict[str, Any]) -> None:
        self.send("merging", started)

    def done(self, record: dict[str, Any]) -> None:
        self.send("done", record)

    def note(self, text: str) -> None:
        self.send("note", text)


def _serve(
    connection: Connection, files: list[str], work: Callable[..., None], arguments: dict[str, Any]
) -> None:
    """The other process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    leave = os._exit  # which a merge may not call: it is another function meanwhile

    def follow() -> None:
        """Whoever ends the first process ends this one."""
        parent.join()
        leave(1)

    threading.Thread(target=follow, daemon=True).start()
    told = _Told(connection)
    try:
        for file in files:
            plugins.load_plugin(file)
        work(progress=told, **arguments)
        told.send("finished", None)
    except Exception as error:
        own = isinstance(error, DncbenchError)
        told.send("raised", str(error) if own else f"{type(error).__name__}: {error}")
