"""Noise floors: what each metric reads when merged draws are perfect."""

import itertools
from typing import Any

import numpy as np

from dncbench.metrics.sample import Sample, read
from dncbench.registry import Entry
from dncbench.storage.cache import Cache

VERSION = 2
"""Raised when the meaning of a floor changes; cached ones of another version are not used."""


def noise_floor(
    blocks: list[Sample],
    truth: Sample,
    metrics: list[Entry],
    identity: dict[str, Any],
    cache: Cache,
) -> dict[str, dict[str, float]]:
    """What each metric reads on independent sets of perfect draws of the same size.

    Sets of reference draws are read against one another; where the truth is an exact law
    and the metric reads it, each set is read against that.

    Args:
        blocks: the sets, as draws alone.
        truth: what merges are scored against.
        metrics: entries whose targets are imported.
        identity: of the problem, for the cache.
        cache: where the readings are kept.

    Returns:
        For each metric id its mean, sd and largest value over all readings; a
        metric that does not apply to the problem is left out.

    Raises:
        ContractError: a metric raised, or did not return a figure.
    """
    floors = {}
    for entry in metrics:
        cache_key = {
            "version": VERSION,
            "problem": identity,
            "metric": entry.id,
            "blocks": [len(blocks), *blocks[0].values.shape],
        }
        found = cache.get("floors", cache_key)
        if found is None:
            exact = truth.law is not None and "codes" in entry.reads
            pairs = [(block, truth) for block in blocks] if exact else _pairs(blocks)
            lenient = blocks[0].eta is None  # laws on few objects may have no covariance
            figures = [read(entry, *pair, lenient) for pair in pairs]
            values = [
                figure.value
                for figure in figures
                if figure is not None and (np.isfinite(figure.value) or not lenient)
            ]
            found = {"values": np.array(values)}, {}
            cache.put("floors", cache_key, *found)
        readings = found[0]["values"]
        if len(readings):
            floors[entry.id] = {
                "mean": float(np.mean(readings)),
                "sd": float(np.std(readings, ddof=1)),
                "max": float(np.max(readings)),
            }
    return floors


def _pairs(blocks: list[Sample]) -> list[tuple[Sample, Sample]]:
    return list(itertools.combinations(blocks, 2))
