"""The command line: what a run does, records and leaves behind."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from handmade import copied_plugins

from dncbench import registry
from dncbench.cli import main
from dncbench.storage.identity import identity_of
from dncbench.storage.records import Records


def _invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, session_cache, module_registry):
    """One smoke run of a plugin's problem and methods, one of which raises."""
    folder = tmp_path_factory.mktemp("tiny")
    plugins = copied_plugins(folder, "tiny", "median", "broken")
    common = [*plugins, "--problem", "tiny", "--budget", "smoke", "--splits", "2"]
    common += ["--metric", "all", "--results", folder, "--cache", session_cache]
    good = ["--method", "average", "--method", "median", "--method", "oracle"]
    bad = ["--method", "broken"]
    return SimpleNamespace(
        folder=folder,
        plugins=plugins,
        cache=session_cache,
        common=common,
        good=good,
        first=_invoke("run", *common, *good, *bad),
        second=_invoke("run", *common, *good),
    )


def _statuses(folder):
    return {
        (identity_of(each).method.name, identity_of(each).split): each["status"]
        for each in Records(folder)
    }


# ---------------------------------------------------------------- a run


def test_method_that_raises_is_recorded_and_the_others_go_on(tiny):
    assert tiny.first.exit_code == 1
    assert "8 cells run, 0 skipped (recorded before), 2 failed" in tiny.first.stdout
    expected = {(m, s): "ok" for m in ("average", "median", "oracle") for s in (0, 1)}
    expected |= {("broken", s): "failed" for s in (0, 1)}
    assert _statuses(tiny.folder) == expected
    reasons = {each["reason"] for each in Records(tiny.folder) if each["status"] == "failed"}
    assert reasons == {"RuntimeError: no luck on this shard"}
    assert "failed: tiny, split 0, broken: RuntimeError: no luck on this shard" in (
        tiny.first.stderr
    )


def test_second_run_skips_everything(tiny):
    assert tiny.second.exit_code == 0
    assert "0 cells run, 6 skipped (recorded before), 0 failed" in tiny.second.stdout


def test_records_hold_every_metric_with_floor_and_error(tiny):
    metrics = {entry.id for entry in registry.entries("metric")}
    for each in Records(tiny.folder):
        if each["status"] == "ok":
            assert each["metrics"].keys() | {*each["metrics_not_applicable"]} == metrics
            points = {e.id for e in registry.entries("metric") if {"values", "eta"} & {*e.reads}}
            assert set(each["metrics_not_applicable"]) == (metrics - points) | {"modes@1"}
            for figure in each["metrics"].values():
                assert figure.keys() == {"value", "standard_error", "noise_floor"}
            assert each["num_draws"] == 1200
            assert each["reference"]["grade"] == "B"


@pytest.mark.parametrize("command", ["run", "leaderboard"])
def test_leaderboard_shows_the_rows_of_a_plugin(tiny, command):
    shown = tiny.second if command == "run" else _invoke("leaderboard", "--results", tiny.folder)
    assert shown.exit_code == 0
    assert "tiny: random splits, budget smoke, seed 0, reference grade B" in shown.stdout
    rows = {line.split()[1]: line for line in shown.stdout.splitlines() if line.startswith("│ ")}
    assert rows.keys() >= {"average", "median", "broken", "oracle", "noise"}
    assert "broken: 2 failed: " in shown.stdout


def test_report_shows_the_draws_and_the_certificate_that_a_run_left(tiny, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the report samples nothing")

    for module in ("dncbench.running.prepared", "dncbench.truth.two_samplers"):
        monkeypatch.setattr(f"{module}.sample", refuse)
    common = ["report", *tiny.plugins, "--results", tiny.folder, "--cache", tiny.cache]
    whole, bare = tmp_path / "whole.html", tmp_path / "bare.html"
    assert _invoke(*common, "--output", whole).exit_code == 0
    assert _invoke(*common, "--output", bare, "--no-draws").exit_code == 0
    text = whole.read_text(encoding="utf-8")
    # Two coordinates and their pair, of the three methods that did not fail.
    assert text.count('<path class="truth"') == 3
    assert text.count('<path class="series c') == 9
    assert "two samplers that share no algorithm agree" in text
    for check in (
        "NUTS: R-hat",
        "second sampler: temperatures",
        "agreement: largest difference in",
    ):
        assert f"<dt>{check}" in text
    assert "(tempered sequential Monte Carlo)" in text
    assert "60 observations" in text
    assert "RuntimeError: no luck on this shard" in text
    text = bare.read_text(encoding="utf-8")
    assert "built from records alone" in text
    assert "<dt>NUTS: R-hat" not in text
    assert "tempered sequential Monte Carlo" not in text
    assert "RuntimeError: no luck on this shard" in text


def test_report_from_an_empty_cache_says_what_it_lacks(tiny, tmp_path):
    target = tmp_path / "page.html"
    common = ["report", *tiny.plugins, "--results", tiny.folder, "--output", target]
    assert _invoke(*common, "--cache", tmp_path / "empty").exit_code == 0
    assert "the cache has no draws of these runs" in target.read_text(encoding="utf-8")
    assert not (tmp_path / "empty").exists()


def test_failed_cell_is_tried_again_and_good_ones_are_not(tiny):
    planned = _invoke("run", *tiny.common, *tiny.good, "--method", "broken", "--dry-run")
    assert planned.exit_code == 0
    assert planned.stdout.splitlines() == [
        "tiny  random-0  broken",
        "tiny  random-1  broken",
        "2 to run, 6 done already",
    ]


def test_a_method_over_the_time_limit_is_not_run_on_the_next_split(tiny, tmp_path):
    limited = [*tiny.plugins, "--problem", "tiny", "--budget", "smoke", "--splits", "2"]
    limited += ["--cache", tiny.cache, "--results", tmp_path, "--method", "average"]
    done = _invoke("run", *limited, "--time-limit", "1e-9")
    assert done.exit_code == 0, done.output
    first, second = sorted(Records(tmp_path), key=lambda record: identity_of(record).split)
    assert (first["status"], second["status"]) == ("timeout", "timeout")
    assert first["reason"].startswith("it was ended after ")
    assert second["reason"].startswith("an earlier split took ")
    again = _invoke("run", *limited, "--dry-run")
    assert again.stdout.splitlines() == [
        *("tiny  random-0  average", "tiny  random-1  average"),
        "2 to run, 0 done already",
    ]


def test_force_runs_again_to_the_same_figures(tiny):
    before = {identity_of(each).split: each for each in _of(tiny.folder, "average")}
    again = _invoke("run", *tiny.common, "--method", "average", "--force")
    assert again.exit_code == 0
    assert "2 cells run, 0 skipped" in again.stdout
    after = _of(tiny.folder, "average")
    assert len(after) == 2
    for each in after:
        earlier = before[identity_of(each).split]
        assert each["metrics"] == earlier["metrics"]
        assert each["seconds"]["merge"] != earlier["seconds"]["merge"]


def test_a_metric_that_is_missing_is_read_on_the_kept_draws(tiny, tmp_path):
    (whole,) = [e for e in _of(tiny.folder, "average") if identity_of(e).split == 0]
    lacking = whole | {"metrics": {"iad@1": whole["metrics"]["iad@1"] | {"value": 7.0}}}
    Records(tmp_path).put(lacking)
    options = ["--results", tmp_path, "--cache", tiny.cache, "--splits", "1"]
    done = _invoke("run", *tiny.common, "--method", "average", *options)
    assert done.exit_code == 0
    (again,) = Records(tmp_path)
    assert again["metrics"]["iad@1"]["value"] == 7.0  # what was there stays
    assert again["seconds"] == whole["seconds"]  # nothing was merged
    for name in whole["metrics"].keys() - {"iad@1"}:
        # The draws are kept in single precision.
        assert again["metrics"][name]["value"] == pytest.approx(
            whole["metrics"][name]["value"], rel=1e-3, abs=1e-3
        )


def _of(folder, method):
    return [each for each in Records(folder) if identity_of(each).method.name == method]


def test_scheme_that_does_not_apply_is_recorded_with_the_reason(tiny, tmp_path):
    options = [*tiny.common[:-4], "--results", tmp_path, "--cache", tiny.cache]
    done = _invoke("run", *options, "--method", "average", "--split-scheme", "sorted-by-label")
    assert done.exit_code == 0
    assert {each["status"] for each in Records(tmp_path)} == {"not applicable"}
    assert "'sorted-by-label' needs labels" in next(iter(Records(tmp_path)))["reason"]


def test_reference_prints_the_certificate(tiny):
    options = ["tiny", *tiny.plugins, "--budget", "smoke", "--cache", tiny.cache]
    options += ["--metric", "sw2"]
    shown = _invoke("reference", *options)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("tiny: grade B\n")
    for part in ("NUTS: R-hat", "NUTS: bulk ESS", "agreement", "noise floor", "mah@1"):
        assert part in shown.stdout
    assert "NOT MET" not in shown.stdout
    plain = json.loads(_invoke("reference", *options, "--json").stdout)
    assert plain["certificate"]["grade"] == "B"
    lines = [line.strip() for line in shown.stdout.splitlines()]
    for check in plain["certificate"]["checks"]:
        (line,) = [line for line in lines if line.startswith(f"{check['name']}  ")]
        assert f"{check['value']:.4g}" in line
        assert ("(at " in line) is (check["limit"] is not None)
    assert plain["noise_floor"].keys() >= {"mah@1", "iad@1", "skew@1", "sw2@1"}
