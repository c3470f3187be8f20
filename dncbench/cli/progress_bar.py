"""Progress on stderr, with the time that is left."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from dncbench.cli.terminal import console


@contextlib.contextmanager
def progress() -> Iterator["ProgressBar"]:
    """A progress bar on stderr for the time of a run."""
    bar = ProgressBar()
    with bar.bar:
        yield bar


class ProgressBar:
    """Progress on stderr, with the time that is left; see :mod:`dncbench.running.progress`."""

    def __init__(self) -> None:

        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._clock = time.perf_counter
        self._start = self._clock()
        self.recorded: list[dict[str, Any]] = []
        shown = console(stderr=True)
        self.bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=shown,
            transient=True,
            disable=not shown.is_terminal,
        )
        self._task = self.bar.add_task("starting", total=None)

    @property
    def seconds(self) -> float:
        """Since the bar was made."""
        return self._clock() - self._start

    @property
    def failed(self) -> int:
        """How many of the cells run failed."""
        return sum(record["status"] == "failed" for record in self.recorded)

    def plan(self, units: float) -> None:
        """So much work lies ahead."""
        self.bar.update(self._task, total=units or None)

    def say(self, what: str) -> None:
        """Show what is being done: on the bar, or as a line where there is no terminal."""
        self.bar.update(self._task, description=what)
        if not self.bar.console.is_terminal:
            self.note(f"{self.bar.tasks[0].percentage:3.0f}% {self.seconds:5.0f} s  {what}")

    def advance(self, units: float) -> None:
        """So much work is done."""
        self.bar.advance(self._task, units)

    def merging(self, started: dict[str, Any]) -> None:
        """The merge of a cell begins; the line that says so is there already."""

    def done(self, record: dict[str, Any]) -> None:
        """A cell was run."""
        self.recorded.append(record)
        self.advance(1)

    def note(self, text: str) -> None:
        """Print a line above the bar; it stays."""
        self.bar.console.print(text, markup=False)
