"""Who is held to the laws: everything that is registered, or a choice of it."""

from dncbench import registry
from dncbench.entry import Entry, Kind

_chosen: set[tuple[Kind, str]] | None = None


def choose(entries: set[tuple[Kind, str]] | None) -> None:
    """Hold only these (kind, name) to the laws; everything for None."""
    global _chosen
    _chosen = entries


def subjects(kind: Kind) -> list[Entry]:
    """The entries of a kind that are held to the laws."""
    return [
        entry
        for entry in registry.entries(kind)
        if _chosen is None or (kind, entry.name) in _chosen
    ]


def everything() -> bool:
    """Whether all that is registered is held to the laws."""
    return _chosen is None
