"""Laws on objects against the true one: object by object, client by client, and as maps.

Every object is drawn. Places are whole numbers on a drawing of fixed size, and objects at one
place are one dot, so that a page of many boards stays small.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dncbench.running.cached import Cached

SIDE = 140
"""Of a drawing of probabilities, in user units."""

DECADES = 12
"""How far the smallest probability that is drawn in its place lies below the largest."""

LEVELS = 10
"""Steps of a map's colour scale."""

_BELOW, _ABOVE = 0.25, 0.08  # of the range of the truth: room for learned probabilities outside it
_LEAST = 0.5  # decades
_MOST_MAPS, _MOST_CLIENTS = 12, 12


@dataclass(frozen=True)
class Axes:
    """Decimal logarithms of probabilities: true ones across, learned ones up, on one scale.

    Attributes:
        low, high: of true ones.
        bottom, top: of learned ones.
    """

    low: float
    high: float
    bottom: float
    top: float

    @property
    def height(self) -> float:
        """Of the drawing, in user units."""
        return SIDE * (self.top - self.bottom) / (self.high - self.low)

    def across(self, logs: Any) -> Any:
        """User units from the left."""
        return SIDE * (logs - self.low) / (self.high - self.low)

    def down(self, logs: Any) -> Any:
        """User units from the top."""
        return SIDE * (self.top - logs) / (self.high - self.low)


@dataclass(frozen=True)
class Cloud:
    """A dot for each object, at its true and its learned probability.

    Attributes:
        axes: of the drawing.
        places: different ones, in user units, in order; what lies outside is at the edge.
        tv: total variation between the two laws.
    """

    axes: Axes
    places: Int[np.ndarray, "n 2"]
    tv: float


@dataclass(frozen=True)
class Maps:
    """Laws on a full lattice of two coordinates.

    Attributes:
        names: of the coordinates; the first goes across, the second up.
        ranges: (smallest, largest) value of each.
        most: the largest true probability, where the colour scale ends.
        levels: by method, and of the truth under "": the step of every cell's colour, across
            and up.
        left_out: methods for which there is no room.
    """

    names: tuple[str, str]
    ranges: tuple[tuple[float, float], tuple[float, float]]
    most: float
    levels: dict[str, Int[np.ndarray, "A B"]]
    left_out: list[str]


@dataclass(frozen=True)
class Laws:
    """Of one board.

    Attributes:
        num_objects: K.
        merged: by method, in the order of the board.
        shares: methods whose law is the shares of their draws.
        clients: by method, of those whose clients' laws are known.
        maps: of a problem on a lattice.
    """

    num_objects: int
    merged: dict[str, Cloud]
    shares: list[str]
    clients: dict[str, list[Cloud]]
    maps: Maps | None


def read_laws(
    cached: Cached, records: dict[str, dict[str, Any]], truth: Float[np.ndarray, " K"], split: int
) -> tuple[Laws, list[str]]:
    """What the cache has of the laws on a board.

    Args:
        cached: the problem.
        records: by method, of the split that is shown.
        truth: probabilities of all objects.
        split: its number.

    Returns:
        The laws, and the methods whose clients' laws a run has kept and the cache lost.
    """
    found = {method: cached.law(record) for method, record in records.items()}
    merged = {method: law for method, law in found.items() if law is not None}
    axes = _axes(truth)
    kept = {m: cached.client_laws(records[m]) for m in merged if "client_laws" in records[m]}
    learned = {method: laws for method, laws in kept.items() if laws is not None}
    made = Laws(
        len(truth),
        {method: cloud(axes, truth, law) for method, (law, _) in merged.items()},
        [method for method, (_, said) in merged.items() if not said],
        clients(cached.true_client_laws(split) if learned else None, learned),
        maps(
            cached.space.embed(np.arange(len(truth))),
            cached.space.names,
            truth,
            {method: law for method, (law, _) in merged.items()},
        ),
    )
    return made, [method for method in kept if method not in learned]


def clients(
    truth: Float[np.ndarray, "S K"] | None, learned: dict[str, Float[np.ndarray, "S K"]]
) -> dict[str, list[Cloud]]:
    """By method a cloud for each of the first clients, all on one scale."""
    if truth is None:
        return {}
    axes = _axes(truth)
    return {
        method: [cloud(axes, *pair) for pair in zip(truth[:_MOST_CLIENTS], laws, strict=False)]
        for method, laws in learned.items()
    }


def cloud(axes: Axes, truth: Float[np.ndarray, " K"], law: Float[np.ndarray, " K"]) -> Cloud:
    """One law against the truth."""
    x = np.clip(axes.across(_logs(truth)), 0, SIDE)
    y = np.clip(axes.down(_logs(law)), 0, axes.height)
    places = np.unique(np.round(np.column_stack([x, y])).astype(int), axis=0)
    return Cloud(axes, places, 0.5 * float(np.abs(law - truth).sum()))


def _axes(truth: Float[np.ndarray, "*S K"]) -> Axes:
    logs = _logs(truth)
    high = float(logs.max())
    low = max(float(logs.min()), high - DECADES)
    span = max(high - low, _LEAST)
    return Axes(low - 0.03 * span, high + 0.03 * span, low - _BELOW * span, high + _ABOVE * span)


def _logs(probs: np.ndarray) -> np.ndarray:
    """Decimal logarithms; of what is not drawn in its place, some number."""
    return np.log10(np.maximum(probs, 1e-300))


def maps(
    points: Float[np.ndarray, "K p"],
    names: tuple[str, ...],
    truth: Float[np.ndarray, " K"],
    merged: dict[str, Float[np.ndarray, " K"]],
) -> Maps | None:
    """Maps of the truth and of every law; None where the objects are no full lattice."""
    span = np.ptp(points, axis=0)
    if len(names) != 2 or not span.all():
        return None
    scaled = np.round((points - points.min(0)) / span, 9)  # equal to the last digit or not
    x, y = (np.unique(column, return_inverse=True)[1] for column in scaled.T)
    shape = x.max() + 1, y.max() + 1
    if len(np.unique(x * shape[1] + y)) != shape[0] * shape[1] or len(x) != shape[0] * shape[1]:
        return None

    def levels(law: np.ndarray) -> np.ndarray:
        grid = np.empty(shape)
        grid[x, y] = law
        return np.minimum(np.round(LEVELS * grid / truth.max()), LEVELS).astype(int)

    (left, right), (low, high) = np.column_stack([points.min(0), points.max(0)]).tolist()
    shown = list(merged)[: _MOST_MAPS - 1]
    return Maps(
        (names[0], names[1]),
        ((left, right), (low, high)),
        float(truth.max()),
        {"": levels(truth)} | {method: levels(merged[method]) for method in shown},
        list(merged)[len(shown) :],
    )
