"""Accuracy against time as SVG: both axes logarithmic, every point labelled."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from dncbench.report.pareto import Point

_WIDTH, _HEIGHT = 680, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 14, 46
_CHARACTER, _LINE = 6.3, 13.0  # of a label, in user units

_Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from ``low`` to ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1,) if math.log10(self.high / self.low) > 2.2 else (1, 2, 5)
        values = [step * 10.0**decade for decade in decades for step in steps]
        return [value for value in values if self.low <= value <= self.high]


def scatter(points: list[Point], floor: dict[str, float], metric: str) -> Markup:
    """The drawing.

    Args:
        points: at least one.
        floor: mean and sd of what perfect draws read.
        metric: name, for the axis.
    """
    across = _axis([p.seconds for p in points], 1.6, _LEFT, _WIDTH - _RIGHT)
    top_of_floor = floor["mean"] + 2 * floor["sd"]
    values = [p.value for p in points] + (
        [floor["mean"], top_of_floor] if floor["mean"] > 0 else []
    )
    up = _axis(values, 1.5, _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(across, up, metric)]
    if floor["mean"] > 0:
        high, low = up.place(top_of_floor), up.place(floor["mean"])
        parts.append(
            Markup(
                '<rect class="floor" x="{}" y="{:.1f}" width="{}" height="{:.1f}"/>'
                '<line class="floor" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="note" x="{}" y="{:.1f}">noise floor, and two sds above it</text>'
            ).format(
                *(_LEFT, high, _WIDTH - _RIGHT - _LEFT, low - high),
                *(_LEFT, _WIDTH - _RIGHT, low, low),
                *(_LEFT + 6, low + 12),
            )
        )
    places = [(across.place(p.seconds), up.place(p.value)) for p in points]
    parts.append(_front(points, places))
    parts += [_dot(p, place) for p, place in zip(points, places, strict=True)]
    parts += _labels(points, places, _segments(points, places))
    return Markup(
        '<svg class="scatter" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(_WIDTH, _HEIGHT, _described(points, metric), Markup("").join(parts))


def _axis(values: list[float], room: float, start: float, end: float) -> _Axis:
    low, high = min(values) / room, max(values) * room
    if high / low < 10:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(10), middle * math.sqrt(10)
    return _Axis(low, high, start, end)


def _described(points: list[Point], metric: str) -> str:
    front = ", ".join(f"{p.method} ({p.seconds:.3g} s, {p.value:.3g})" for p in points if p.front)
    return f"{metric} against seconds, {len(points)} methods. The front: {front or 'none'}."


def _grid(across: _Axis, up: _Axis, metric: str) -> Markup:
    lines = []
    for value in across.ticks():
        x = across.place(value)
        lines.append(
            Markup(
                '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
                '<text class="tick" x="{0:.1f}" y="{3}" text-anchor="middle">{4:g}</text>'
            ).format(x, _TOP, _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM + 16, value)
        )
    for value in up.ticks():
        y = up.place(value)
        lines.append(
            Markup(
                '<line class="grid" x1="{1}" x2="{2}" y1="{0:.1f}" y2="{0:.1f}"/>'
                '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5:g}</text>'
            ).format(y, _LEFT, _WIDTH - _RIGHT, _LEFT - 6, y + 4, value)
        )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    titles = Markup(
        '<text class="axis" x="{}" y="{}" text-anchor="middle">seconds: slowest fit + merge</text>'
        '<text class="axis" transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, middle, f"{metric} (lower is better)")
    return Markup("").join([*lines, titles])


def _front(points: list[Point], places: list[tuple[float, float]]) -> Markup:
    """Steps: at any time, the nearest that can be had by then."""
    steps = [f"{x:.1f} {y:.1f}" for x, y in _corners(points, places)]
    return Markup('<path class="front" d="{}"/>').format("M" + "L".join(steps) if steps else "")


def _corners(points: list[Point], places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    corners: list[tuple[float, float]] = []
    for point, (x, y) in zip(points, places, strict=True):
        if point.front:
            corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    return [*corners, (_WIDTH - _RIGHT, corners[-1][1])] if corners else []


def _segments(points: list[Point], places: list[tuple[float, float]]) -> list[_Rectangle]:
    """The front as thin rectangles, which labels keep off."""
    corners = _corners(points, places)
    return [
        (min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in itertools.pairwise(corners)
    ]


def _dot(point: Point, place: tuple[float, float]) -> Markup:
    kind = "front" if point.front else "unreliable" if point.unreliable else "plain"
    note = ", its own sampling did not converge" if point.unreliable else ""
    return Markup(
        '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}: {:.3g} s, {:.3g}{}'
        "</title></circle>"
    ).format(kind, *place, 5 if point.front else 4, point.method, point.seconds, point.value, note)


def _labels(
    points: list[Point], places: list[tuple[float, float]], lines: list[_Rectangle]
) -> list[Markup]:
    """A label for each point, as near as there is room; the front chooses first."""
    taken = lines + [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    made = []
    for i in sorted(range(len(points)), key=lambda i: not points[i].front):
        text = points[i].method + "?" * points[i].unreliable
        box = _room(*places[i], _CHARACTER * len(text), taken)
        taken.append(box)
        made.append(_label(text, points[i].front, places[i], box))
    return made


def _room(x: float, y: float, width: float, taken: list[_Rectangle]) -> _Rectangle:
    best, least = None, math.inf
    for distance in (8, 16, 26, 38, 52, 70, 90):
        boxes = []
        for turn in range(16):
            angle = turn * math.pi / 8
            dx, dy = distance * math.cos(angle), distance * math.sin(angle)
            left = x + dx - width * (0.5 - 0.5 * math.cos(angle))
            boxes.append((left, y + dy - _LINE / 2, left + width, y + dy + _LINE / 2))
        overlaps = [
            shared + 50 * _outside(box)
            for box, shared in zip(boxes, _shared(boxes, taken), strict=True)
        ]
        nearest = min(range(16), key=overlaps.__getitem__)
        if overlaps[nearest] < least:
            best, least = boxes[nearest], overlaps[nearest]
        if least == 0:
            break
    assert best is not None
    return best


def _shared(boxes: list[_Rectangle], others: list[_Rectangle]) -> list[float]:
    """How much of each box the others cover, those that overlap counted twice."""
    one, other = np.array(boxes)[:, None], np.array(others)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    covered: list[float] = np.prod(np.maximum(sides, 0.0), axis=-1).sum(-1).tolist()
    return covered


def _outside(box: _Rectangle) -> float:
    return (
        max(_LEFT + 2 - box[0], 0)
        + max(box[2] - _WIDTH, 0)
        + max(-box[1], 0)
        + max(box[3] - (_HEIGHT - _BOTTOM), 0)
    )


def _label(text: str, front: bool, place: tuple[float, float], box: _Rectangle) -> Markup:
    x, y = place
    near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    far = math.hypot(near[0] - x, near[1] - y) > 12
    leader = (
        Markup('<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
            x, y, *near
        )
        if far
        else Markup("")
    )
    return leader + Markup(
        '<text class="label{}" x="{:.1f}" y="{:.1f}" textLength="{:.0f}" '
        'lengthAdjust="spacingAndGlyphs">{}</text>'
    ).format(" front" if front else "", box[0], box[3] - 3, box[2] - box[0], text)
