"""One cell of the overview, a method on a board, as the texts that its detail shows."""

import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dncbench.boards import notes, tables
from dncbench.boards.board import Board, Row, Score
from dncbench.boards.pooling import split_of
from dncbench.report.floors import WORST, height, multiple_text
from dncbench.storage.files import canonical
from dncbench.storage.identity import Identity, identity_of
from dncbench.storage.records import SCORED
from dncbench.storage.text import one_line

# What a command does unless told otherwise.
_DEFAULTS = {"scheme": "random", "space": "unconstrained", "seed": 0, "budget": "quick"}


Heat = tuple[str, int | None, float | None]
"""A multiple of the floor: its text, level and value; ``NO_HEAT`` where there is none."""

NO_HEAT: Heat = ("-", None, None)


@dataclass
class Detail:
    """A method on a board; everything that a reader can ask of it.

    Attributes:
        method, track: what it is called, and what it was allowed to use.
        state: "scored", or what became of it: "failed", "not applicable", "no record".
        status: the same in words, with how many splits.
        marks: by metric id, as on the leaderboard.
        heat: for each metric shown its multiple of the floor as text, its level or None,
            and the multiple itself.
        figures: one line for each metric: name, mean (sd), se, floor, multiple, rank.
        seconds: phase and text.
        facts: other named figures.
        splits: one line for each split that is worth one: what became of it, warnings.
        notes: of the leaderboard.
        command: what makes the records.
        environments: indices into the page's list.
        created: first and last day.
    """

    method: str
    track: str
    state: str
    status: str
    marks: dict[str, str] = field(default_factory=dict)
    heat: dict[str, Heat] = field(default_factory=dict)
    figures: list[list[str]] = field(default_factory=list)
    seconds: list[list[str]] = field(default_factory=list)
    facts: list[list[str]] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""
    environments: list[int] = field(default_factory=list)
    created: str = ""

    @property
    def unreliable(self) -> bool:
        """Whether the merge's own sampling did not converge in some split."""
        return any("?" in marks for marks in self.marks.values())

    @property
    def level(self) -> int | None:
        """Of the worst headline metric; None where one is missing."""
        return self.heat.get(WORST, NO_HEAT)[1]


def no_record(method: str, track: str, command_line: str) -> Detail:
    """A cell that nobody has run."""
    status = "no record: nobody has run this cell"
    return Detail(method, track, "no record", status, command=command_line)


def other_draws(method: str, track: str) -> Detail:
    """A cell of a method all of whose records are of draws of another kind."""
    return Detail(method, track, "not applicable", "no record: it has merged other draws alone")


def detail(
    board: Board, row: Row, records: list[dict[str, Any]], environments: "Environments"
) -> Detail:
    """The cell of a board's row.

    Args:
        board: with the row.
        row: a method.
        records: that the row was made from.
        environments: of the page; new ones are added.
    """
    states = Counter(record["status"] for record in records)
    scored = any(status in SCORED for status in states)
    made = Detail(
        row.method,
        row.track,
        "scored" if scored else states.most_common(1)[0][0],
        _status(states, len(records)),
        notes=notes.of_row(row),
        command=command(list(map(identity_of, records)), num_splits(records)),
        environments=environments.of(records),
        created=_days(records),
    )
    for metric in [WORST, *board.metrics]:
        found = height(board, row, metric)
        if found is not None:
            made.heat[metric] = multiple_text(found), found.level, float(f"{found.multiple:.4g}")
    for metric in board.metrics:
        score = row.scores.get(metric)
        if score is not None:
            floor = board.floor[metric]
            made.marks[metric] = tables.marks(score)
            made.figures.append(
                [
                    metric,
                    tables.figure_text(score),
                    f"{score.standard_error:.2g}",
                    f"{floor['mean']:.3g} ± {floor['sd']:.2g}",
                    made.heat.get(metric, NO_HEAT)[0],
                    rank_text(score),
                ]
            )
    made.seconds = [
        [title, tables.seconds_text(row.seconds.get(phase))]
        for phase, title in tables.SECONDS_COLUMNS.items()
    ]
    made.facts = _facts(row, records)
    made.splits = [line for record in records if (line := _split(record))]
    return made


def rank_text(score: Score) -> str:
    """``2-4``: the ranks that the splits cannot tell apart; empty where there are none."""
    if score.rank is None:
        return ""
    low, high = score.rank
    return str(low) if low == high else f"{low}-{high}"


def command(identities: list[Identity], splits: int) -> str:
    """The command line that makes the records of methods on a board.

    Args:
        identities: of their splits, and of the repetitions of the board's problem.
        splits: how many.
    """
    identity = identities[0]
    words = ["dncbench", "run"]
    for problem in dict.fromkeys(each.problem.label for each in identities):
        words += ["--problem", problem]
    for method in dict.fromkeys(each.method.label for each in identities):
        words += ["--method", method]
    words += ["--splits", str(splits)]
    for option, name in (
        ("--split-scheme", "scheme"),
        ("--space", "space"),
        ("--seed", "seed"),
        ("--budget", "budget"),
    ):
        value = getattr(identity, name)
        if value != _DEFAULTS[name] and (name != "space" or value == "natural"):
            words += [option, str(value)]
    return shlex.join(words)


def num_splits(records: list[dict[str, Any]]) -> int:
    """How many splits must be asked for, so that all of the records' are among them."""
    return 1 + max(identity_of(record).split for record in records)


def _status(states: Counter[str], total: int) -> str:
    """``ok``, ``2 of 5 unreliable`` and the like."""
    if len(states) == 1:
        (state,) = states
        return state if total == 1 else f"{state}, all {total} splits"
    parts = [f"{count} {state}" for state, count in sorted(states.items())]
    return f"{', '.join(parts)} of {total} splits"


def _facts(row: Row, records: list[dict[str, Any]]) -> list[list[str]]:
    scored = [record for record in records if record["status"] in SCORED]
    facts = []
    if row.bytes is not None:
        facts.append(["bytes", tables.bytes_text(row.bytes)])
    if row.k_hat is not None:
        k_hat, share = tables.ratios_texts(row)
        facts += [["k-hat (largest)", k_hat], ["effective share of the ratios (smallest)", share]]
    ranks = [(record.get("importance") or {}).get("rank_correlation") for record in scored]
    if any(rank is not None for rank in ranks):
        least = min(rank for rank in ranks if rank is not None)
        facts.append(["rank correlation of the log densities (smallest)", f"{least:.3g}"])
    for name, text, choose in (
        ("ess", "effective draws (fewest)", min),
        ("max_rhat", "R-hat of the merge's sampling (largest)", max),
    ):
        known = [record["info"][name] for record in scored if name in record.get("info", {})]
        if known:
            facts.append([text, f"{choose(known):.4g}"])
    peaks = [record["environment"].get("peak_memory_mib") for record in records]
    if any(peak is not None for peak in peaks):  # older records say no more than that
        peak = max(peak for peak in peaks if peak is not None)
        facts.append(["peak memory of the process", f"{peak} MiB"])
    if row.memory_mib is not None:
        facts.append(["memory of its largest program", f"{row.memory_mib:.3g} MiB"])
    return facts


def _split(record: dict[str, Any]) -> str:
    """What became of one split, where it is not simply fine."""
    told = [record["status"]] if record["status"] != "ok" else []
    told += [record["reason"]] if record.get("reason") else []
    told += record.get("warnings") or []
    split = split_of(record)
    which = split if "split" in split else f"split {split}"
    return one_line(f"{which}: {'; '.join(told)}") if told else ""


def _days(records: list[dict[str, Any]]) -> str:
    days = sorted({record["created"][:10] for record in records if record.get("created")})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


class Environments:
    """The different environments of a page's records, each once.

    Attributes:
        described: name and value of each fact of each.
    """

    def __init__(self) -> None:
        self.described: list[list[list[str]]] = []
        self._place: dict[str, int] = {}

    def of(self, records: list[dict[str, Any]]) -> list[int]:
        """Places of the environments that records were made in."""
        found = []
        for record in records:
            facts = {k: v for k, v in record["environment"].items() if k != "peak_memory_mib"}
            key = canonical(facts)
            if key not in self._place:
                self._place[key] = len(self.described)
                self.described.append(_described(facts))
            found.append(self._place[key])
        return sorted(set(found))


def _described(facts: dict[str, Any]) -> list[list[str]]:
    packages = facts.get("packages") or {}
    lines = [
        [name, str(facts[name])]
        for name in ("commit", "cpu", "cores", "platform", "python")
        if facts.get(name) is not None
    ]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    return [*lines, *([["packages", versions]] if versions else [])]
