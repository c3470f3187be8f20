"""Noise floors: what each metric reads when merged draws are perfect."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dncbench.errors import DncbenchError
from dncbench.metrics.sample import Sample, read
from dncbench.registry import Entry
from dncbench.storage.cache import Cache
from dncbench.storage.contents import NOISE_FLOOR

VERSION = 2
"""Raised when the meaning of a floor changes; cached ones of another version are not used."""


class Floors(NamedTuple):
    """The noise floors of a problem.

    Attributes:
        levels: for each metric id its mean, sd and largest value over all readings; a
            metric that does not apply to the problem is left out.
        failed: for each metric id that cannot be read on perfect draws, the reason.
    """

    levels: dict[str, dict[str, float]]
    failed: dict[str, str]


def noise_floor(
    blocks: list[Sample],
    truth: Sample,
    metrics: list[Entry],
    identity: dict[str, Any],
    cache: Cache,
    note: Callable[[str], None] = lambda line: None,
) -> Floors:
    """What each metric reads on independent sets of perfect draws of the same size.

    Sets of reference draws are read against one another; where the truth is an exact law
    and the metric reads it, each set is read against that. A metric that fails costs its own
    floor alone.

    Args:
        blocks: the sets, as draws alone.
        truth: what merges are scored against.
        metrics: entries whose targets are imported.
        identity: of the problem, for the cache.
        cache: where the readings are kept.
        note: told in a line what could not be read.
    """
    levels, failed = {}, {}
    for entry in metrics:
        try:
            readings = _readings(entry, blocks, truth, identity, cache)
            if len(readings):
                levels[entry.id] = _level(readings)
        except (DncbenchError, ValueError) as error:
            failed[entry.id] = f"on perfect draws: {error}"
            told = f"metric {entry.id} of {entry.module} is left out of {identity['id']}"
            note(f"{told}; {failed[entry.id]}")
    return Floors(levels, failed)


def _readings(
    entry: Entry,
    blocks: list[Sample],
    truth: Sample,
    identity: dict[str, Any],
    cache: Cache,
) -> Float[np.ndarray, " readings"]:
    """From the cache, or read now; none where the metric does not apply.

    Raises:
        DncbenchError: the metric failed.
    """
    cache_key = {
        "version": VERSION,
        "problem": identity,
        "metric": entry.id,
        "blocks": [len(blocks), *blocks[0].values.shape],
    }
    found = cache.get("floors", cache_key, lambda arrays, info: _require_readings(arrays))
    if found is not None:
        return found[0]["values"]
    exact = truth.law is not None and "codes" in entry.reads
    pairs = [(block, truth) for block in blocks] if exact else itertools.combinations(blocks, 2)
    lenient = blocks[0].eta is None  # laws on few objects may have no covariance
    figures = [read(entry, *pair, lenient) for pair in pairs]
    values = [
        figure.value
        for figure in figures
        if figure is not None and (np.isfinite(figure.value) or not lenient)
    ]
    arrays = {"values": np.array(values, np.float64)}
    if np.all(np.isfinite(values)):
        cache.put("floors", cache_key, arrays, {})
    return arrays["values"]


def _require_readings(arrays: dict[str, np.ndarray]) -> None:
    values = arrays["values"]
    if values.ndim != 1 or values.dtype != np.float64 or not np.all(np.isfinite(values)):
        raise ValueError("its readings are not finite numbers in a row")


def _level(readings: Float[np.ndarray, " readings"]) -> dict[str, float]:
    """What a record says of the readings.

    Raises:
        ValueError: it is nothing that a record can say.
    """
    with np.errstate(all="ignore"):
        level = {
            "mean": float(np.mean(readings)),
            "sd": float(np.std(readings, ddof=1)),
            "max": float(np.max(readings)),
        }
    NOISE_FLOOR.check(level)
    return level
