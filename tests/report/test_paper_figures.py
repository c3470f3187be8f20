"""Figures: drawn from cached runs, every spec sound, refusals named."""

from pathlib import Path

import numpy as np
import pytest
from handmade import copied_plugins

from dncbench.configure import configure
from dncbench.errors import UnknownNameError
from dncbench.plugins import load_plugin
from dncbench.report import paper_figures as figures
from dncbench.running.progress import Silent


@pytest.mark.parametrize("name", figures.names())
def test_every_figure_names_problems_and_methods_that_exist(name: str) -> None:
    wanted = figures._read()[name]
    configure("problem", wanted["case"]["problem"])
    assert wanted["kind"] in ("merged", "subposteriors")
    assert wanted["title"]
    for method in wanted["methods"]:
        configure("method", method)


def test_an_unknown_figure_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean trojan2024-"):
        figures.draw("trojan2024-22", tmp_path / "f.svg", progress=Silent())


def test_subposteriors_are_drawn(
    tmp_path: Path, session_cache: Path, clean_registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_plugin(copied_plugins(tmp_path, "known")[1])
    wanted = figures._read()["trojan2024-5"]
    assert wanted["kind"] == "subposteriors"
    wanted |= {"case": {"problem": "known[num_shards=5]"}}
    monkeypatch.setattr(figures, "_read", lambda: {"known-5": wanted})
    path = tmp_path / "figure.svg"
    figures.draw("known-5", path, budget="smoke", cache=str(session_cache), progress=Silent())
    text = path.read_text()
    assert text.startswith("<?xml")
    # The posterior alone, and five shards over it.
    assert text.count("PathCollection") + text.count("QuadContourSet") == 7


def test_contours_hold_the_mass_they_name() -> None:
    from matplotlib.figure import Figure

    draws = np.random.default_rng(0).standard_normal((20_000, 2))
    axes = Figure().add_subplot()
    box = np.array([-4.0, -4.0]), np.array([4.0, 4.0])
    figures._contours(axes, draws, box, "#000000", 1.0)
    (lines,) = axes.collections
    # The outermost line is the circle that holds 95%: radius sqrt(-2 log 0.05) = 2.448.
    radius = np.linalg.norm(lines.get_paths()[0].vertices, axis=1).mean()
    assert radius == pytest.approx(2.448, abs=0.1)
