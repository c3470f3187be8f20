"""Overlays and learning curves as SVG: one path for each method, shown and hidden by the page."""

import math

from markupsafe import Markup

from dncbench.report import overlays
from dncbench.report.overlays import Line, Overlay

COLOURS = 8
"""Colours of the style sheet; a method beyond them gets the next dash."""

_FOOT = 30  # room for ticks and the coordinate's name


def style(number: int) -> str:
    """Classes of the colour and dash of the page's method of that number."""
    return f"c{number % COLOURS} d{number // COLOURS % 4}"


def marginal(overlay: Overlay, numbers: dict[str, int]) -> Markup:
    """Densities of one coordinate.

    Args:
        overlay: of one coordinate.
        numbers: of the methods on the page.
    """
    return _drawing(overlay, numbers, overlays.HEIGHT)


def pair(overlay: Overlay, numbers: dict[str, int]) -> Markup:
    """Contours of two coordinates."""
    return _drawing(overlay, numbers, overlays.WIDTH)


def _drawing(overlay: Overlay, numbers: dict[str, int], height: int) -> Markup:
    two = len(overlay.names) > 1
    what = "Contours of" if two else "Density of"
    parts = [
        _frame(overlay, height),
        Markup('<path class="truth" d="{}"/>').format(path(overlay.reference)),
        *(
            Markup(
                '<path class="series {}" data-series="{}" d="{}"><title>{}</title></path>'
            ).format(style(numbers[method]), numbers[method], path(lines), method)
            for method, lines in overlay.lines.items()
            if lines
        ),
    ]
    return Markup('<svg viewBox="{} -2 {} {}" role="img" aria-label="{}">{}</svg>').format(
        -22 if two else -2,
        overlays.WIDTH + (24 if two else 4),
        height + _FOOT + 2,
        f"{what} {' and '.join(overlay.names)}: the reference and every method chosen",
        Markup("").join(parts),
    )


def _frame(overlay: Overlay, height: int) -> Markup:
    (low, high), *others = overlay.ranges
    width = overlays.WIDTH
    parts = [Markup('<rect class="frame" width="{}" height="{}"/>').format(width, height)]
    for value in ticks(low, high):
        x = width * (value - low) / (high - low)
        parts.append(
            Markup(
                '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
                '<text class="tick" x="{0:.1f}" y="{3}" text-anchor="middle">{4:g}</text>'
            ).format(x, height, height + 4, height + 14, value)
        )
    name = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>')
    parts.append(name.format(width / 2, height + 27, overlay.names[0]))
    if others:
        ((low, high),) = others
        for value in ticks(low, high):
            y = height * (1 - (value - low) / (high - low))
            if y < 12:  # its text would leave the frame
                continue
            parts.append(
                Markup(
                    '<line class="grid" x1="-4" x2="0" y1="{0:.1f}" y2="{0:.1f}"/>'
                    '<text class="tick" x="3" y="{1:.1f}">{2:g}</text>'
                ).format(y, y - 2, value)
            )
        turned = Markup(
            '<text class="axis" transform="translate(-10 {}) rotate(-90)" '
            'text-anchor="middle">{}</text>'
        )
        parts.append(turned.format(height / 2, overlay.names[1]))
    return Markup("").join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Three to six round values."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * s for s in (1, 2, 5, 10) if power * s >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def path(lines: list[Line]) -> str:
    """Relative whole numbers: a third of the bytes of absolute ones."""
    text = []
    for (x, y), *rest in lines:
        text.append(f"M{x} {y}l")
        for next_x, next_y in rest:
            dx, dy = next_x - x, next_y - y
            text.append(f"{dx}{dy}" if dy < 0 else f"{dx} {dy}")
            text.append(" ")
            x, y = next_x, next_y
    return "".join(text).replace(" -", "-").strip()


def learning(curve: list[float], method: str) -> Markup:
    """Losses in the order of training, from the first to the last."""
    label = f"Loss of {method} over its training"
    return _curve(curve, "training, start to end", label)


def by_round(errors: list[float], method: str, metric: str) -> Markup:
    """A metric after every round of a method, from the first to the last."""
    return _curve(errors, f"{metric} after rounds 1 to {len(errors)}", f"{metric} of {method}")


def _curve(curve: list[float], foot: str, label: str) -> Markup:
    width, height = overlays.WIDTH, overlays.HEIGHT
    curve = [*curve[: -1 : math.ceil(len(curve) / width)], curve[-1]]
    low, high = min(curve), max(curve)
    span = (high / 2 - low / 2) or 1.0  # halves: a loss may be as large as numbers go
    line = [
        (round(width * i / (len(curve) - 1)), round(height * (1 - (value / 2 - low / 2) / span)))
        for i, value in enumerate(curve)
    ]
    return Markup(
        '<svg viewBox="-2 -2 {} {}" role="img" aria-label="{}">'
        '<rect class="frame" width="{}" height="{}"/><path class="series shown c0 d0" d="{}"/>'
        '<text class="tick" x="{}" y="12" text-anchor="end">{:.3g}</text>'
        '<text class="tick" x="4" y="{}">{:.3g}</text>'
        '<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text></svg>'
    ).format(
        *(width + 4, height + 24, label),
        *(width, height, path([line])),
        *(width - 4, high, height - 4, low),
        *(width / 2, height + 18, foot),
    )
