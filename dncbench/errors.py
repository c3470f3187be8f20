"""The errors a user can meet. Each message names the culprit, the condition and the remedy."""

import difflib
from collections.abc import Iterable


class DncbenchError(Exception):
    """Base of every error raised on purpose; the command line prints it in one piece."""


class UnknownNameError(DncbenchError, LookupError):
    """A problem, method, metric, hyperparameter or split scheme that nobody registered."""


class ContractError(DncbenchError, TypeError):
    """A class that misses part of the contract it registers for, or a name taken twice."""


class PluginError(DncbenchError, ImportError):
    """A plugin file or entry point that cannot be imported."""


class DataError(DncbenchError, OSError):
    """A data set that cannot be had, or whose content is not what its source publishes."""


class StorageError(DncbenchError, OSError):
    """A file that cannot be written: no such place, no leave, no room, or no file at all."""


class DrawsError(DncbenchError, ValueError):
    """Draws that no merge can use: wrong shape, non-finite, too few, degenerate."""


class NotApplicableError(DncbenchError):
    """A method and a problem that do not go together; the cell records the reason."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean ...?"`` with the nearest known names, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""
