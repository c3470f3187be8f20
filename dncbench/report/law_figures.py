"""Laws on objects as SVG: a dot for each object, maps of cells, and how a law was learned."""

import math

import numpy as np
from markupsafe import Markup

from dncbench.report import curves, overlays
from dncbench.report.laws import LEVELS, SIDE, Axes, Cloud, Maps
from dncbench.report.page import Training

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LEFT, _FOOT = 31, 15  # room for ticks
_FEW = 500  # places that are drawn as larger dots
_LEAST_TV = 1e-6  # that is told from zero


def dots(cloud: Cloud, whose: str) -> Markup:
    """Learned against true probabilities, both logarithmic.

    Args:
        cloud: one law's.
        whose: what it is called.
    """
    axes = cloud.axes
    height = round(axes.height)
    low, high = max(axes.low, axes.bottom), min(axes.high, axes.top)
    return Markup(
        '<svg viewBox="{} -2 {} {}" role="img" aria-label="{}">'
        '<rect class="frame" width="{}" height="{}"/>{}'
        '<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
        '<path class="dots{}" d="{}"/></svg>'
    ).format(
        *(-_LEFT, SIDE + _LEFT + 12, height + _FOOT + 2),
        f"Learned against true probability of every object: {whose}, total variation "
        f"{cloud.tv:.3g}",
        *(SIDE, height, _ticks(axes, height)),
        *(axes.across(low), axes.down(low), axes.across(high), axes.down(high)),
        *(" few" if len(cloud.places) < _FEW else "", _runs(cloud)),
    )


_TICK_ACROSS = Markup(
    '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>'
    '<text class="tick" x="{0:.1f}" y="{2}" text-anchor="middle">{3}</text>'
)
_TICK_UP = Markup(
    '<line class="grid" x1="0" x2="{1}" y1="{0:.1f}" y2="{0:.1f}"/>'
    '<text class="tick" x="-3" y="{2:.1f}" text-anchor="end">{3}</text>'
)


def _ticks(axes: Axes, height: int) -> Markup:
    across = [
        _TICK_ACROSS.format(axes.across(value), height, height + 12, _power(value))
        for value in _decades(axes.low, axes.high)
    ]
    down = [(axes.down(value), _power(value)) for value in _decades(axes.bottom, axes.top)]
    up = [_TICK_UP.format(y, SIDE, min(y + 3.5, height), text) for y, text in down]
    return Markup("").join(across + up)


def _decades(low: float, high: float) -> list[float]:
    """Logarithms of a few round numbers, far enough apart for their texts."""
    span = high - low
    if span >= 2:
        step = math.ceil(span / 5)
        return [float(n) for n in range(math.ceil(low), math.floor(high) + 1) if n % step == 0]
    digits = (1, 3) if span >= 1 else (1, 2, 5)
    powers = range(math.floor(low), math.floor(high) + 1)
    found = [n + math.log10(digit) for n in powers for digit in digits]
    return [value for value in found if low <= value <= high]


def _power(log: float) -> str:
    power = math.floor(log + 1e-9)
    digit = round(10 ** (log - power))
    return f"{digit}·" * (digit > 1) + "10" + str(power).translate(_SUPERSCRIPT)


def _runs(cloud: Cloud) -> str:
    """A vertical line for every run of neighbouring places; round ends make a dot of one."""
    text, x, y = ["M0 0"], 0, 0
    starts = np.flatnonzero(np.any(np.diff(cloud.places, axis=0) != [0, 1], axis=1)) + 1
    for run in np.split(cloud.places, starts):
        (to_x, to_y), length = run[0].tolist(), len(run) - 1
        text.append(f"m{to_x - x} {to_y - y}v{length}")
        x, y = to_x, to_y + length
    return "".join(text).replace(" -", "-")


def training(lines: list[Training], in_seconds: bool, numbers: dict[str, int]) -> Markup:
    """Total variation, logarithmic, as merges are trained.

    Args:
        lines: of each method.
        in_seconds: what they are against; else shares of the training.
        numbers: of the methods on the page.
    """
    width, height = 340, overlays.HEIGHT
    end = max(line.at[-1] for line in lines)
    logs = [np.log10(np.maximum(line.tv, _LEAST_TV)) for line in lines]
    low, high = min(map(np.min, logs)) - 0.05, max(map(np.max, logs)) + 0.05
    parts = []
    for value in curves.ticks(0.0, end):
        x = width * value / end
        parts.append(_TICK_ACROSS.format(x, height, height + 12, f"{value:g}"))
    for value in _decades(low, high):
        y = height * (high - value) / (high - low)
        parts.append(_TICK_UP.format(y, width, y + 3.5, f"{10**value:.4g}"))
    for line, values in zip(lines, logs, strict=True):
        x = np.round(width * np.array(line.at) / end).astype(int).tolist()
        y = np.round(height * (high - values) / (high - low)).astype(int).tolist()
        parts.append(
            Markup('<path class="series shown {}" d="{}"><title>{}</title></path>').format(
                curves.style(numbers[line.method]),
                curves.path([list(zip(x, y, strict=True))]),
                line.method,
            )
        )
    foot = "seconds: slowest client + merge" if in_seconds else "share of the merge's training"
    return Markup(
        '<svg class="training" viewBox="-46 -6 {} {}" role="img" aria-label="{}">'
        '<rect class="frame" width="{}" height="{}"/>{}'
        '<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>'
        '<text class="axis" transform="translate(-36 {}) rotate(-90)" text-anchor="middle">tv'
        "</text></svg>"
    ).format(
        *(width + 56, height + 36),
        "Total variation as merges are trained: "
        + ", ".join(f"{line.method} {line.tv[0]:.3g} to {line.tv[-1]:.3g}" for line in lines),
        *(width, height, Markup("").join(parts)),
        *(width / 2, height + 27, foot, height / 2),
    )


def cells(maps: Maps, method: str) -> Markup:
    """A law on a lattice; every cell in the colour of its probability.

    Args:
        maps: of the board.
        method: whose; "" for the truth.
    """
    levels = maps.levels[method]
    columns, rows = levels.shape
    paths = []
    for level in range(1, LEVELS + 1):
        here = [f"M{x} {rows - 1 - y}h1v1h-1z" for x, y in np.argwhere(levels == level).tolist()]
        if here:
            paths.append(Markup('<path class="m{}" d="{}"/>').format(level, "".join(here)))
    return Markup(
        '<svg class="map" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
        '<rect class="m0" width="{0}" height="{1}"/>{3}</svg>'
    ).format(
        columns,
        rows,
        f"Probability of every cell: {method or 'the truth'}",
        Markup("").join(paths),
    )


def scale(maps: Maps) -> Markup:
    """The colours of a map, from nothing to the largest true probability."""
    steps = [
        Markup('<rect class="m{0}" x="{1}" width="20" height="10"/>').format(level, 20 * level)
        for level in range(LEVELS + 1)
    ]
    width = 20 * (LEVELS + 1)
    return Markup(
        '<svg class="scale" viewBox="-2 -1 {} 26" role="img" aria-label="{}">{}'
        '<rect class="frame" width="{}" height="10"/><text class="tick" y="22">0</text>'
        '<text class="tick" x="{}" y="22" text-anchor="middle">{:.3g}</text>'
        '<text class="tick" x="{}" y="22" text-anchor="end">{:.3g} or more</text></svg>'
    ).format(
        width + 4,
        f"Colours of probabilities from 0 to {maps.most:.3g}",
        Markup("").join(steps),
        *(width, width / 2, maps.most / 2, width, maps.most),
    )
