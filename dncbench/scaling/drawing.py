"""The figure of a study: a row of panels for each method, a column for each quantity.

A method has its panels to itself, with all others in grey behind it, so that no colour
has to be told from another, however many methods there are.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dncbench.boards.tables import bytes_text
from dncbench.scaling.curves import Curve, Study
from dncbench.storage.files import write_atomically

_METRICS = ("mah", "iad", "skew", "sw2")
_SPANS = {"sampling": "sampling", "fit_slowest_shard": "fit, slowest shard", "merge": "merge"}
_OURS, _OTHERS, _FLOOR = "#0b5fa5", "#c8c8c8", "#b34700"
_LEFT, _RIGHT, _TOP, _BOTTOM = 1.55, 0.1, 0.62, 0.62  # margins in inches
_WIDTH, _HEIGHT = 1.45, 0.95
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",  # text stays text, and the file small
    "svg.hashsalt": "dncbench",  # the same records give the same file
}
_DECADE = 12.0  # the least ratio of a panel's ends


@dataclass(frozen=True)
class _Column:
    """One quantity: its title, and where a point keeps it, e.g. under "mah" of its "errors"."""

    title: str
    group: str
    key: str


def draw(study: Study, path: Path) -> None:
    """Draw a study.

    Args:
        study: with a record at least.
        path: file to write; its suffix says how: .svg, .pdf or .png.
    """
    drawn = io.BytesIO()
    _save(study, drawn, path.suffix[1:])
    write_atomically(path, drawn.getvalue())


def svg(study: Study) -> str:
    """The drawing as SVG; the same study gives the same text."""
    written = io.StringIO()
    _save(study, written, "svg")
    return written.getvalue()


def _save(study: Study, target: io.BytesIO | io.StringIO, style: str) -> None:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        metadata = {"Date": None} if style == "svg" else None
        _figure(study).savefig(target, format=style, metadata=metadata, dpi=150)


def _figure(study: Study) -> Any:
    # Without pyplot: nothing to close, and no display is asked for.
    from matplotlib.figure import Figure

    columns, curves = _columns(study), list(study.curves.values())
    size = (
        _LEFT + _RIGHT + _WIDTH * len(columns),
        _TOP + _BOTTOM + _HEIGHT * len(curves),
    )
    figure = Figure(figsize=size)
    grid = figure.subplots(
        len(curves), len(columns), sharex=True, sharey="col", squeeze=False,
        gridspec_kw={
            "left": _LEFT / size[0], "right": 1 - _RIGHT / size[0],
            "top": 1 - _TOP / size[1], "bottom": _BOTTOM / size[1],
            "wspace": 0.42, "hspace": 0.18,
        },
    )  # fmt: skip
    for row, curve in zip(grid, curves, strict=True):
        for axes, column in zip(row, columns, strict=True):
            _panel(axes, study, curve, column)
        row[0].set_ylabel(
            curve.method.replace("[", "\n[").replace("$", r"\$"),
            rotation=0,
            ha="right",
            va="center",
            fontsize=8,
        )
        row[0].yaxis.set_label_coords(-0.32, 0.5)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column.title, fontsize=8)
    _scale(grid, study, columns)
    figure.suptitle(
        f"{study.problem}, budget {study.budget}: against {study.label}",
        fontsize=10, x=0.02, y=1 - 0.12 / size[1], ha="left", va="top",
    )  # fmt: skip
    figure.text(
        0.02,
        0.1 / size[1],
        "Blue: the method of the row; grey: all others; orange, dashed: the noise floor. Numbers: "
        "exponent ± standard error. Logarithmic axes.\nHollow, and not fitted: its own sampling "
        "did not converge; timed beside other work. Crosses: no figures, for a reason that the "
        "table gives.",
        fontsize=7,
        va="bottom",
    )
    return figure


def _columns(study: Study) -> list[_Column]:
    return [
        *(_Column(metric, "errors", metric) for metric in _METRICS if metric in study.metrics),
        *(_Column(title, "seconds", phase) for phase, title in _SPANS.items()),
        _Column("bytes", "bytes", "bytes"),
    ]


def _panel(axes: Any, study: Study, curve: Curve, column: _Column) -> None:
    behind = [other for other in study.curves.values() if other is not curve]
    if behind:
        # One line with gaps, instead of one for each method.
        x = np.concatenate([[*study.values, np.nan]] * len(behind))
        y = np.concatenate(
            [[*_readings(other, column.group, column.key), np.nan] for other in behind]
        )
        axes.plot(x, y, color=_OTHERS, linewidth=0.7, zorder=1)
    if column.group == "errors":
        axes.plot(
            study.values, _readings(curve, "floors", column.key), color=_FLOOR, linestyle="--",
            linewidth=0.9, zorder=2,
        )  # fmt: skip
    readings = _readings(curve, column.group, column.key)
    axes.plot(study.values, readings, color=_OURS, linewidth=1.3, zorder=3)
    doubt = {"errors": "unreliable", "seconds": "beside_other_work"}.get(column.group, "")
    hollow = np.array([bool(doubt) and getattr(p, doubt) for p in curve.points])
    for chosen, inside in ((~hollow, _OURS), (hollow, "white")):
        axes.plot(
            np.array(study.values)[chosen], readings[chosen], linestyle="none", marker="o",
            color=_OURS, markerfacecolor=inside, markersize=3.2, zorder=4,
        )  # fmt: skip
    without = [point.value for point in curve.points if not point.splits]
    axes.plot(
        without, [0.08] * len(without), linestyle="none", marker="x", color=_OURS,
        markersize=3.5, transform=axes.get_xaxis_transform(), clip_on=False,
    )  # fmt: skip
    found = curve.exponents.get(column.key)
    if found and found.slope is not None:
        axes.text(
            0.04, 0.95, f"{found.slope:.2f} ± {found.standard_error:.2f}", fontsize=6.5,
            ha="left", va="top", transform=axes.transAxes, zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _readings(curve: Curve, group: str, key: str) -> np.ndarray:
    """What can be drawn on a logarithmic axis; NaN elsewhere."""
    found = [
        point.bytes if group == "bytes" else getattr(point, group).get(key)
        for point in curve.points
    ]
    return np.array([reading if reading else np.nan for reading in found])


def _scale(grid: np.ndarray, study: Study, columns: list[_Column]) -> None:
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    for axes in grid[0]:  # the others share these axes
        axes.set(xscale="log", yscale="log")
    grid[0, 0].xaxis.set(
        major_locator=FixedLocator(study.values),
        minor_locator=NullLocator(),
        major_formatter=lambda value, _: f"{value:g}",
    )
    for axes in grid.ravel():
        axes.tick_params(labelsize=6, length=2, pad=1.5)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[:-1].ravel():
        axes.tick_params(axis="x", bottom=False)
    for axes, column in zip(grid[0], columns, strict=True):
        low, high = axes.get_ylim()
        if low <= 0.0:  # nothing in the column is above zero
            low = high = 1.0
        if high < _DECADE * low:
            # A decade holds a tick then, and the exponent has room above the curve.
            middle = (low * high) ** 0.5
            low, high = middle / _DECADE**0.5, middle * _DECADE**0.5
            axes.set_ylim(low, high)
        decades = np.log10(high / low)
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1, 3) if decades < 3 else (1,), numticks=6),
            minor_locator=NullLocator(),
            major_formatter=_FORMATS[column.group],
        )


_FORMATS: dict[str, Callable[[float, int], str]] = {
    "errors": lambda value, _: f"{value:g}",
    "seconds": lambda value, _: f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms",
    "bytes": lambda value, _: bytes_text(round(value)),
}
