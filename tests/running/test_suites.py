"""Suites, spaces and corrections on the command line: what would run, without running it."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import record

from dncbench import budget
from dncbench.cli import main
from dncbench.configure import configure
from dncbench.errors import UnknownNameError
from dncbench.running import suites
from dncbench.running.plan import plan
from dncbench.storage.records import Records


def dry(tmp_path: Path, *options: str) -> list[str]:
    arguments = ["run", "--dry-run", "--method", "average", "--results", str(tmp_path), *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", suites.names())
def test_every_case_of_a_suite_exists(name: str) -> None:
    suite = suites.get(name, 5)
    assert suite.summary
    for case in suite.cases:
        configure("problem", case.problem)


def test_a_suite_lists_its_cells(tmp_path: Path) -> None:
    lines = dry(tmp_path, "--suite", "trojan2024", "--splits", "2")
    assert "toy-logistic[published=True]  in-order-0  average" in lines
    assert "power-plant  random-1  natural  average" in lines
    assert "logistic-100d[dataset=1,published=True]  in-order-0  average" in lines
    assert not any("dataset=2" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--suite", "trojan2024", "--problem", "spambase"], "--problem"),
        (["--suite", "closed-form", "--space", "natural"], "--space"),
        (["--data", "published", "--split-scheme", "random"], "--split-scheme"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(options: list[str], named: str) -> None:
    done = CliRunner().invoke(main, ["run", "--dry-run", *options])
    assert done.exit_code == 2
    assert f"leave {named} out" in done.output


@pytest.mark.parametrize("name", suites.names())
def test_what_a_suite_runs_is_found_again(name: str, tmp_path: Path) -> None:
    cases, store = suites.get(name, 1).cases, Records(tmp_path)
    cells = plan(cases, ["average"], seed=0, budget=budget.get("smoke"), records=store).todo
    assert len(cells) >= len(cases)
    records = [record() | {"identity": cell.identity.to_json()} for cell in cells]
    assert suites.of_suite(name, records) == records


def test_an_unknown_suite_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean trojan2024"):
        suites.get("trojan", 5)


def test_spaces_are_one_where_nothing_is_constrained(tmp_path: Path) -> None:
    options = ["--problem", "toy-logistic", "--splits", "1", "--space", "natural"]
    assert dry(tmp_path, *options) == [
        "toy-logistic  random-0  average",
        "1 to run, 0 done already",
    ]
    options[1] = "skewed-gamma"
    assert dry(tmp_path, *options)[0] == "skewed-gamma  random-0  natural  average"


def test_published_data_are_split_once_in_order(tmp_path: Path) -> None:
    lines = dry(tmp_path, "--problem", "gaussian-mixture", "--data", "published")
    assert lines[0] == "gaussian-mixture[published=True]  in-order-0  average"
    assert len(lines) == 2


def test_a_corrected_merge_is_a_row_of_its_own(tmp_path: Path) -> None:
    lines = dry(
        tmp_path, "--problem", "banana", "--splits", "1", "--correct", "psis", "--method", "oracle"
    )
    assert lines[:2] == ["banana  random-0  average + psis", "banana  random-0  oracle"]
