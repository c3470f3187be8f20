"""A study as text: its table of exponents and ends, Markdown, JSON."""

import json

from dncbench.boards.tables import bytes_text, markdown, seconds_text
from dncbench.scaling.curves import (
    AFTER_SAMPLING,
    CLEAR_OF_FLOOR,
    LEAST_SECONDS,
    Curve,
    Point,
    Study,
)
from dncbench.scaling.exponents import Exponent

TABLE_METRICS = ("mah", "sw2")
"""Of the metrics, the one of location that all papers report, and a joint one."""

LEGEND = (
    "exponent ± standard error of a power law, by least squares on logarithms, and how many "
    "values were fitted where not all; then the readings at both ends. Errors are means over "
    f"splits (multiples of the noise floor); only those above {CLEAR_OF_FLOOR:g} floors are "
    "fitted, and none whose own sampling did not converge (?). Seconds: fit of the slowest "
    f"shard, and merge; below {1000 * LEAST_SECONDS:g} ms, or timed beside other work (~), "
    "they are not fitted."
)


def title(study: Study) -> str:
    """One line that says what was varied and what was not."""
    return (
        f"{study.axis}: {study.label}; {study.problem}, budget {study.budget}, seed {study.seed}, "
        f"{most_splits(study)} splits"
    )


def most_splits(study: Study) -> int:
    """How many splits the best covered cells have."""
    return max(
        (point.splits for curve in study.curves.values() for point in curve.points), default=0
    )


def header(study: Study) -> list[str]:
    """Column titles."""
    ends = f"at {study.values[0]:g} → {study.values[-1]:g}"
    columns = ["method"]
    for what in (*_shown(study), "seconds", "bytes"):
        columns += [f"{what} exponent", ends]
    return columns


def _shown(study: Study) -> list[str]:
    return [metric for metric in TABLE_METRICS if metric in study.metrics]


def cells(study: Study) -> list[list[str]]:
    """One row of text for each method."""
    return [_row(curve, _shown(study)) for curve in study.curves.values()]


def _row(curve: Curve, metrics: list[str]) -> list[str]:
    first, last = curve.points[0], curve.points[-1]
    row = [curve.method]
    for metric in metrics:
        row += [
            exponent_text(curve.exponents.get(metric), len(curve.points)),
            f"{_error_text(first, metric)} → {_error_text(last, metric)}",
        ]
    row += [
        exponent_text(curve.exponents[AFTER_SAMPLING], len(curve.points)),
        f"{_seconds_text(first)} → {_seconds_text(last)}",
        exponent_text(curve.exponents["bytes"], len(curve.points)),
        " → ".join(
            bytes_text(None if point.bytes is None else round(point.bytes))
            for point in (first, last)
        ),
    ]
    return row


def exponent_text(found: Exponent | None, num_values: int) -> str:
    """``0.52 ± 0.03 (4 of 6)``, or the reason why there is none."""
    if found is None:
        return "-"
    some = f"{found.num_points} of {num_values}"
    if found.slope is None:
        return found.reason if not found.num_points else f"only {some} to fit: {found.reason}"
    fitted = f" ({some})" if found.num_points < num_values else ""
    return f"{found.slope:.2f} ± {found.standard_error:.2f}{fitted}"


def _error_text(point: Point, metric: str) -> str:
    multiple = point.multiple(metric)
    if multiple is None:
        return "-"
    return f"{point.errors[metric]:.3g} ({multiple:.1f}×){'?' * point.unreliable}"


def _seconds_text(point: Point) -> str:
    return "~" * point.beside_other_work + seconds_text(point.seconds.get(AFTER_SAMPLING))


def notes(study: Study) -> list[str]:
    """Cells without figures, with their reasons."""
    lines = []
    for curve in study.curves.values():
        by_reason: dict[str, list[str]] = {}
        for point in curve.points:
            if point.reason:
                by_reason.setdefault(" ".join(point.reason.split()), []).append(f"{point.value:g}")
        lines += [
            f"{curve.method} at {', '.join(values)}: {reason}"
            for reason, values in by_reason.items()
        ]
    return lines


def to_markdown(study: Study) -> str:
    """The table in Markdown, with its legend and notes."""
    return markdown(title(study), header(study), cells(study), [LEGEND], notes(study))


def to_json(studies: list[Study]) -> str:
    """Everything, in full precision."""
    return json.dumps(studies, default=vars, indent=1, sort_keys=True, allow_nan=False) + "\n"
