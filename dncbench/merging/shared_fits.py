"""Fits that several methods start from, made once.

Methods that differ only in how they merge the same messages are compared by giving them the
same messages. Where their ``shared_fit`` is equal, the shards of a split are asked once for all of
them, with a random key of the fit's own: it does not matter which of the methods comes first, or
alone.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from jaxtyping import PRNGKeyArray

from dncbench.merging.executors import Asked


class Load(Protocol):
    """How many cores other work kept busy; None where nobody knows."""

    cores: float | None


class _Fit(NamedTuple):
    asked: Asked
    other_load: float | None


class SharedFits:
    """What the shards of one split answered.

    Args:
        key_of: the random key of a fit.
        other_load: measures while it is open.
    """

    def __init__(
        self,
        key_of: Callable[[Hashable], PRNGKeyArray],
        other_load: Callable[[], AbstractContextManager[Load]],
    ) -> None:
        self._key_of, self._other_load = key_of, other_load
        self._made: dict[Hashable, _Fit] = {}

    def ask(self, fit: Hashable, ask: Callable[[PRNGKeyArray], Asked]) -> Asked:
        """What the shards answered before, or answer now.

        The seconds are those of the first time; nothing is compiled another time.
        """
        if fit in self._made:
            return self._made[fit].asked._replace(compile=0.0)
        with self._other_load() as other:
            asked = ask(self._key_of(fit))
        self._made[fit] = _Fit(asked, other.cores)
        return asked

    def other_load(self, fit: Hashable) -> float | None:
        """Cores that other work kept busy while a fit was made; None where it was not."""
        return self._made[fit].other_load if fit in self._made else None
