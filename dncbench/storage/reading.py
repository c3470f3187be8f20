"""Reading thousands of documents, and working on them."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Without looking for cycles, of which JSON has none, among all that was read so far.

    For reading itself, and for commands that end soon after it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
