"""What the cache adds to a board: the certificate, the shape of the truth, draws to look at."""

import inspect
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dncbench.draws import Check
from dncbench.errors import DncbenchError
from dncbench.report.cells import command, num_splits
from dncbench.report.features import Features, heterogeneity, largest_skew
from dncbench.report.grouping import Group
from dncbench.report.laws import Laws, read_laws
from dncbench.report.overlays import Overlay, overlays
from dncbench.running.cached import Cached
from dncbench.space import Codes
from dncbench.storage.cache import Cache
from dncbench.storage.identity import identity_of


@dataclass
class Kept:
    """Of one board.

    Attributes:
        description: the problem's docstring; empty where it is not registered here.
        source: of model and data, with the licence.
        num_observations: n.
        features: what the problem is like.
        checks: of the reference's certificate.
        marginals, pair: drawings, of points.
        laws: drawings, of objects whose true law is known.
        split: that the drawings show.
        missing: what the page cannot show, and why.
    """

    description: str = ""
    source: str = ""
    num_observations: int | None = None
    features: Features = field(default_factory=Features)
    checks: list[Check] = field(default_factory=list)
    marginals: list[Overlay] = field(default_factory=list)
    pair: Overlay | None = None
    laws: Laws | None = None
    split: int = 0
    missing: list[str] = field(default_factory=list)


def read(group: Group, cache: Cache | None) -> Kept:
    """Collect what a board's problem and the cache say; nothing is sampled.

    Args:
        group: the board with its records.
        cache: of draws; None to build from records alone.
    """
    shards = group.record["settings"]["problem"].get("num_shards")
    try:
        cached = Cached(group.record, cache or Cache())
    except DncbenchError as error:
        return Kept(features=Features(shards=shards), missing=[f"the problem: {error}"])
    problem = cached.problem
    kept = Kept(
        description=inspect.getdoc(type(problem)) or "",
        source=problem.source,
        features=Features(
            dim=problem.dim,
            shards=problem.num_shards,
            modes=1 if problem.permutations is None else len(problem.permutations),
            constrained=problem.is_constrained(),
        ),
    )
    if cache is None:
        kept.missing.append("certificate, shape and overlays: built from records alone")
        return kept
    split, methods = _shown(group, cached)
    if not methods:
        kept.missing.append("certificate, shape and overlays: the cache has no draws of these runs")
        return kept
    reference = cached.reference
    kept.num_observations = cached.num_observations
    if reference is None:
        kept.missing.append(f"certificate, shape and overlays: {cached.missing}")
        return kept
    kept.split, kept.checks = split, reference.checks
    if isinstance(cached.space, Codes):
        _add_laws(kept, group, cached, methods)
        return kept
    truth = reference.embedded[0]
    values = cached.subposteriors(split)
    if values is None:
        kept.missing.append("the shards' spread: the cache has no subposterior draws")
    kept.features = replace(
        kept.features,
        skew=largest_skew(truth),
        heterogeneity=heterogeneity(values) if values is not None and values.ndim == 3 else None,
    )
    merged = {}
    for method, found in methods.items():
        draws = cached.merged(found)
        if draws is not None:
            merged[method] = draws
    kept.marginals, kept.pair = overlays(truth, merged, problem.space.names)
    _say_missing(kept, group, "overlays of", _without(group, merged))
    return kept


def _add_laws(kept: Kept, group: Group, cached: Cached, methods: dict[str, dict[str, Any]]) -> None:
    """Of objects; densities of their coordinates would be smooth where nothing is."""
    truth = cached.reference.log_probs if cached.reference else None
    if truth is None or truth.shape != (getattr(cached.space, "size", None),):
        kept.missing.append("laws: the true probabilities of all objects are not known")
        return
    kept.laws, lost = read_laws(cached, methods, np.exp(truth), kept.split)
    _say_missing(kept, group, "laws of", _without(group, kept.laws.merged))
    _say_missing(kept, group, "client by client:", lost)


def _without(group: Group, merged: Collection[str]) -> list[str]:
    return [row.method for row in group.board.rows if row.scores and row.method not in merged]


def _say_missing(kept: Kept, group: Group, what: str, methods: list[str]) -> None:
    """Say what the cache does not have, and the command that makes it anew."""
    if not methods:
        return
    records = [record for method in methods for record in group.records[method]]
    again = command([identity_of(record) for record in records], num_splits(records))
    kept.missing.append(
        f"{what} {', '.join(methods)}: not in the cache, made anew by: {again} --force"
    )


def _shown(group: Group, cached: Cached) -> tuple[int, dict[str, dict[str, Any]]]:
    """The split whose merged draws the cache has of most methods, and their records.

    Of the problem that was looked up alone: repetitions of it have other references.
    """
    shown = identity_of(group.record).problem
    by_split: dict[int, dict[str, dict[str, Any]]] = {}
    for row in group.board.rows:
        for record in group.records[row.method]:
            if identity_of(record).problem == shown and cached.has_merged(record):
                by_split.setdefault(identity_of(record).split, {})[row.method] = record
    if not by_split:
        return 0, {}
    split = max(sorted(by_split), key=lambda index: len(by_split[index]))
    return split, by_split[split]
