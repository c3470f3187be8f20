"""Noise floors: what each metric reads when merged draws are perfect.

Readings are between two disjoint random subsets of the reference's draws, one partition of the
pool after another: of metrics that decide ranks until the mean of the readings is known, of
others, some of which take seconds, as often as the blocks have pairs. Given the pool, partitions
are independent, and the differences of two pairs of subsets of one partition are uncorrelated:
to first order the readings are independent, and their mean has the standard error sd / √readings.
How much the pool is worth does not matter, as its own error is common to both subsets.

What is read of one sample alone, or against a law that is known, has the pool's own error. It is
read once on each block, and the standard error of the mean counts that. A metric of exact laws
alone does not read draws: perfect is the law itself, and the floor has no noise.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dncbench.entry import Entry
from dncbench.errors import DncbenchError
from dncbench.metrics.sample import Sample, read
from dncbench.storage.cache import Cache
from dncbench.storage.contents import NOISE_FLOOR

VERSION = 4
"""Raised when the meaning of a floor changes; cached ones of another version are not used."""

RESOLUTION = 0.05
"""Relative standard error of a floor's mean at which its readings end."""

_FEWEST, _MOST = 15, 300
_COORDINATES_READ = 600
"""Readings times coordinates, at which the readings end as well.

The floor of a distance over d coordinates has an sd of about its mean / sqrt(2d): 200/d readings
resolve it. Figures that are one number's absolute value in any dimension, as a classifier's
are, would need 230, of which each takes the longer the more coordinates there are.
"""


class Floors(NamedTuple):
    """The noise floors of a problem.

    Attributes:
        levels: for each metric id its mean, sd and largest value over all readings, and the
            mean's standard error; a metric that does not apply to the problem is left out.
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
    headline: Collection[str] = (),
) -> Floors:
    """What each metric reads on independent sets of perfect draws of the same size.

    A metric that fails costs its own floor alone.

    Args:
        blocks: a random partition of the pool, as draws alone.
        truth: what merges are scored against. Metrics that read an exact law, where it has
            one, read the blocks against it.
        metrics: entries whose targets are imported.
        identity: of the problem, for the cache.
        cache: where the readings are kept.
        note: told in a line what could not be read.
        headline: names of the metrics that decide ranks: their floors are read until their means
            are known to :data:`RESOLUTION`, those of others as often as the blocks have pairs.
    """

    kept = {
        entry.id: cache.get("floors", _cache_key(entry, blocks, identity), _require_readings)
        for entry in metrics
    }
    missing = [entry for entry in metrics if kept[entry.id] is None]
    new = _read_all(missing, blocks, truth, headline)
    levels, failed = {}, {}
    for entry in metrics:
        found = kept[entry.id]
        try:
            if found is not None:
                readings = found[0]["values"]
            else:
                readings = new[entry.id].array()
                if np.all(np.isfinite(readings)):
                    key = _cache_key(entry, blocks, identity)
                    cache.put("floors", key, {"values": readings}, {})
            if len(readings):
                alone = _against_law(entry, truth) or entry.log
                share = _share_of_the_pool(blocks) if alone else 1 / len(readings)
                levels[entry.id] = _level(readings, share)
        except (DncbenchError, ValueError) as error:
            failed[entry.id] = f"on perfect draws: {error}"
            told = f"metric {entry.id} of {entry.module} is left out of {identity['id']}"
            note(f"{told}; {failed[entry.id]}")
    return Floors(levels, failed)


def _cache_key(entry: Entry, blocks: list[Sample], identity: dict[str, Any]) -> dict[str, Any]:
    shape = [len(blocks), *blocks[0].values.shape]
    return {"version": VERSION, "problem": identity, "metric": entry.id, "blocks": shape}


def _require_readings(arrays: dict[str, np.ndarray], info: Any) -> None:
    values = arrays["values"]
    if values.ndim != 1 or values.dtype != np.float64 or not np.all(np.isfinite(values)):
        raise ValueError("its readings are not finite numbers in a row")


def _level(readings: Float[np.ndarray, " readings"], share: float) -> dict[str, float]:
    """What a record says of the readings.

    Args:
        readings: at least one.
        share: variance of their mean over that of one.

    Raises:
        ValueError: it is nothing that a record can say.
    """
    with np.errstate(all="ignore"):
        sd = float(np.std(readings, ddof=1)) if len(readings) > 1 else math.nan
        level = {
            "mean": float(np.mean(readings)),
            "sd": sd,
            "max": float(np.max(readings)),
            "standard_error": sd * share**0.5,
        }
    NOISE_FLOOR.check(level)
    return level


def _share_of_the_pool(blocks: list[Sample]) -> float:
    """Variance of the pool's mean over that of independent draws as many as a block has.

    That is N/E; by what a block is worth, 1/ESS = (1 - 1/B)/N + 1/E.
    """
    return len(blocks[0].values) / blocks[0].ess - (1 - 1 / len(blocks))


# ---------------------------------------------------------------- readings


@dataclass
class _Readings:
    """Those of one metric.

    Attributes:
        values: as they come.
        asked: how often it was asked for one; on some samples it may not be applicable.
        error: why it cannot be read.
    """

    values: list[float] = field(default_factory=list)
    asked: int = 0
    error: DncbenchError | None = None

    def array(self) -> Float[np.ndarray, " readings"]:
        """The values.

        Raises:
            DncbenchError: the metric failed.
        """
        if self.error is not None:
            raise self.error
        return np.array(self.values, np.float64)

    def add(self, entry: Entry, pair: tuple[Sample, Sample], lenient: bool) -> None:
        """One reading more, if there is one."""
        self.asked += 1
        try:
            figure = read(entry, *pair, lenient)
        except DncbenchError as error:
            self.error = error
            return
        if figure is not None and (np.isfinite(figure.value) or not lenient):
            self.values.append(figure.value)

    def are_enough(self, fewest: int, precise: bool) -> bool:
        """Whether the mean is known as well as is asked, or never will be."""
        if self.error is not None or not np.all(np.isfinite(self.values)):
            return True
        if self.asked < fewest:
            return False
        if not precise or len(self.values) < 2:
            return True
        with np.errstate(all="ignore"):
            error = np.std(self.values, ddof=1) / len(self.values) ** 0.5
            return bool(error <= RESOLUTION * abs(np.mean(self.values)))


def _read_all(
    metrics: list[Entry], blocks: list[Sample], truth: Sample, headline: Collection[str]
) -> dict[str, _Readings]:
    """By metric id. All are read on the same samples in turn: some share their work."""
    lenient = blocks[0].eta is None  # laws on few objects may have no covariance
    found = {entry.id: _Readings() for entry in metrics}
    paired = []
    for entry in metrics:
        if not (entry.log or _against_law(entry, truth)):
            paired.append(entry)
            continue
        for place, block in enumerate(blocks):
            other = truth if _against_law(entry, truth) else blocks[place - 1]
            perfect = truth if "log_probs" in entry.reads else block
            if found[entry.id].error is None:
                found[entry.id].add(entry, (perfect, other), lenient)
    for pair in _pairs(blocks, paired):
        paired = [
            entry
            for entry in paired
            if not (
                found[entry.id].are_enough(_FEWEST, precise=True)
                if entry.name in headline
                else found[entry.id].are_enough(math.comb(len(blocks), 2), precise=False)
            )
        ]
        if not paired:
            break
        for entry in paired:
            found[entry.id].add(entry, pair, lenient)
    return found


def _against_law(entry: Entry, truth: Sample) -> bool:
    return truth.log_probs is not None and "codes" in entry.reads


def _pairs(blocks: list[Sample], metrics: list[Entry]) -> Iterator[tuple[Sample, Sample]]:
    """Disjoint pairs of random subsets of the pool: of the blocks, then of other partitions."""
    subsets = list(blocks)
    # Predictions may be far larger than the draws are.
    fields = {"values", "eta", "codes"} | (
        {"predictions"} & {name for entry in metrics for name in entry.reads}
    )
    rng, num_draws = np.random.default_rng(0), len(blocks[0].values)
    dim = blocks[0].values.shape[1]
    for _ in range(min(max(_COORDINATES_READ // dim, _FEWEST), _MOST)):
        if len(subsets) < 2:
            order = rng.permutation(len(blocks) * num_draws)
            subsets = [_rows(blocks, fields, rows) for rows in order.reshape(len(blocks), -1)]
        yield subsets.pop(), subsets.pop()


def _rows(blocks: list[Sample], fields: set[str], rows: Int[np.ndarray, " N"]) -> Sample:
    """Rows of the pool that the blocks make up, with these fields of draws."""
    block, row = np.divmod(rows, len(blocks[0].values))
    found: dict[str, Any] = {"predictions": None}
    for name in fields:
        parts = [getattr(each, name) for each in blocks]
        if parts[0] is not None:
            each = [part[row[block == place]] for place, part in enumerate(parts)]
            found[name] = np.concatenate(each)
    return dataclasses.replace(blocks[0], **found)
