"""What an earlier model or method left behind is never taken for the present one's."""

from pathlib import Path

import numpy as np
import pytest
from handmade import PLUGINS, import_shipped

from dncbench import registry
from dncbench.plugins import load_plugin
from dncbench.running.run import certified, run
from dncbench.storage.cache import Cache
from dncbench.storage.records import Records


@pytest.fixture(autouse=True)
def _clean(clean_registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few metrics, lest every run read the noise floors of all."""
    import_shipped()
    few = {name: registry.get("metric", name) for name in ("mah", "iad")}
    monkeypatch.setitem(registry._registered, "metric", few)
    monkeypatch.setattr(
        registry,
        "entries",
        lambda kind: sorted(registry._registered[kind].values(), key=lambda entry: entry.name),
    )


def load(folder: Path, name: str, replaced: dict[str, str] | None = None) -> None:
    """A test plugin, with another text where wanted; a new folder is a new module."""
    text = (PLUGINS / f"{name}.py").read_text()
    for old, new in (replaced or {}).items():
        assert old in text
        text = text.replace(old, new)
    folder.mkdir()
    (folder / f"{name}.py").write_text(text)
    for entries in registry._registered.values():
        entries.pop(name, None)
    load_plugin(folder / f"{name}.py")


NARROW = {"PRIOR_VARIANCE = 4.0": "PRIOR_VARIANCE = 0.0025"}


def test_an_edited_problem_has_a_reference_of_its_own(tmp_path: Path) -> None:
    load(tmp_path / "wide", "known")
    wide = certified("known", budget="smoke", cache=tmp_path / "cache").reference
    load(tmp_path / "narrow", "known", NARROW)
    ready = certified("known", budget="smoke", cache=tmp_path / "cache")
    # Prior N(0, 0.05²) on 60 points of unit noise: precision 400 + 60.
    mean = np.asarray(ready.data.train).sum(0) / 460
    found = ready.reference.blocks.reshape(-1, 2)
    assert np.abs(found.mean(0) - mean).max() < 5 / np.sqrt(460 * len(found))
    assert np.abs(wide.blocks.mean((0, 1)) - mean).max() > 0.5


def test_an_edited_method_is_run_again(tmp_path: Path) -> None:
    load(tmp_path / "problem", "known")
    common = {"splits": 1, "budget": "smoke", "results": tmp_path, "cache": tmp_path / "cache"}
    load(tmp_path / "first", "median")
    (first,) = run("known", ["median"], **common)
    assert run("known", ["median"], **common) == [first]
    load(tmp_path / "second", "median", {"axis=0)": "axis=0) + 1.0"})
    (second,) = run("known", ["median"], **common)
    assert second["identity"]["method"]["id"] != first["identity"]["method"]["id"]
    assert second["metrics"]["mah@1"]["value"] > first["metrics"]["mah@1"]["value"] + 1
    assert len(list(Records(tmp_path))) == 2


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("references", "shifted"),
        ("draws", "shifted"),
        ("references", "shape"),
        ("draws", "missing"),
    ],
)
def test_cached_draws_are_held_against_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, fault: str
) -> None:
    """A file whose checksum is right may hold draws of another model all the same."""
    load(tmp_path / "plugin", "known")
    common = {"splits": 1, "budget": "smoke", "force": True}
    common |= {"results": tmp_path, "cache": tmp_path / "cache"}
    (before,) = run("known", ["average"], **common)
    cache, name = Cache(tmp_path / "cache"), {"references": "pool", "draws": "values"}[kind]
    (path,) = (cache.root / kind).glob("*.npz")
    cache.path = lambda kind, key: path  # type: ignore[method-assign]
    arrays, info = cache.get(kind, {})
    spoilt = {
        "shifted": lambda: arrays | {name: arrays[name] + 0.01},
        "missing": lambda: {key: value for key, value in arrays.items() if key != name},
        "without scores": lambda: {key: value for key, value in arrays.items() if key != "score"},
        "shape": lambda: arrays | {name: arrays[name][..., :1]},
    }[fault]()
    cache.put(kind, {}, spoilt, info)
    (after,) = run("known", ["average"], **common)
    assert "set aside as" in capsys.readouterr().err
    assert path.with_suffix(".damaged").is_file()
    assert after["metrics"] == before["metrics"]


def test_kept_draws_of_another_merge_are_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tmp_path / "plugin", "known")
    common = {"splits": 1, "budget": "smoke", "results": tmp_path, "cache": tmp_path / "cache"}
    (record,) = run("known", ["average"], **common)
    cache = Cache(tmp_path / "cache")
    (path,) = (cache.root / "merged").glob("*.npz")
    cache.path = lambda kind, key: path  # type: ignore[method-assign]
    arrays, info = cache.get("merged", {})
    cache.put("merged", {}, arrays | {"location": arrays["location"] + 1.0}, info)
    value = record["metrics"].pop("mah@1")
    Records(tmp_path).put(record)
    (again,) = run("known", ["average"], **common)
    assert again["metrics"]["mah@1"] == value
    assert "not those that the record is of" in capsys.readouterr().err


def test_a_far_posterior_is_scored_from_kept_draws_as_at_first(tmp_path: Path) -> None:
    """Mean 30 000, sd 0.0016: float32 by itself knows 0.002 there."""
    load(
        tmp_path / "plugin",
        "known",
        {"OFFSET, NOISE = 0.0, 1.0": "OFFSET, NOISE = 3e4, 0.0125"}
        | {"PRIOR_VARIANCE = 4.0": "PRIOR_VARIANCE = 1e12"},
    )
    common = {"splits": 1, "budget": "smoke", "results": tmp_path, "cache": tmp_path / "cache"}
    (record,) = run("known", ["oracle"], **common)
    assert record["status"] == "ok"
    first = record["metrics"].pop("iad@1")
    Records(tmp_path).put(record)
    (again,) = run("known", ["oracle"], **common)
    assert again["metrics"]["iad@1"]["value"] == pytest.approx(first["value"], rel=1e-4)
