"""What a board is made of. Needs no JAX."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dncbench.storage.identity import REFERENCE_TRACK, Terms

UNCERTIFIED = "C"
"""The grade of a reference that failed a check of its certificate."""

EXACT_SHARE = 2.0**-10
"""Of the floor: a law that is told exactly, and is this near, is right."""


class Reading(NamedTuple):
    """One metric of one method in one split, and what perfect draws read there.

    Attributes:
        value, standard_error: of the metric.
        floor: mean of what perfect draws read.
        exact: read of a law that the merge tells exactly, and so without noise.
    """

    value: float
    standard_error: float
    floor: float
    exact: bool

    @property
    def least(self) -> float:
        """The smallest figure that counts as one: perfect draws read no better than the floor.

        A law that is told exactly may be nearer, to a thousandth of that.
        """
        return self.floor * EXACT_SHARE if self.exact else self.floor


@dataclass
class Score:
    """One metric of one method over the splits.

    Attributes:
        mean: over splits.
        sd: between splits (divisor n - 1); None for a single split.
        standard_error: Monte Carlo standard error of the mean, from the draws' ESS.
        rank: interval of the rank among the board's merges; None for the reference, for a
            merge that is unreliable or misfits, where splits are missing, on a board that gives
            no ranks (:attr:`Board.unranked`), and where it was not asked for.
        group: 1 for the best and what cannot be told from it, and so on; None as ``rank``.
        at_floor: within two floor sds of what perfect draws read, the error of the floor's own
            mean included; of laws that are told exactly, at zero to :data:`EXACT_SHARE`.
        exact: read of laws that the merge tells exactly, in every split.
        unreliable: the merge's own sampling did not converge in some split.
        misfit: the density that the merge fitted misses the posterior in some split.
    """

    mean: float
    sd: float | None
    standard_error: float
    rank: tuple[int, int] | None = None
    group: int | None = None
    at_floor: bool = False
    exact: bool = False
    unreliable: bool = False
    misfit: bool = False

    @property
    def best(self) -> bool:
        """Best of the board, or not to be told from it."""
        return self.group == 1


@dataclass
class Row:
    """One method on one board.

    Attributes:
        method, track: what it is called, and what it was allowed to use.
        splits: how many have figures.
        scores: by metric id.
        overall: doublings above the noise floor: log2(figure / floor), mean over the board's
            metrics with equal weights; not below 0, but of laws that are told exactly.
        doublings: the same for each split, with its Monte Carlo standard error.
        states: how many splits failed, and so on; empty where all is well.
        tried: the splits of which there is any record.
        seconds: means over splits, by phase.
        bytes: mean over splits of what crossed the network.
        memory_mib: what its largest compiled program needs, by XLA's account: arguments,
            results and intermediates; None where no record says.
        k_hat: largest Pareto k-hat over splits; None where the method has no density.
        ess_share: smallest effective share of the same importance ratios.
        notes: failures and the like.
        warnings: what its records warn of, each sentence once.
        warned: how many splits have a warning.
    """

    method: str
    track: str
    splits: int = 0
    scores: dict[str, Score] = field(default_factory=dict)
    overall: Score | None = None
    doublings: dict[str, tuple[float, float]] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: int | None = None
    memory_mib: float | None = None
    k_hat: float | None = None
    ess_share: float | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    warned: int = 0


@dataclass
class Board:
    """One problem's table.

    Attributes:
        terms: that every row was made under.
        headline: names of the metrics that its problem is judged by, in their order.
        metrics: metric ids, in column order.
        ranking: those of them that decide the order.
        floor: for each metric the mean and sd between sets of reference draws; the mean of
            these over repetitions.
        grade: of the reference; the worst, where problems that repeat one experiment have several.
        rows: best first.
        repetitions: of the problem that the board puts together, ``dataset 2`` and the like.
        unranked: why the board ranks nothing; "" where it does.
        stale: records left out because the meaning of an id changed since.
        unsealed: how many of its records have no seal.
        earlier_rules: how many of them tell errors by earlier rules.
    """

    terms: Terms
    headline: list[str]
    metrics: list[str]
    ranking: list[str]
    floor: dict[str, dict[str, float]]
    grade: str
    rows: list[Row]
    repetitions: list[str] = field(default_factory=list)
    unranked: str = ""
    stale: int = 0
    unsealed: int = 0
    earlier_rules: int = 0


def shared_splits(rows: Iterable[Row]) -> set[str]:
    """The splits that more than half of the merges were tried on."""
    merges = [row for row in rows if row.track != REFERENCE_TRACK]
    counts = Counter(split for row in merges for split in set(row.tried))
    return {split for split, count in counts.items() if 2 * count > len(merges)}
