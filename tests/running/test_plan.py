"""Which cells have a record already: settings that came later change nothing, contradictions do."""

import copy
from pathlib import Path
from typing import Any

import pytest
from handmade import record

from dncbench import registry
from dncbench.budget import get as get_budget
from dncbench.errors import UnknownNameError
from dncbench.running import suites
from dncbench.running.plan import Case, Cell, Plan, plan
from dncbench.storage.records import Records

PROBLEM, METHOD = "toy-logistic[num_shards=3]", "consensus[weights=shard]"
SETTINGS = [
    ("settings", "problem", "prior_variance"),
    ("settings", "problem", "num_shards"),
    ("settings", "method", "weights"),
    ("budget", "shard_ess"),
    ("budget", "num_chains"),
]


def planned(store: Records, method: str = METHOD, **options: Any) -> Plan:
    """The plan of one cell."""
    options = {"seed": 0, "budget": get_budget("smoke")} | options
    return plan([Case(PROBLEM, 1)], [method], records=store, **options)


def made_of(cell: Cell) -> dict[str, Any]:
    """The record that a run of the cell would leave."""
    figures = {entry.id: 1.0 for entry in registry.entries("metric")}
    return record(values=figures) | {
        "identity": cell.identity.to_json(),
        "settings": copy.deepcopy(cell.settings),
        "budget": cell.budget.contents(),
    }


@pytest.fixture
def store(tmp_path: Path) -> Records:
    return Records(tmp_path)


@pytest.fixture
def made(store: Records) -> dict[str, Any]:
    """The record of the one cell, not yet in the store."""
    (cell,) = planned(store).todo
    assert cell.earlier is None
    return made_of(cell)


def inner(made: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The dictionary that the last part of a path is in."""
    for part in path[:-1]:
        made = made[part]
    return made


def unsealed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: each for name, each in r.items() if name != "seal"} for r in records]


def assert_done(store: Records, made: dict[str, Any], **options: Any) -> None:
    found = planned(store, **options)
    assert found.todo == []
    assert unsealed(found.done) == [made]


def assert_run_again(store: Records, **options: Any) -> None:
    """Wholly: with another setting, kept draws are of another cell."""
    found = planned(store, **options)
    assert found.done == []
    assert [cell.earlier for cell in found.todo] == [None]


def test_a_cell_with_a_record_is_done(store, made) -> None:
    store.put(made)
    assert_done(store, made)
    assert_run_again(store, force=True)


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_a_setting_that_was_added_later_leaves_a_record_done(store, made, path) -> None:
    del inner(made, path)[path[-1]]
    store.put(made)
    assert_done(store, made)


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_a_setting_that_is_gone_leaves_a_record_done(store, made, path) -> None:
    inner(made, path)[f"former_{path[-1]}"] = 5
    store.put(made)
    assert_done(store, made)


@pytest.mark.parametrize("path", SETTINGS, ids=".".join)
def test_a_label_that_stood_for_another_value_is_run_again(store, made, path) -> None:
    inner(made, path)[path[-1]] = "something else"
    store.put(made)
    assert_run_again(store)


def test_settings_of_a_corrected_merge_are_compared_too(store) -> None:
    corrected = f"{METHOD} + psis"
    (cell,) = planned(store, corrected).todo
    made = made_of(cell)
    assert made["settings"]["method"] == {"method": {"weights": "shard"}}
    store.put(made)
    assert unsealed(planned(store, corrected).done) == [made]
    assert unsealed(planned(store, correct="psis").done) == [made]
    made["settings"]["method"]["method"] = {}
    store.put(made)
    assert unsealed(planned(store, corrected).done) == [made]
    made["settings"]["method"]["method"] = {"weights": "matrix"}
    store.put(made)
    assert planned(store, corrected).done == []


def test_a_changed_budget_is_another_cell(store, made) -> None:
    store.put(made)
    for other in ("quick", "smoke[num_draws=800]"):
        assert_run_again(store, budget=get_budget(other))
    assert_run_again(store, seed=1)
    assert_done(store, made, budget=get_budget("smoke[num_draws=1200]"))


def test_a_record_without_a_metric_is_scored_again_and_not_run(store, made) -> None:
    made["metrics"].pop("iad@1")
    store.put(made)
    (cell,) = planned(store).todo
    assert cell.earlier is not None
    assert unsealed([cell.earlier]) == [made]
    store.put(made | {"metrics_not_applicable": ["iad@1"]})
    assert_done(store, made | {"metrics_not_applicable": ["iad@1"]})
    # Unless it was made with another setting: then its draws are of no use.
    made["settings"]["method"]["weights"] = "matrix"
    store.put(made)
    assert_run_again(store)


def test_metrics_beside_those_of_the_problem_are_read_where_they_are_asked_for(store, made) -> None:
    made["metrics"].pop("sw2@1")
    store.put(made)
    assert_done(store, made)
    for asked in (["sw2"], ["all"]):
        (cell,) = planned(store, metrics=asked).todo
        assert cell.earlier is not None
    assert planned(store, metrics=["mmd"]).todo == []
    with pytest.raises(UnknownNameError, match="no metric is called 'sw3'; did you mean sw2"):
        planned(store, metrics=["sw3"])


@pytest.mark.parametrize(
    ("status", "done"), [("failed", False), ("timeout", False), ("not applicable", True)]
)
def test_what_failed_is_tried_again_and_what_cannot_apply_is_not(
    store, made, status: str, done: bool
) -> None:
    made |= {"status": status, "reason": "no luck", "metrics": {}}
    store.put(made)
    if done:
        assert_done(store, made)
    else:
        assert_run_again(store)


def test_a_record_that_is_damaged_is_run_again(store, made, capsys) -> None:
    path = store.put(made)
    path.write_text(path.read_text()[:-20])
    assert_run_again(store)
    assert "is left out: it is not a record" in capsys.readouterr().err


@pytest.mark.parametrize("splits", [0, -1, 10_001, 2**64])
def test_a_number_of_splits_that_is_none_is_refused(splits: int) -> None:
    with pytest.raises(UnknownNameError, match="splits must be a whole number from 1 to 10000"):
        Case("toy-logistic", splits)
    with pytest.raises(UnknownNameError, match="splits must be"):
        suites.get("trojan2024", splits)


# ---------------------------------------------------------------- draws of another kind


@pytest.mark.parametrize(
    ("problem", "kind", "there", "elsewhere"),
    [("toy-logistic", "real", "swiss", "pcvi"), ("grid-world", "codes", "pcvi", "swiss")],
)
def test_all_stands_for_the_methods_that_merge_such_draws(store, problem, kind, there, elsewhere):
    found = plan([Case(problem, 2)], ["all"], seed=0, budget=get_budget("smoke"), records=store)
    labels = {cell.identity.method.label for cell in found.todo}
    assert there in labels
    assert elsewhere not in labels
    assert found.left_out.keys() == {kind}
    assert elsewhere in found.left_out[kind]
    assert labels.isdisjoint(found.left_out[kind])
    named = {spec for entry in registry.entries("method") for spec in entry.specs}
    assert labels | set(found.left_out[kind]) == named


def test_a_method_that_is_named_has_an_answer_everywhere(store):
    asked = ["all", "pcvi"]
    found = plan(
        [Case("toy-logistic", 1)], asked, seed=0, budget=get_budget("smoke"), records=store
    )
    assert "pcvi" in {cell.identity.method.label for cell in found.todo}
    assert "pcvi" not in found.left_out["real"]


def test_a_correction_may_bring_methods_to_draws_of_another_kind(store):
    found = plan(
        [Case("grid-world", 1)],
        ["all"],
        seed=0,
        budget=get_budget("smoke"),
        records=store,
        correct="decoded",
    )
    assert "swiss + decoded" in {cell.identity.method.label for cell in found.todo}
