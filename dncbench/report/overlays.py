"""Every method's draws over the reference's: marginal densities and one pair's contours.

Curves are thinned to whole numbers on a drawing of fixed size, so that a page of many
problems stays small.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dncbench.report import smoothing as densities

WIDTH, HEIGHT = 300, 150
"""Of a marginal's drawing, in user units; the pair's is a square of ``WIDTH``."""

MASSES = (0.95, 0.5)
_BINS, _PAIR_BINS, _SMOOTHING = 75, 60, 1.8
_HEADROOM = 1.6
"""Height of the drawing over that of the reference's density; what is higher is cut."""
_COORDINATES = 3

Line = list[tuple[int, int]]
"""Points in user units."""


@dataclass(frozen=True)
class Overlay:
    """One drawing.

    Attributes:
        names: of one coordinate, or of two.
        ranges: (low, high) of each.
        reference: lines of the truth.
        lines: for each method; none where its draws lie outside the drawing.
    """

    names: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    reference: list[Line]
    lines: dict[str, list[Line]]


def overlays(
    truth: Float[np.ndarray, "N d"],
    merged: dict[str, Float[np.ndarray, "M d"]],
    names: tuple[str, ...],
) -> tuple[list[Overlay], Overlay | None]:
    """Marginals of a few telling coordinates, and a pair (None where d is 1).

    Args:
        truth: reference draws.
        merged: draws by method.
        names: of the d coordinates.
    """
    chosen = telling(truth, list(merged.values()))
    pair = None
    if truth.shape[1] > 1:
        pair = _pair(truth, merged, names, (chosen[0], _partner(truth, chosen[0])))
    return [_marginal(truth, merged, names, i) for i in chosen], pair


def telling(truth: Float[np.ndarray, "N d"], merged: list[np.ndarray]) -> list[int]:
    """Coordinates worth looking at: most misplaced, most misshapen, most skewed.

    The first two by the median over methods, in sds of the reference; each once.
    """
    mean, sd = truth.mean(0), truth.std(0)
    skew = np.abs(np.mean(((truth - mean) / sd) ** 3, axis=0))
    rankings = [skew]
    if merged:
        shift = [np.abs(draws.mean(0) - mean) / sd for draws in merged]
        width = [np.abs(np.log(np.maximum(draws.std(0), 1e-12 * sd) / sd)) for draws in merged]
        rankings = [np.median(shift, axis=0), np.median(width, axis=0), skew]
    found: list[int] = []
    for ranking in rankings:
        order = [int(i) for i in np.argsort(-ranking, kind="stable") if i not in found]
        found += order[:1]
    rest = [i for i in range(truth.shape[1]) if i not in found]
    return (found + rest)[: min(_COORDINATES, truth.shape[1])]


def _partner(truth: Float[np.ndarray, "N d"], first: int) -> int:
    """The coordinate most correlated with another one."""
    correlation = np.abs(np.corrcoef(truth.T)[first])
    correlation[first] = -1.0
    return int(np.argmax(correlation))


def _range(truth: Float[np.ndarray, " N"], margin: float) -> tuple[float, float]:
    low, high = np.quantile(truth, [0.001, 0.999])
    return float(low - margin * (high - low)), float(high + margin * (high - low))


def _marginal(
    truth: np.ndarray, merged: dict[str, np.ndarray], names: tuple[str, ...], i: int
) -> Overlay:
    low, high = _range(truth[:, i], 0.25)
    width = densities.bandwidth(truth[:, i])
    reference = densities.marginal(truth[:, i], low, high, _BINS, width)
    top = _HEADROOM * reference.max()

    def line(draws: np.ndarray) -> list[Line]:
        density = densities.marginal(draws[:, i], low, high, _BINS, width)
        return _traced(density, top)

    return Overlay(
        (names[i],),
        ((low, high),),
        _traced(reference, top),
        {method: line(draws) for method, draws in merged.items()},
    )


def _traced(density: Float[np.ndarray, " bins"], top: float) -> list[Line]:
    """A density as one line from left to right, without points inside straight flat runs."""
    heights = np.minimum(density / top, 1.0)
    y = np.round(HEIGHT * (1 - heights)).astype(int)
    if np.all(y == HEIGHT):
        return []
    x = np.round(WIDTH * (np.arange(len(y)) + 0.5) / len(y)).astype(int)
    kept = np.ones(len(y), dtype=bool)
    kept[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return [list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))]


def _pair(
    truth: np.ndarray, merged: dict[str, np.ndarray], names: tuple[str, ...], pair: tuple[int, int]
) -> Overlay:
    ranges = tuple(_range(truth[:, i], 0.2) for i in pair)
    box = np.array([r[0] for r in ranges]), np.array([r[1] for r in ranges])
    columns = list(pair)
    return Overlay(
        tuple(names[i] for i in pair),
        ranges,
        contours(truth[:, columns], box),
        {method: contours(draws[:, columns], box) for method, draws in merged.items()},
    )


def contours(draws: Float[np.ndarray, "N 2"], box: densities.Box) -> list[Line]:
    """Lines around the smallest regions that hold :data:`MASSES` of the draws."""
    from contourpy import contour_generator

    density = densities.joint(draws, box, _PAIR_BINS, _SMOOTHING)
    levels = densities.mass_levels(density, len(draws), MASSES)
    scale = WIDTH / _PAIR_BINS
    generator = contour_generator(z=density)
    found = []
    for level in levels:
        for vertices in generator.lines(float(level)):
            across, up = (np.asarray(vertices)[:, [1, 0]] + 0.5).T * scale
            points = zip(np.round(across).tolist(), np.round(WIDTH - up).tolist(), strict=True)
            line = _thinned([(int(x), int(y)) for x, y in points])
            if len(line) > 2:
                found.append(line)
    return found


def _thinned(line: Line, apart: int = 4) -> Line:
    """Points at least so far apart; the ends stay."""
    kept = line[:1]
    for point in line[1:-1]:
        if abs(point[0] - kept[-1][0]) + abs(point[1] - kept[-1][1]) >= apart:
            kept.append(point)
    return [*kept, line[-1]]
