"""Which records are of the present version of what they were made with."""

from typing import Any

from dncbench import registry
from dncbench.entry import Kind
from dncbench.storage.identity import Identity, identity_of, name_of, version_of


def current_ids(records: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """For each kind the present id of every name.

    That of the registry, or, for a plugin that is not loaded now, the newest recorded.
    """
    created: dict[Kind, dict[str, str]] = {
        kind: {} for kind in ("problem", "method", "correction", "metric")
    }
    for record in records:
        when = record["created"]
        for kind, _, each in _versions(identity_of(record)):
            created[kind][each] = max(when, created[kind].get(each, ""))
        of_metrics = created["metric"]
        for metric in record["metrics"]:
            if when > of_metrics.get(metric, ""):
                of_metrics[metric] = when
    current: dict[str, dict[str, str]] = {}
    for kind, known in created.items():
        # Of a plugin's sources under one version, the last that anybody ran.
        by_age = sorted(known, key=lambda each: (version_of(each), known[each], each))
        current[kind] = {name_of(each): each for each in by_age}
        current[kind] |= {entry.name: entry.id for entry in registry.entries(kind)}
    return current


def _versions(identity: Identity) -> list[tuple[Kind, str, str]]:
    """Kind, name and id of everything that a cell was made with."""
    method, *corrections = identity.method.parts
    return [
        ("problem", identity.problem.name, identity.problem.id),
        ("method", *method),
        *(("correction", *correction) for correction in corrections),
    ]


def is_current(identifier: str, current: dict[str, str]) -> bool:
    """Whether an id has the version that its name has now."""
    return current[name_of(identifier)] == identifier


def is_fresh(identity: Identity, current: dict[str, dict[str, str]]) -> bool:
    """Whether a cell's problem and method have the versions that their names have now."""
    return all(current[kind][name] == found for kind, name, found in _versions(identity))
