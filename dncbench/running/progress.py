"""What a run tells its display."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """What a run tells its display; every method may do nothing."""

    def plan(self, units: float) -> None:
        """So much work lies ahead, in units of one merge."""

    def say(self, what: str) -> None:
        """This is being done now."""

    def advance(self, units: float) -> None:
        """So much work is done."""

    def merging(self, started: dict[str, Any]) -> None:
        """The merge of a cell begins, with this much of its record; all has been sampled."""

    def done(self, record: dict[str, Any]) -> None:
        """A cell was run; it is one unit of work."""

    def note(self, text: str) -> None:
        """A line worth keeping on the screen."""


class Silent:
    """Progress that is not shown."""

    def plan(self, units: float) -> None:
        """Nothing."""

    def say(self, what: str) -> None:
        """Nothing."""

    def advance(self, units: float) -> None:
        """Nothing."""

    def merging(self, started: dict[str, Any]) -> None:
        """Nothing."""

    def done(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
