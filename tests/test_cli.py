"""The command line: what it runs, what it prints, and how it fails."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from handmade import copied_plugins, failed, import_shipped, record

from dncbench import budget as budgets
from dncbench import registry
from dncbench.cli import main
from dncbench.store import Records

GOLDEN = Path(__file__).parent / "golden" / "leaderboard.md"
EXAMPLES = {
    "run": 'dncbench run --method "consensus[weights=shard]"',
    "leaderboard": "dncbench leaderboard --metric all --format csv > board.csv",
    "compare": "dncbench compare trojan2024",
    "figure": "dncbench figure trojan2024-2",
    "report": "dncbench report --problem spambase --budget quick",
    "reference": "dncbench reference spambase",
    "scale": "dncbench scale --axis shards --values 2,4,8,16 --splits 5",
    "show": "dncbench show spambase",
}


def _invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, session_cache):
    """One smoke run of a plugin's problem and methods, one of which raises."""
    folder = tmp_path_factory.mktemp("tiny")
    import_shipped()
    with pytest.MonkeyPatch.context() as patch:
        for kind, entries in registry._registered.items():
            patch.setitem(registry._registered, kind, dict(entries))
        plugins = copied_plugins(folder, "tiny", "median", "broken")
        common = [*plugins, "--problem", "tiny", "--budget", "smoke", "--splits", "2"]
        common += ["--results", folder, "--cache", session_cache]
        good = ["--method", "average", "--method", "median", "--method", "oracle"]
        bad = ["--method", "broken"]
        yield SimpleNamespace(
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
        (each["identity"]["method"]["name"], each["identity"]["split"]["index"]): each["status"]
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
            assert each["metrics_not_applicable"] == ["modes@1"]
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

    for module in ("dncbench.bench", "dncbench.reference"):
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
    assert "<dt>elliptical slice</dt>" in text
    assert "60 observations" in text
    assert "RuntimeError: no luck on this shard" in text
    text = bare.read_text(encoding="utf-8")
    assert "built from records alone" in text
    assert "<dt>elliptical slice</dt>" not in text
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
    first, second = sorted(Records(tmp_path), key=lambda r: r["identity"]["split"]["index"])
    assert (first["status"], second["status"]) == ("ok", "timeout")
    assert second["reason"].startswith("an earlier split took ")
    assert "1 timeout: an earlier split took" in done.stdout
    again = _invoke("run", *limited, "--dry-run")
    assert again.stdout.splitlines() == ["tiny  random-1  average", "1 to run, 1 done already"]


def test_force_runs_again_to_the_same_figures(tiny):
    before = {each["identity"]["split"]["index"]: each for each in _of(tiny.folder, "average")}
    again = _invoke("run", *tiny.common, "--method", "average", "--force")
    assert again.exit_code == 0
    assert "2 cells run, 0 skipped" in again.stdout
    after = _of(tiny.folder, "average")
    assert len(after) == 2
    for each in after:
        earlier = before[each["identity"]["split"]["index"]]
        assert each["metrics"] == earlier["metrics"]
        assert each["seconds"]["merge"] != earlier["seconds"]["merge"]


def test_a_metric_that_is_missing_is_read_on_the_kept_draws(tiny, tmp_path):
    (whole,) = [e for e in _of(tiny.folder, "average") if e["identity"]["split"]["index"] == 0]
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
    return [each for each in Records(folder) if each["identity"]["method"]["name"] == method]


def test_scheme_that_does_not_apply_is_recorded_with_the_reason(tiny, tmp_path):
    options = [*tiny.common[:-4], "--results", tmp_path, "--cache", tiny.cache]
    done = _invoke("run", *options, "--method", "average", "--split-scheme", "sorted-by-label")
    assert done.exit_code == 0
    assert {each["status"] for each in Records(tmp_path)} == {"not applicable"}
    assert "'sorted-by-label' needs labels" in next(iter(Records(tmp_path)))["reason"]


def test_reference_prints_the_certificate(tiny):
    options = ["tiny", *tiny.plugins, "--budget", "smoke", "--cache", tiny.cache]
    shown = _invoke("reference", *options)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("tiny: grade B\n")
    for part in ("largest R-hat", "smallest ESS", "agreement", "noise floor", "mah@1"):
        assert part in shown.stdout
    plain = json.loads(_invoke("reference", *options, "--json").stdout)
    assert plain["certificate"]["grade"] == "B"
    assert plain["noise_floor"].keys() >= {"mah@1", "iad@1", "skew@1", "sw2@1"}


# ---------------------------------------------------------------- nothing runs


def test_dry_run_lists_the_cells_and_writes_nothing(tmp_path):
    done = _invoke(
        "run",
        "--problem",
        "toy-logistic[num_shards=3]",
        "--method",
        "consensus[weights=shard]",
        "--method",
        "pooled",
        "--splits",
        2,
        "--results",
        tmp_path,
        "--dry-run",
    )
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "toy-logistic[num_shards=3]  random-0  consensus[weights=shard]",
        "toy-logistic[num_shards=3]  random-0  pooled",
        "toy-logistic[num_shards=3]  random-1  consensus[weights=shard]",
        "toy-logistic[num_shards=3]  random-1  pooled",
        "4 to run, 0 done already",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--problem", "spambas"], "no problem is called 'spambas'; did you mean spambase"),
        (["run", "--method", "swis"], "no method is called 'swis'; did you mean swiss"),
        (["run", "--method", "consensus[weigths=shard]"], "did you mean weights"),
        (["run", "--split-scheme", "randm"], "did you mean random"),
        (["reference", "toy-logistics"], "did you mean toy-logistic"),
        (["leaderboard", "--problem", "toy"], "no problem is called 'toy'"),
        (["show", "consenus"], "nothing is called 'consenus'; did you mean consensus"),
        (["run", "--plugin", "absent.py"], "plugin absent.py: no such file"),
    ],
)
def test_user_error_is_one_message_and_exit_code_2(arguments, said):
    done = _invoke(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


@pytest.mark.parametrize("command", [*EXAMPLES, "list"])
def test_help_has_an_example_where_a_command_has_options_of_its_own(command):
    done = _invoke(command, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")
    assert EXAMPLES.get(command, "List what is registered") in done.stdout


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("spambase", ["spambase@1 (problem)", "dimension: 58", "shards: 4", "source: Hopkins"]),
        ("toy-logistic[num_shards=3]", ["num_shards = 3", "shards: 3"]),
        ("consensus", ["consensus@1 (method)", "weights = matrix", "needs: covariance, draws"]),
        ("mah", ["mah@1 (metric)"]),
    ],
)
def test_show_describes_settings_and_needs(name, parts):
    done = _invoke("show", name)
    assert done.exit_code == 0
    for part in parts:
        assert part in done.stdout


# ---------------------------------------------------------------- without JAX

JAX_FREE = "import sys; from dncbench.cli import main; main(sys.argv[1:], standalone_mode=False)"
JAX_FREE += "; print('jax' in sys.modules, 'equinox' in sys.modules)"


@pytest.mark.parametrize(
    "arguments", [["list"], ["leaderboard"], ["--help"], ["run", "--help"], ["scale", "--help"]]
)
def test_commands_that_only_read_never_import_jax(tmp_path, arguments):
    Records(tmp_path).put(record("consensus", problem="toy-logistic"))
    done = subprocess.run(
        [sys.executable, "-c", JAX_FREE, *arguments],
        env={"DNCBENCH_RESULTS": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False False"
    if arguments == ["list"]:
        ids = [line.split()[0] for line in done.stdout.splitlines() if "@" in line.split(" ")[0]]
        assert ids == LISTED
        assert "[rounds=2]" in done.stdout
    if arguments == ["leaderboard"]:
        assert "consensus" in done.stdout


LISTED = [
    "banana@1",
    "gaussian-mixture@1",
    "logistic-100d@1",
    "logistic-tall@1",
    "poisson-regression@1",
    "power-plant@1",
    "power-plant-one-row@1",
    "skewed-gamma@1",
    "spambase@1",
    "spambase-twin@1",
    "toy-logistic@1",
    "average@1",
    "consensus@1",
    "diffusion@1",
    "flow@1",
    "gp@1",
    "local-polynomial@1",
    "nonparametric@1",
    "oracle@1",
    "parametric@1",
    "pooled@1",
    "score-regression@1",
    "score-sum-sde@1",
    "semiparametric@1",
    "swiss@1",
    "swiss-product@1",
    "c2st@1",
    "cov@1",
    "coverage@1",
    "eig-max@1",
    "eig-min@1",
    "energy@1",
    "iad@1",
    "iad-128@1",
    "ksd@1",
    "mah@1",
    "mmd@1",
    "modes@1",
    "skew@1",
    "sw2@1",
]


# ---------------------------------------------------------------- golden tables


@pytest.fixture
def written(tmp_path):
    """Records by hand, as the leaderboard reads them."""
    records = Records(tmp_path)
    for split in (0, 1, 2):
        values = {"mah@1": 1.0 + split, "iad@1": 0.25}
        records.put(record("alpha", split, values))
        values = {"mah@1": 9.0 + split, "iad@1": 0.25 + 0.5 * split}
        records.put(record("beta", split, values, label="beta[x=1]", other_load_cores=1.0))
    records.put(failed("gamma", reason="DrawsError: shard 1 [of 3]"))
    records.put(record("consensus", method_version=0))
    return tmp_path


def test_leaderboard_in_markdown_is_this_text(written):
    done = _invoke("leaderboard", "--results", written, "--format", "md")
    assert done.exit_code == 0
    assert done.stdout == GOLDEN.read_text(encoding="utf-8")


def test_terminal_table_keeps_settings_and_reasons_in_brackets(written):
    done = _invoke("leaderboard", "--results", written)
    assert done.exit_code == 0
    assert "│ beta[x=1] " in done.stdout
    assert "[of 3]" in done.stdout
    assert "1 stale records (of older versions) are left out" in done.stdout


@pytest.mark.parametrize("more", [(), ("--track", "draws"), ("--summary",)])
def test_no_records_say_how_to_make_some(tmp_path, more):
    done = _invoke("leaderboard", "--results", tmp_path, *more)
    assert (done.exit_code, done.stdout) == (0, "no records yet; make some with: dncbench run\n")


def test_a_board_of_a_changed_budget_is_asked_for_by_its_name(tmp_path):
    store = Records(tmp_path)
    for name in ("quick", "quick[num_draws=2000]"):
        made = record(values={"mah@1": 1.0})
        made["identity"]["budget"] = budgets.get(name).contents()
        store.put(made)
    ask = ("leaderboard", "--results", tmp_path, "--format", "csv", "--budget")
    shown = _invoke(*ask, "quick[num_draws=2000,draws_per_shard=10000]")
    assert shown.exit_code == 0, shown.output
    assert "quick[num_draws=2000]" in shown.stdout
    assert "quick[" not in _invoke(*ask, "quick").stdout
    wrong = _invoke(*ask, "quik")
    assert (wrong.exit_code, "did you mean quick" in wrong.output) == (2, True)
