"""The ``dncbench`` command: ``python -m dncbench``."""

import os
import signal
import sys
import threading
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_SHOW_CURSOR = "\x1b[?25h\r\n"


def main() -> None:
    """Run the command line; a signal ends it with a word, a closed pipe does not end it."""
    _end_with_a_word()
    sys.stdout, sys.stderr = _Unbroken(sys.stdout), _Unbroken(sys.stderr)
    from dncbench.cli import main as command

    command()


def _end_with_a_word() -> None:
    """End the process at once when it is told to, whatever it computes.

    A thread waits for the signals. Python's own handlers would have to wait until a compiled
    program returns, and an interpreter that is taken down while JAX's threads compute ends in a
    segmentation fault. Records are whole at any moment, so there is nothing to put in order.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return
    # What is ignored, by nohup or a shell that starts us in the background, stays ignored.
    numbers = {getattr(signal, name) for name in _SIGNALS}
    numbers = {number for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    # Threads that are started later inherit the mask, so that only ours is told.
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        number = signal.sigwait(numbers)
        word = "stopped; what is recorded stays, repeat the command to go on\n"
        try:
            # A progress bar hides the cursor.
            os.write(2, (_SHOW_CURSOR * os.isatty(2) + word).encode())
        finally:
            leave(128 + number)

    leave = os._exit  # which a merge may not call: it is another function meanwhile
    if numbers:
        threading.Thread(target=wait, name="signals", daemon=True).start()


class _Unbroken:
    """A stream that goes on, into nothing, where its reader has closed the pipe."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            self._into_nothing()
            return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._into_nothing()

    def _into_nothing(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._stream.fileno())
        os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    main()
