"""Noise floors: a metric that fails costs its own floor alone, and so does a store that fails."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dncbench import budget, registry
from dncbench.entry import Entry
from dncbench.errors import StorageError
from dncbench.metrics.sample import Figure, Sample
from dncbench.storage.cache import Cache
from dncbench.truth.floors import Floors, noise_floor

IDENTITY = {"id": "made@1"}
SMOKE = budget.get("smoke")


def blocks(width: float = 1.0) -> list[Sample]:
    rng = np.random.default_rng(0)
    into = np.array([[1.0, 1.0], [0.0, width]])
    return [Sample(v, 200.0, v) for v in rng.standard_normal((3, 200, 2)) @ into]


def returning(figure: Any) -> Entry:
    def target(approximation: Sample, reference: Sample) -> Any:
        if isinstance(figure, BaseException):
            raise figure
        return figure

    return Entry("metric", "mine", 1, "Made to fail.", "mine_plugin", target)


def floors(cache: Cache, *entries: Entry, said: list[str] | None = None, **shape: float) -> Floors:
    made = blocks(**shape)
    told = [] if said is None else said
    return noise_floor(made, made[0], list(entries), IDENTITY, cache, told.append)


def shipped(*names: str) -> list[Entry]:
    return [registry.get("metric", name) for name in names]


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (SystemExit(0), "raised ExitError: it raised SystemExit(0)"),
        (1.0, "returned float"),
        (Figure("many", 0.1), "raised ValueError"),
        (Figure(1j, 0.1), "raised TypeError"),
        (Figure(np.nan, 0.1), "mean: nan is not a number"),
        (Figure(-np.inf, 0.1), "mean: -inf is not a number"),
        (Figure(1e200, 0.1), "mean: 1e+200 is not a number"),
    ],
)
def test_a_metric_that_fails_is_left_out_with_a_line(tmp_path, figure: Any, reason: str) -> None:
    said: list[str] = []
    mah, skew = shipped("mah", "skew")
    found = floors(Cache(tmp_path), mah, returning(figure), skew, said=said)
    assert found.levels == floors(Cache(tmp_path / "other"), mah, skew).levels
    assert found.failed.keys() == {"mine@1"}
    assert reason in found.failed["mine@1"]
    assert said == [f"metric mine@1 of mine_plugin is left out of made@1; {found.failed['mine@1']}"]


def test_it_is_tried_again(tmp_path) -> None:
    cache = Cache(tmp_path)
    for broken in (ValueError("not yet"), Figure(np.nan, 0.1)):
        assert floors(cache, returning(broken)).levels == {}
    assert floors(cache, returning(Figure(0.5, 0.1))).levels == {
        "mine@1": {"mean": 0.5, "sd": 0.0, "max": 0.5, "standard_error": 0.0}
    }


def test_a_straight_line_against_the_raw_year_has_floors(tmp_path) -> None:
    # Intercept and slope of a year near 2000 have a correlation of -.9999 or so.
    entries = shipped("c2st", "mah", "iad", "cov", "sw2")
    found = floors(Cache(tmp_path), *entries, width=0.0141)
    assert found.failed == {}
    assert found.levels.keys() == {entry.id for entry in entries}


def test_collinear_draws_cost_the_metrics_that_need_a_covariance(tmp_path) -> None:
    found = floors(Cache(tmp_path), *shipped("c2st", "mah", "iad", "cov"), width=0.0)
    assert found.levels.keys() == {"c2st@1", "iad@1"}
    assert found.failed.keys() == {"mah@1", "cov@1"}
    assert "a coordinate is a linear function of others" in found.failed["mah@1"]


def test_a_store_that_fails_costs_nothing(tmp_path, monkeypatch, capsys) -> None:
    expected = floors(Cache(tmp_path), *shipped("mah"))
    full = Cache(tmp_path / "full")

    def refuse(*arguments: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("dncbench.storage.cache.write_atomically", refuse)
    assert floors(full, *shipped("mah")) == expected
    assert capsys.readouterr().err == f"dncbench: {full.root} keeps nothing: no space left\n"


@pytest.mark.parametrize("kept", [np.array([np.nan]), np.ones((2, 2)), np.ones(3, int)])
def test_readings_that_are_none_are_set_aside(tmp_path, monkeypatch, capsys, kept) -> None:
    cache = Cache(tmp_path)
    expected = floors(cache, *shipped("mah"))
    (file,) = (tmp_path / "floors").glob("*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(Cache, "path", lambda *arguments: file)
        cache.put("floors", {}, {"values": kept}, {})
    assert floors(cache, *shipped("mah")) == expected
    assert "is damaged" in capsys.readouterr().err


# ---------------------------------------------------------------- what is read


def counted() -> tuple[Entry, list[tuple[Sample, Sample]]]:
    """A metric that numbers its readings, and what it was asked to read."""
    calls: list[tuple[Sample, Sample]] = []

    def count(approximation: Sample, reference: Sample) -> Figure:
        calls.append((approximation, reference))
        return Figure(float(len(calls)), 0.1)

    return Entry("metric", "count", 1, "Counts.", "test", count), calls


def test_floors_are_over_disjoint_subsets_of_the_pool_and_kept(tmp_path: Path) -> None:
    entry, calls = counted()
    draws = np.random.default_rng(7).standard_normal((3, SMOKE.num_draws, 2))  # none twice
    cache, made = Cache(tmp_path), [Sample(values, 1200.0, values) for values in draws]
    read = lambda: noise_floor(  # noqa: E731
        made, made[0], [entry], IDENTITY, cache, headline=("count",)
    ).levels["count@1"]
    first = read()
    # Numbers 1 to R have a relative standard error of 1 / sqrt(3 R): 134 of them for 5 %.
    number = len(calls)
    assert 130 <= number <= 136
    assert (first["mean"], first["max"]) == ((number + 1) / 2, number)
    assert first["standard_error"] == pytest.approx(first["sd"] / np.sqrt(number))
    pool = {row.tobytes() for row in draws.reshape(-1, 2)}
    seen = set()
    for pair in calls:
        rows = [row.tobytes() for each in pair for row in each.values]
        assert len(set(rows)) == len(rows) == 2 * SMOKE.num_draws
        assert pool.issuperset(rows)
        assert all(each.eta is not None for each in pair)
        np.testing.assert_array_equal(pair[0].values, pair[0].eta)  # one row of one draw
        seen.add(frozenset(rows[: SMOKE.num_draws]))
    assert len(seen) == number
    assert read() == first
    assert len(calls) == number


def test_metrics_that_decide_no_ranks_are_read_as_often_as_blocks_have_pairs(
    tmp_path: Path,
) -> None:
    entry, calls = counted()
    made = [Sample(np.eye(4)[:, :2] + block, 4.0) for block in range(5)]
    floor = noise_floor(made, made[0], [entry], IDENTITY, Cache(tmp_path)).levels["count@1"]
    assert len(calls) == floor["max"] == 10
    assert floor["standard_error"] == pytest.approx(floor["sd"] / np.sqrt(10))


def test_against_an_exact_law_every_block_is_read_once(tmp_path: Path) -> None:
    rng, law = np.random.default_rng(8), np.array([0.2, 0.3, 0.5])
    made = [
        Sample(codes[:, None].astype(float), 1200.0, codes=codes)
        for codes in rng.choice(3, (4, 1200), p=law)
    ]
    truth = dataclasses.replace(made[0], log_probs=np.log(law))
    entry, calls = counted()
    entry = dataclasses.replace(entry, reads=("codes",))
    floor = noise_floor(made, truth, [entry], IDENTITY, Cache(tmp_path)).levels["count@1"]
    sd = np.sqrt(5 / 3)
    assert floor == {
        "mean": 2.5,
        "sd": pytest.approx(sd),
        "max": 4.0,
        "standard_error": pytest.approx(sd / 2),
    }
    assert [(a, f) for a, f in calls] == [(one, truth) for one in made]
    # A metric of points does not know the law: for it the blocks are held against each other.
    entry, calls = counted()
    noise_floor(made, truth, [entry], IDENTITY | {"points": True}, Cache(tmp_path))
    assert len(calls) == 6  # of four blocks
    assert all(truth not in pair for pair in calls)
    # A metric that reads exact laws reads the truth itself: that is what a perfect merge knows.
    entry, calls = counted()
    entry = dataclasses.replace(entry, reads=("codes", "log_probs"))
    noise_floor(made, truth, [entry], IDENTITY | {"laws": True}, Cache(tmp_path))
    assert [(a, f) for a, f in calls] == [(truth, truth)] * 4
