"""What the cache adds to a board: the certificate, the shape of the truth, draws to look at."""

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

from dncbench.errors import DncbenchError
from dncbench.report.features import Features, heterogeneity, largest_skew
from dncbench.report.grouping import Group
from dncbench.report.overlays import Overlay, overlays
from dncbench.store import Cache


@dataclass
class Kept:
    """Of one board.

    Attributes:
        description: the problem's docstring; empty where it is not registered here.
        source: of model and data, with the licence.
        num_observations: n.
        features: what the problem is like.
        certificate: of the reference.
        marginals, pair: drawings.
        split: that the drawings show.
        missing: what the page cannot show, and why.
    """

    description: str = ""
    source: str = ""
    num_observations: int | None = None
    features: Features = field(default_factory=Features)
    certificate: dict[str, Any] | None = None
    marginals: list[Overlay] = field(default_factory=list)
    pair: Overlay | None = None
    split: int = 0
    missing: list[str] = field(default_factory=list)


def read(group: Group, cache: Cache | None) -> Kept:
    """Collect what a board's problem and the cache say; nothing is sampled.

    Args:
        group: the board with its records.
        cache: of draws; None to build from records alone.
    """
    from dncbench.recall import Recall

    identity = group.identity
    shards = identity["problem"]["settings"].get("num_shards")
    try:
        recall = Recall(identity, cache or Cache())
    except DncbenchError as error:
        return Kept(features=Features(shards=shards), missing=[f"the problem: {error}"])
    problem = recall.problem
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
    split, methods = _shown(group, recall)
    if not methods:
        kept.missing.append("certificate, shape and overlays: the cache has no draws of these runs")
        return kept
    reference = recall.reference
    kept.num_observations = recall.num_observations
    if reference is None:
        kept.missing.append(f"certificate, shape and overlays: {recall.missing}")
        return kept
    kept.split, kept.certificate = split, reference.certificate
    truth = reference.blocks[0]
    values = recall.subposteriors(split)
    if values is None:
        kept.missing.append("the shards' spread: the cache has no subposterior draws")
    kept.features = replace(
        kept.features,
        skew=largest_skew(truth),
        heterogeneity=None if values is None else heterogeneity(values),
    )
    merged = {}
    for method, found in methods.items():
        draws = recall.merged(found)
        if draws is not None:
            merged[method] = draws
    kept.marginals, kept.pair = overlays(truth, merged, problem.parameter_names)
    without = [row.method for row in group.board.rows if row.scores and row.method not in merged]
    if without:
        kept.missing.append(f"overlays of {', '.join(without)}: not in the cache")
    return kept


def _shown(group: Group, recall: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    """The split whose merged draws the cache has of most methods, and their identities."""
    by_split: dict[int, dict[str, dict[str, Any]]] = {}
    for row in group.board.rows:
        for record in group.records[row.method]:
            identity = record["identity"]
            if recall.has_merged(identity):
                by_split.setdefault(identity["split"]["index"], {})[row.method] = identity
    if not by_split:
        return 0, {}
    split = max(sorted(by_split), key=lambda index: len(by_split[index]))
    return split, by_split[split]
