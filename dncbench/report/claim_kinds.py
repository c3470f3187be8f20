"""What claims of each kind are held to.

Every kind is a function of a claim, as its file has it, and of the records of suites. A claim
*holds* where it does so in every case, *fails* where it fails in one, and is *not run* where
nothing is; otherwise it is *undecided*: errors are too large to tell in some case, or it was not
run. Cases that a method does not apply to, and controls, are shown and not counted.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from statistics import fmean
from typing import Any, NamedTuple

from dncbench.configure import configure, label
from dncbench.report.claim_records import Cells, Ratio, Split, figure, ratio_of
from dncbench.storage.identity import identity_of

VERDICTS = HOLDS, FAILS, UNDECIDED, MISSING = ("holds", "fails", "undecided", "not run")
INAPPLICABLE, CONTROL, SHOWN = "not applicable", "control", "-"
"""What is said of rows that are not counted."""

Suites = Callable[[str], Cells]
"""From a suite's name to its records."""


class Row(NamedTuple):
    """A line of a claim's table.

    Attributes:
        cells: texts.
        verdict: one of :data:`VERDICTS`, or why there is none.
    """

    cells: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict.

    Attributes:
        name: a short one.
        claim: as its file has it.
        verdict: one of :data:`VERDICTS`.
        sentence: the verdict in figures.
        header: of the table, but for the verdict.
        rows: of the table.
        missing: labels of methods that have not been run in some case, by suite.
    """

    name: str
    claim: dict[str, Any]
    verdict: str
    sentence: str
    header: tuple[str, ...]
    rows: list[Row]
    missing: dict[str, list[str]] = field(default_factory=dict)


def together(verdicts: Iterable[str]) -> str:
    """The verdict over all that is counted."""
    found = [verdict for verdict in verdicts if verdict in VERDICTS]
    if FAILS in found:
        return FAILS
    if all(verdict == MISSING for verdict in found):
        return MISSING
    return UNDECIDED if {UNDECIDED, MISSING} & set(found) else HOLDS


def judged(ratio: Ratio | None, limit: float, margin: float) -> str:
    """Whether a ratio is small.

    Args:
        ratio: or None where figures are missing.
        limit: fails where all of the interval is above.
        margin: holds where none of the interval is above.
    """
    if ratio is None:
        return MISSING
    low, high = ratio.interval
    if low > limit:
        return FAILS
    return HOLDS if high <= margin else UNDECIDED


def _judged(ratio: Ratio | None, claim: dict[str, Any]) -> str:
    return judged(ratio, claim["limit"], claim.get("margin", claim["limit"]))


# ---------------------------------------------------------------- ratio


def by_ratio(name: str, claim: dict[str, Any], suites: Suites) -> Finding:
    """A method's metric over those of others is small, case by case and setting by setting."""
    cells, metric, method = suites(claim["suite"]), claim["metric"], claim["method"]
    rows: list[Row] = []
    known: list[tuple[str, Ratio]] = []
    for case, setting in product(cells.cases, _settings(claim)):
        specs = _specs(claim, setting)
        figures = {each: cells.figures(case, spec, metric) for each, spec in specs.items()}
        ratios = {other: ratio_of(figures[method], figures[other]) for other in claim["against"]}
        verdict = _over_others(cells, case, specs, ratios, claim)
        told = [_mean_text(cells, case, specs[each], figures[each]) for each in specs]
        texts = map(_ratio_text, ratios.values())
        rows.append(Row((case, *map(str, setting.values()), *told, *texts), verdict))
        where = [case, *(f"{key}={value}" for key, value in setting.items())]
        for other, ratio in ratios.items():
            if ratio is not None and verdict in VERDICTS:
                beside = [f"over {other}"] * (len(ratios) > 1)
                known.append((", ".join(where + beside), ratio))
    header = (
        "case",
        *claim.get("over", {}),
        *claim["methods"],
        *(f"{method} / {other}" for other in claim["against"]),
    )
    return Finding(
        name,
        claim,
        together(row.verdict for row in rows),
        f"{metric} of {method} over that of {' or '.join(claim['against'])}"
        f"{_range_text(known)} {_count(rows)}",
        header,
        rows,
        _missing(claim, cells),
    )


def _over_others(
    cells: Cells,
    case: str,
    specs: dict[str, str],
    ratios: dict[str, Ratio | None],
    claim: dict[str, Any],
) -> str:
    """The verdict of one case and setting over all other methods that apply."""
    if case in [label(*configure("problem", each)) for each in claim.get("controls", [])]:
        return CONTROL
    if not cells.applies(case, specs[claim["method"]]):
        return INAPPLICABLE
    verdicts = [
        _judged(ratio, claim)
        for other, ratio in ratios.items()
        if cells.applies(case, specs[other])
    ]
    return together(verdicts) if verdicts else INAPPLICABLE


# ---------------------------------------------------------------- growth


def by_growth(name: str, claim: dict[str, Any], suites: Suites) -> Finding:
    """A metric grows from one value of a setting to the next."""
    cells, metric = suites(claim["suite"]), claim["metric"]
    rows: list[Row] = []
    ratios: list[tuple[str, Ratio]] = []
    ((key, values),) = claim["over"].items()
    for case in cells.cases:
        found = []
        for value in values:
            specs = _specs(claim, {key: value})
            found.append({each: cells.figures(case, spec, metric) for each, spec in specs.items()})
        means = [_means(each) for each in found]
        rows.append(Row((case, str(values[0]), *means[0], "-"), SHOWN))
        for number, (before, after) in enumerate(pairwise(found), start=1):
            ratio = ratio_of(before[claim["method"]], after[claim["method"]])
            verdict = _judged(ratio, claim)
            if ratio is not None:
                ratios.append((f"{case}, {key}={values[number]}", ratio))
            shown = (case, str(values[number]), *means[number], _ratio_text(ratio))
            rows.append(Row(shown, verdict))
    return Finding(
        name,
        claim,
        together(row.verdict for row in rows),
        f"{metric} at one value of {key} over that at the next{_range_text(ratios)} {_count(rows)}",
        ("case", key, *claim["methods"], "before / after"),
        rows,
        _missing(claim, cells),
    )


def _means(figures: dict[str, dict[Split, float]]) -> list[str]:
    return [_number(fmean(of.values())) if of else "-" for of in figures.values()]


# ---------------------------------------------------------------- bound


def by_bound(name: str, claim: dict[str, Any], suites: Suites) -> Finding:
    """A metric of every record of a method is at most what the record says it is bounded by."""
    (method,) = claim["methods"].values()
    rows: list[Row] = []
    missing: dict[str, list[str]] = {}
    seen: set[str] = set()
    largest: list[tuple[float, str]] = []
    counted = within = 0
    for cells in map(suites, claim["suites"]):
        missing[cells.suite] = cells.missing([method], claim["metric"])
        for case in cells.cases:
            if case in seen:  # of an earlier suite, which has the same records
                continue
            seen.add(case)
            pairs = _bounded(cells, case, method, claim)
            if not pairs:
                absent = MISSING if cells.applies(case, method) else INAPPLICABLE
                rows.append(Row((case, method, "-", "-", "-", "-"), absent))
            for title, found in pairs.items():
                ratios = [_share(value, bound) for value, bound in found]
                counted, within = counted + len(found), within + sum(r <= 1.0 for r in ratios)
                largest.append((max(ratios), f"{case}, {title}"))
                value, bound = (fmean(each) for each in zip(*found, strict=True))
                told = (_number(value), _number(bound), _number(max(ratios)))
                verdict = HOLDS if max(ratios) <= 1.0 else FAILS
                rows.append(Row((case, title, str(len(found)), *told), verdict))
    verdict = together(row.verdict for row in rows)
    sentence = "No record has both."
    if largest:
        ratio, where = max(largest)
        sentence = (
            f"{within} of {counted} records are within the bound; {claim['metric']} is at most "
            f"{_number(ratio)} of it ({where}). {_count(rows)}"
        )
    header = ("case", "method", "records", claim["metric"], claim["bound"], "largest ratio")
    return Finding(name, claim, verdict, sentence, header, rows, missing)


def _share(value: float, bound: float) -> float:
    """Of the bound; a bound of zero leaves no room."""
    return value / bound if bound > 0.0 else float("inf") if value > 0.0 else 0.0


def _bounded(
    cells: Cells, case: str, method: str, claim: dict[str, Any]
) -> dict[str, list[tuple[float, float]]]:
    """Metric and bound of records, by the label of the method."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in cells.named(case, method):
        value, bound = figure(record, claim["metric"]), record["info"].get(claim["bound"])
        if value is not None and bound is not None:
            found.setdefault(identity_of(record).method.label, []).append((value, bound))
    return found


# ---------------------------------------------------------------- communication


class _Cost(NamedTuple):
    """Rounds and bytes of a run."""

    rounds: int
    bytes: int


def by_communication(name: str, claim: dict[str, Any], suites: Suites) -> Finding:
    """A method asks once, and with fewer bytes than another would need at every update."""
    cells, methods = suites(claim["suite"]), claim["methods"]
    others = [each for each in methods if each not in (claim["method"], claim["central"])]
    order = [claim["method"], claim["central"], *others]
    rows: list[Row] = []
    seen: dict[str, list[_Cost]] = {each: [] for each in order}
    for case in cells.cases:
        costs: dict[str, _Cost] = {}
        shown: list[str] = []
        for each in order:
            records = cells.records(case, methods[each])
            cost = _federated if each == claim["central"] else _recorded
            found = [known for record in records if (known := cost(record, claim))]
            if found:
                costs[each] = max(found)
                seen[each] += found
            cost_text = [f"{number:,}" for number in costs[each]] if found else ["-", "-"]
            figures = cells.figures(case, methods[each], claim["metric"])
            shown += [*cost_text, _mean_text(cells, case, methods[each], figures)]
        verdict = INAPPLICABLE
        if all(cells.applies(case, methods[each]) for each in order[:2]):
            verdict = _once(costs.get(order[0]), costs.get(order[1]))
        rows.append(Row((case, *shown), verdict))
    header = [f"{each}: {what}" for each in order for what in ("rounds", "bytes", claim["metric"])]
    told = "; ".join(_costs_text(each, seen[each]) for each in order if seen[each])
    return Finding(
        name,
        claim,
        together(row.verdict for row in rows),
        f"{told or 'No record says'}. {_count(rows)}",
        ("case", *header),
        rows,
        _missing(claim, cells),
    )


def _recorded(record: dict[str, Any], claim: dict[str, Any]) -> _Cost | None:
    """As it was run."""
    rounds = len(record.get("rounds", ()))
    return _Cost(rounds, record["bytes_communicated"]) if rounds else None


def _federated(record: dict[str, Any], claim: dict[str, Any]) -> _Cost | None:
    """As its settings say: objects to every client at each update, and their rewards back."""
    settings = record["settings"]["method"] | record["settings"]["problem"]
    try:
        rounds, objects, shards = (settings[claim[of]] for of in ("rounds", "objects", "shards"))
    except KeyError:
        return None
    return _Cost(rounds, rounds * objects * shards * 2 * claim["number_bytes"])


def _once(merged: _Cost | None, central: _Cost | None) -> str:
    if merged is None or central is None:
        return MISSING
    return HOLDS if merged.rounds == 1 < central.rounds and merged.bytes < central.bytes else FAILS


def _costs_text(method: str, costs: list[_Cost]) -> str:
    rounds, sent = zip(*costs, strict=True)
    return f"{method}: rounds {_between(rounds)}, bytes {_between(sent)}"


def _between(numbers: tuple[int, ...]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


# ---------------------------------------------------------------- shared


def _settings(claim: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of what a claim goes over; one of nothing where that is nothing."""
    over = claim.get("over", {})
    return (dict(zip(over, values, strict=True)) for values in product(*over.values()))


def _specs(claim: dict[str, Any], setting: dict[str, Any]) -> dict[str, str]:
    return {each: spec.format(**setting) for each, spec in claim["methods"].items()}


def _missing(claim: dict[str, Any], cells: Cells) -> dict[str, list[str]]:
    wanted = [spec for setting in _settings(claim) for spec in _specs(claim, setting).values()]
    return {cells.suite: cells.missing(wanted, claim["metric"])}


def _mean_text(cells: Cells, case: str, method: str, figures: dict[Split, float]) -> str:
    if figures:
        return _number(fmean(figures.values()))
    return "-" if cells.applies(case, method) else INAPPLICABLE


def _ratio_text(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    if ratio.number == 1:
        return f"{_number(ratio.value)} (n 1)"
    low, high = ratio.interval
    return f"{_number(ratio.value)} ({_number(low)} to {_number(high)}, n {ratio.number})"


def _range_text(ratios: list[tuple[str, Ratio]]) -> str:
    if not ratios:
        return " is not known."
    ordered = sorted(ratios, key=lambda pair: pair[1].value)
    (least, low), (most, high) = ordered[0], ordered[-1]
    if len(ordered) == 1:
        return f" is {_number(low.value)} ({least})."
    return f" lies between {_number(low.value)} ({least}) and {_number(high.value)} ({most})."


def _count(rows: list[Row]) -> str:
    counted = [row.verdict for row in rows if row.verdict in VERDICTS]
    each = (f"{verdict} {counted.count(verdict)}" for verdict in VERDICTS if verdict in counted)
    return f"Rows: {', '.join(each)}." if counted else "No row counts."


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


KINDS: dict[str, Callable[[str, dict[str, Any], Suites], Finding]] = {
    "ratio": by_ratio,
    "growth": by_growth,
    "bound": by_bound,
    "communication": by_communication,
}
"""From what a claim's file calls a kind to what it is held to."""
