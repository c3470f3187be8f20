"""Figures of papers, drawn anew from our draws: densities of two parameters, panel by panel."""

import io
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dncbench.errors import DncbenchError, UnknownNameError, nearest
from dncbench.report.smoothing import joint, mass_levels
from dncbench.running.cached import Cached
from dncbench.running.plan import Case
from dncbench.running.progress import Progress
from dncbench.running.run import run
from dncbench.storage.cache import Cache
from dncbench.storage.files import write_atomically
from dncbench.storage.identity import identity_of

_FOLDER = Path(__file__).parents[1] / "problems" / "published"
_BINS = 160
_SMOOTHING = 3.0  # bins; 10 000 draws are rough on a finer scale
_MASSES = (0.95, 0.75, 0.5, 0.25)
_COLUMNS = 3
_TRUTH, _OURS = "#1f4e9c", "#d95f02"


@dataclass(frozen=True)
class Panel:
    """One set of axes: draws, and what they are drawn over in another colour."""

    title: str
    draws: list[Float[np.ndarray, "N d"]]
    truth: Float[np.ndarray, "N d"] | None


def names() -> list[str]:
    """All figures."""
    return sorted(_read())


def require_drawable(path: Path) -> None:
    """Make sure that a file's suffix says how to draw it, before anything is run for it.

    Raises:
        UnknownNameError: it does not.
    """
    known = (".svg", ".pdf", ".png")
    if path.suffix.lower() not in known:
        raise UnknownNameError(
            f"{path} does not say how to draw: give it one of the suffixes {', '.join(known)}"
        )


def draw(
    name: str,
    path: Path,
    *,
    budget: str = "quick",
    cache: str | None = None,
    progress: Progress,
) -> None:
    """Run what a figure shows, where it is not in the cache, and draw it.

    Args:
        name: one of :func:`names`.
        path: file to write; its suffix says how: .svg, .pdf or .png.
        budget: of the runs.
        cache: folder of draws; by default the user's.
        progress: display.

    Raises:
        UnknownNameError: no such figure.
        DncbenchError: a merge that the figure shows failed.
    """
    known = _read()
    if name not in known:
        raise UnknownNameError(
            f"no figure is called {name!r}{nearest(name, known)}; known: {', '.join(sorted(known))}"
        )
    wanted = known[name]
    panels, parameters = _panels(wanted, budget, cache, progress)
    _plot(wanted["title"], panels, parameters, path)


def _panels(
    wanted: dict[str, Any], budget: str, cache: str | None, progress: Progress
) -> tuple[list[Panel], tuple[str, ...]]:
    store = Cache(cache)
    case = Case(splits=1, **wanted["case"])
    records = run(
        [case],
        wanted["methods"],
        budget=budget,
        results=store.root / "figures",
        cache=cache,
        progress=progress,
    )
    failed = [record for record in records if record["status"] == "failed"]
    if failed:
        raise DncbenchError(f"{identity_of(failed[0]).method.label} failed: {failed[0]['reason']}")
    cached = Cached(records[0], store)
    assert cached.reference is not None  # just made or read
    truth, names = cached.reference.embedded[0], cached.problem.space.names
    if wanted["kind"] == "subposteriors":
        values = cached.subposteriors(0)
        assert values is not None
        shards = [cached.space.embed(shard) for shard in values]
        return [
            Panel("full posterior", [truth], None),
            Panel("subposteriors", shards, truth),
        ], names
    panels = [Panel("full posterior", [truth], None)]
    for record in records:
        theta = cached.merged(record)
        assert theta is not None
        panels.append(Panel(identity_of(record).method.label, [theta], truth))
    return panels, names


def _plot(title: str, panels: list[Panel], parameters: tuple[str, ...], path: Path) -> None:
    # Without pyplot: nothing to close, and no display is asked for.
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.0 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    everything = np.concatenate([draws for panel in panels for draws in panel.draws])[:, :2]
    low, high = np.quantile(everything, [0.002, 0.998], axis=0)
    margin = 0.1 * (high - low)
    box = low - margin, high + margin
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        for draws in panel.draws if panel.truth is not None else ():
            _contours(axes, draws, box, _OURS, 1.1 if len(panel.draws) == 1 else 0.5)
        # The truth comes last: fifteen subposteriors would hide it.
        _contours(axes, panel.draws[0] if panel.truth is None else panel.truth, box, _TRUTH, 1.3)
        axes.set(
            title=panel.title,
            xlabel=parameters[0],
            ylabel=parameters[1],
            xlim=(box[0][0], box[1][0]),
            ylim=(box[0][1], box[1][1]),
        )
        axes.title.set_fontsize(9)
        axes.tick_params(labelsize=7)
    figure.supxlabel(
        "Regions of 25, 50, 75 and 95%. Blue: full posterior; orange: merged or subposteriors.",
        fontsize=8,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:])
    write_atomically(path, drawn.getvalue())


def _contours(
    axes: Any,
    draws: Float[np.ndarray, "N d"],
    box: tuple[np.ndarray, np.ndarray],
    colour: str,
    width: float,
) -> None:
    """Lines around the smallest regions that hold 25, 50, 75 and 95% of the draws."""
    density = joint(draws, box, _BINS, _SMOOTHING)
    levels = mass_levels(density, len(draws), _MASSES)
    if not len(levels):  # the draws lie outside the box
        return
    step = (box[1] - box[0]) / _BINS
    centres = [box[0][i] + step[i] * (np.arange(_BINS) + 0.5) for i in (0, 1)]
    axes.contour(*centres, density.T, levels=levels, colors=colour, linewidths=width)


def _read() -> dict[str, dict[str, Any]]:
    return {
        name: figure
        for path in _FOLDER.glob("*.toml")
        for name, figure in tomllib.loads(path.read_text(encoding="utf-8"))
        .get("figures", {})
        .items()
    }
