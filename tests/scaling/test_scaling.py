"""Scaling studies: exponents that are known, the cells of every axis, failures that show."""

import base64
import copy
import gzip
import html
import json
import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from handmade import copied_plugins, failed, record
from scipy.stats import norm
from scipy.stats import t as student_t

from dncbench import budget as budgets
from dncbench import scaling
from dncbench.boards import leaderboard
from dncbench.cli import main
from dncbench.errors import UnknownNameError
from dncbench.report import build
from dncbench.running.plan import Cell, plan
from dncbench.scaling import axes, tables
from dncbench.scaling.cases import cases
from dncbench.scaling.drawing import draw, svg
from dncbench.scaling.exponents import fit
from dncbench.storage.identity import identity_of
from dncbench.storage.records import Records

FALSE_ALARM = 1e-4
AXES = list(scaling.known_axes())
DIMS = (2, 4, 8, 16, 32, 64)


def at_dim(made: dict, dim: int, budget: str = "smoke") -> dict:
    """A record as one of the axis ``dim``."""
    made["identity"]["problem"] = {
        "id": "poisson-regression@1",
        "label": "poisson-regression" if dim == 8 else f"poisson-regression[dim={dim}]",
    }
    made["settings"]["problem"] = {"dim": dim, "num_shards": 4}
    made["identity"]["budget"] = budget
    made["budget"] = budgets.get(budget).contents()
    return made


def power_laws(method: str, dim: int, split: int, noise: np.random.Generator) -> dict:
    """mah = d^0.5 clear of its floor, iad at it; fit and merge together d^2; bytes 8 d^2."""
    scatter = np.exp(0.1 * noise.standard_normal())
    made = record(method, split, {"mah@1": 3 * dim**0.5 * scatter, "iad@1": 0.6})
    made["seconds"] |= {
        "fit_slowest_shard": 0.01 * dim**2,
        "fit_total": 0.04 * dim,
        "merge": 0.02 * dim**2,
        "sampling": 1e-4,
    }
    made["bytes_communicated"] = 8 * dim**2
    return at_dim(made, dim)


@pytest.fixture
def written() -> list[dict]:
    """Two methods at six dimensions, three splits each."""
    noise = np.random.default_rng(0)
    return [
        power_laws(method, dim, split, noise)
        for method in ("consensus", "swiss")
        for dim in DIMS
        for split in range(3)
    ]


# ---------------------------------------------------------------- exponents


def test_exponents_and_their_standard_errors_are_those_of_the_line() -> None:
    noise, x, sd, repeats = np.random.default_rng(0), np.array(DIMS, float), 0.2, 2000
    fits = [
        fit(x.tolist(), (5 * x**1.5 * np.exp(sd * noise.standard_normal(6))).tolist())
        for _ in range(repeats)
    ]
    slopes = np.array([found.slope for found in fits])
    variance = sd**2 / np.sum((np.log(x) - np.log(x).mean()) ** 2)
    reach = norm.isf(FALSE_ALARM / 2)
    assert abs(slopes.mean() - 1.5) < reach * np.sqrt(variance / repeats)
    # A variance estimate of 4 degrees of freedom has relative variance 2 / 4.
    estimated = np.mean([found.standard_error**2 for found in fits])
    assert abs(estimated / variance - 1) < reach * np.sqrt(2 / 4 / repeats)


def test_two_points_have_no_exponent() -> None:
    assert fit([1, 2], [1.0, 2.0]).slope is None
    assert fit([1, 2], [1.0, 2.0]).reason == "too few values"


def test_known_slopes_are_recovered_from_records(written) -> None:
    study = scaling.study(written, "dim")
    assert study.values == list(DIMS)
    assert study.curves.keys() == {"consensus", "swiss"}
    for curve in study.curves.values():
        found = curve.exponents["mah"]
        allowed = student_t.isf(FALSE_ALARM / 2, len(DIMS) - 2) * found.standard_error
        assert abs(found.slope - 0.5) < allowed < 0.5
        assert found.num_points == 6
        for what, slope in (("after_sampling", 2), ("fit_total", 1), ("bytes", 2)):
            assert curve.exponents[what].slope == pytest.approx(slope, abs=1e-12)
        assert (curve.exponents["iad"].slope, curve.exponents["iad"].reason) == (
            None,
            "at the noise floor",
        )
        assert curve.exponents["sampling"].reason == "under 1 ms"
        assert curve.points[0].multiple("iad") == pytest.approx(1.2)


def test_errors_near_the_floor_and_unreliable_ones_are_not_fitted(written) -> None:
    for made in written:
        dim = made["settings"]["problem"]["dim"]
        if dim == 2:
            made["metrics"]["mah@1"]["value"] = 0.99
        if dim == 64:
            made |= {"status": "unreliable", "reason": "R-hat"}
    found = scaling.study(written, "dim").curves["swiss"].exponents["mah"]
    assert found.num_points == 4
    assert found.reason == "at the noise floor; did not converge"
    table = tables.cells(scaling.study(written, "dim"))
    assert "(4 of 6)" in table[0][1]
    assert "?" in table[0][2]


def test_seconds_beside_other_work_give_way_to_quiet_ones(written) -> None:
    for made in written:
        if identity_of(made).method.name == "swiss" or identity_of(made).split:
            made["other_load_cores"] = 1.5
            made["seconds"] = dict.fromkeys(made["seconds"], 10.0)
    study = scaling.study(written, "dim")
    quiet, busy = study.curves["consensus"], study.curves["swiss"]
    assert quiet.exponents["after_sampling"].slope == pytest.approx(2)
    assert not quiet.points[0].beside_other_work
    assert busy.points[0].beside_other_work
    assert busy.exponents["after_sampling"].slope is None
    rows = {row[0]: row for row in tables.cells(study)}
    column = tables.header(study).index("seconds exponent")
    assert rows["swiss"][column : column + 2] == ["timed beside other work", "~20 → ~20"]
    assert "~" not in rows["consensus"][column + 1]


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "change",
    [
        lambda identity: identity | {"seed": 1},
        lambda identity: identity | {"space": "natural"},
        lambda identity: identity | {"split": {"scheme": "in-order", "index": 0}},
        lambda identity: identity | {"method": identity["method"] | {"id": "swiss@0"}},
        lambda identity: identity | {"method": {"id": "swiss@1 + psis@1", "label": "swiss + psis"}},
        lambda identity: (
            identity
            | {"problem": identity["problem"] | {"label": "poisson-regression[mean_count=9.0]"}}
        ),
        lambda identity: identity | {"problem": {"id": "banana@1", "label": "banana"}},
    ],
)
def test_records_of_other_terms_are_passed_over(written, change) -> None:
    expected = scaling.study(written, "dim")
    newest = {"created": "2030-01-01T00:00:00+00:00", "headline": ["iad"]}
    stranger = at_dim(record("swiss", 0, {"mah@1": 1e6}, **newest), 8)
    stranger["identity"] = change(stranger["identity"])
    assert scaling.study([*written, stranger], "dim") == expected


@pytest.mark.parametrize("spent", [{"num_draws": 9600}, {"shard_ess": 0.9}])
def test_records_of_another_budget_are_passed_over(written, spent) -> None:
    expected = scaling.study(written, "dim")
    stranger = at_dim(record("swiss", 0, {"mah@1": 1e6}), 8, "quick")
    assert scaling.study([*written, stranger], "dim") == expected
    # The same name for other numbers, as an older version of the suite may have had it.
    stranger = at_dim(record("swiss", 7, {"mah@1": 1e6}), 8)
    stranger["budget"] |= spent
    assert scaling.study([*written, stranger], "dim") == expected


def test_of_two_records_of_a_cell_the_newest_counts(written) -> None:
    expected = scaling.study(written, "dim")
    older = copy.deepcopy(written[0])
    older["settings"]["method"] = {"of": "before a setting was added"}
    older["created"] = "2020-01-01T00:00:00+00:00"
    older["metrics"]["mah@1"]["value"] = 1e6
    assert scaling.study([older, *written], "dim") == expected


def test_cells_without_figures_are_shown_with_their_reasons(written) -> None:
    written += [at_dim(failed("gp", reason="MemoryError: d"), dim) for dim in (32, 64)]
    lacking = failed("gp", reason="d above 8", status="not applicable")
    written.append(at_dim(lacking, 16))
    study = scaling.study(written, "dim")
    assert list(study.curves) == ["consensus", "swiss", "gp"]
    assert tables.notes(study) == [
        "gp at 2, 4, 8: not run",
        "gp at 16: not applicable: d above 8",
        "gp at 32, 64: failed: MemoryError: d",
    ]
    assert study.curves["gp"].exponents["bytes"].slope is None
    assert all(note in tables.to_markdown(study) for note in tables.notes(study))


def test_a_study_is_drawn_the_same_way_every_time(written, tmp_path) -> None:
    written.append(at_dim(failed("gp"), 8))
    study = scaling.study(written, "dim")
    for name in ("one.svg", "two.svg"):
        draw(study, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    for shown in ("consensus", "swiss", "gp", "mah", "merge", "bytes", "2.00 ± 0.00"):
        assert shown in text


def test_the_report_shows_studies_apart_from_boards(written, tmp_path) -> None:
    boards, studies = Records(tmp_path), Records(tmp_path / scaling.FOLDER)
    boards.put(record("swiss", problem="board"))
    without = build(boards, draws=False)
    assert 'data-packed="' not in without
    assert "asv-html" not in without
    for made in [*written, at_dim(failed("gp", reason="MemoryError: d"), 8)]:
        studies.put(made)
    measured = tmp_path / "asv" / "machine"
    measured.mkdir(parents=True)
    for name in ("machine.json", "1a2b-env.json", "3c4d-env.json", "3c4d-other.json"):
        (measured / name).write_text("{}")
    text = build(boards, draws=False)
    assert text == build(boards, draws=False)
    study = scaling.study(list(studies), "dim")
    (drawn,) = re.findall(r'data-packed="([^"]*)"', text)
    assert gzip.decompress(base64.b64decode(drawn)).decode() == svg(study)
    for shown in (tables.title(study), *tables.notes(study), *tables.cells(study)[0]):
        assert html.escape(shown) in text
    assert "dncbench scale --axis dim --splits 3" in text
    assert "poisson-regression" not in [board.terms.problem for board in leaderboard.boards(boards)]
    assert " on 1\nproblem whose posterior is known" in text
    assert '2 commits of dncbench:\n<a href="asv-html/index.html">' in text


# ---------------------------------------------------------------- what is run


def planned(cell: Cell) -> dict:
    """What the record of a cell says of what was run."""
    return {
        "identity": cell.identity.to_json(),
        "settings": cell.settings,
        "budget": cell.budget.contents(),
    }


@pytest.mark.parametrize("name", AXES)
def test_cells_of_an_axis_are_read_back_at_their_values(name: str, tmp_path) -> None:
    axis = scaling.get_axis(name)
    todo = plan(
        cases({axis: axis.default}, splits=1, budget="smoke"),
        ["consensus"],
        seed=0,
        budget=budgets.get("smoke"),
        records=Records(tmp_path),
    ).todo
    read = [axis.value_of(planned(cell), "smoke") for cell in todo]
    assert read == list(axis.default)
    assert len({cell.identity for cell in todo}) == len(axis.default)


def test_what_axes_have_in_common_is_run_once() -> None:
    grid = {scaling.get_axis("dim"): (4, 8), scaling.get_axis("shards"): (4, 8)}
    problems = [case.problem for case in cases(grid, splits=2, budget="smoke")]
    assert problems == [
        "poisson-regression[dim=4]",
        "poisson-regression",
        "poisson-regression[num_shards=8]",
    ]


def test_a_budget_takes_settings_and_names_them() -> None:
    changed = budgets.get("quick[num_draws=2000, draws_per_shard=10000]")
    assert changed.name == "quick[num_draws=2000]"
    assert changed.contents() == budgets.get("quick").contents() | {
        "name": changed.name,
        "num_draws": 2000,
    }
    assert budgets.get("quick[num_draws=10000]") == budgets.get("quick")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("quik", "did you mean quick"),
        ("quick[draws=5]", "budget 'quick' has no setting 'draws'"),
        ("quick[num_draws=2.5]", "must be a whole number"),
        ("quick[num_draws=1000]", "16 chains need a multiple of 16"),
        ("quick[num_chains=1]", "num_chains must be between 2 and 10000"),
        ("quick[reference_blocks=2]", "reference_blocks must be between 3 and 1000"),
        ("smoke[shard_ess=1.5]", "shard_ess must be between 1e-06 and 1.0"),
        ("smoke[window_steps=0]", "window_steps must be between 1 and 1000000000"),
        ("quick[name=other]", "has no setting 'name'"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(spec: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said.replace("[", r"\[")):
        budgets.get(spec)


# ---------------------------------------------------------------- the command


def invoke(*arguments: object):
    return CliRunner().invoke(main, ["scale", *(str(argument) for argument in arguments)])


def test_dry_run_lists_the_cells_and_writes_nothing(tmp_path) -> None:
    done = invoke(
        *("--axis", "draws", "--axis", "imbalance", "--method", "swiss", "--splits", 1),
        *("--results", tmp_path, "--dry-run"),
    )
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    changed = "smoke[draws_per_shard=400,num_draws=400]"
    assert lines[0] == f"poisson-regression  random-0  {changed}  swiss"
    assert lines[-2:] == ["poisson-regression  sizes:0.2-0  swiss", "10 to run, 0 done already"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--axis", "dims"], "did you mean dim"),
        (["--axis", "dim", "--values", "2,x"], "write numbers with commas"),
        (["--axis", "dim", "--values", "2.5"], "dim=2.5 must be a whole number"),
        (["--axis", "heterogeneity", "--values", "0"], "0 is not above 0"),
        (["--values", "2,4"], "name it with --axis"),
    ],
)
def test_user_error_is_one_message(arguments, said) -> None:
    done = invoke(*arguments, "--dry-run")
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


@pytest.fixture
def family(tmp_path, monkeypatch) -> list[str]:
    """An axis of a problem in closed form, of which nothing is sampled; and its plugin."""
    file = tmp_path / "scaling.toml"
    axis = 'label = "shards S"\nsetting = "num_shards"\nvalues = [2, 4]\n'
    file.write_text(f'problem = "known"\n[axes.shards]\n{axis}')
    monkeypatch.setattr("dncbench.scaling.axes._FILE", file)
    axes.known_axes.cache_clear()
    yield copied_plugins(tmp_path, "known")
    axes.known_axes.cache_clear()


def test_two_values_are_run_drawn_and_not_run_again(
    tmp_path, session_cache, clean_registry, family
) -> None:
    options = [*family, "--axis", "shards", "--values", "3,1", "--splits", 1, "--format", "json"]
    options += ["--method", "consensus", "--method", "pooled"]
    options += ["--results", tmp_path, "--cache", session_cache]
    first, second = invoke(*options), invoke(*options)
    assert first.exit_code == 0, first.output
    assert "4 cells run, 0 skipped" in first.stderr
    assert "0 cells run, 4 skipped" in second.stderr
    assert first.stdout == second.stdout
    assert (tmp_path / "scale" / "shards.svg").read_text().startswith("<?xml")
    assert {each["reference"]["grade"] for each in Records(tmp_path / "scale")} == {"A"}
    (study,) = json.loads(first.stdout)
    assert study["values"] == [1, 3]
    # One shard is the posterior already; the draws of three lie as far apart as those of each.
    consensus, pooled = (study["curves"][name]["points"] for name in ("consensus", "pooled"))
    for good in (*consensus, pooled[0]):
        assert good["errors"]["iad"] - good["floors"]["iad"] < 4 * good["standard_errors"]["iad"]
    gap = pooled[1]["errors"]["iad"] - pooled[1]["floors"]["iad"]
    assert gap > 10 * pooled[1]["standard_errors"]["iad"]


def test_studies_are_read_without_jax() -> None:
    import subprocess

    code = "import sys; from dncbench import scaling; scaling.study([], 'dim')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('jax' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
