"""Records to tables, from records made by hand whose figures are known."""

import csv
import io
import math

import pytest
from handmade import board_of, failed, record, row_of, series_of

from dncbench.boards.leaderboard import MAX_OTHER_LOAD, boards
from dncbench.boards.tables import cells, header, to_csv, to_markdown

# ---------------------------------------------------------------- figures


def test_score_is_the_mean_and_sd_over_splits():
    board = board_of(series_of("alpha", [1.0, 2.0, 6.0], error=0.3))
    score = row_of(board, "alpha").scores["mah@1"]
    assert score.mean == pytest.approx(3.0, rel=1e-15)
    assert score.sd == pytest.approx(math.sqrt(7.0), rel=1e-15)
    assert score.standard_error == pytest.approx(0.3 / math.sqrt(3), rel=1e-15)
    assert row_of(board, "alpha").splits == 3


def test_single_split_has_no_sd():
    row = row_of(board_of([record()]), "alpha")
    assert row.scores["mah@1"].sd is None
    assert cells(board_of([record()]))[0][2] == "1.00"


def test_floor_and_grade_come_from_the_records():
    board = board_of([record(floor=(0.25, 0.5)), record("beta", floor=(0.25, 0.5))])
    assert (board.floor["mah@1"]["mean"], board.floor["mah@1"]["sd"]) == (0.25, 0.5)
    assert board.grade == "B"
    doubtful = record("beta", reference={"grade": "C", "failures": ["R-hat"]})
    assert board_of([record(), doubtful]).grade == "C"


def test_metrics_stand_in_their_order_and_rows_best_first():
    # Products 8 and 6: the geometric mean decides, not any one of them.
    values = {"skew@1": 2.0, "mah@1": 2.0, "iad@1": 2.0}
    other = {"skew@1": 1.0, "mah@1": 6.0, "iad@1": 1.0}
    board = board_of([record("worse", values=values), record("better", values=other)])
    assert board.metrics == ["mah@1", "iad@1", "skew@1"]
    assert [row.method for row in board.rows] == ["better", "worse"]
    assert header(board)[:5] == ["method", "track", "mah", "iad", "skew"]


# ---------------------------------------------------------------- never mixed


@pytest.mark.parametrize(
    "other",
    [{"budget": "quick"}, {"scheme": "sorted-by-label"}, {"seed": 1}, {"problem": "other"}],
)
def test_other_terms_are_anotherboard_of(other):
    found = boards([record(values={"mah@1": 1.0}), record(values={"mah@1": 3.0}, **other)])
    assert sorted(row.scores["mah@1"].mean for b in found for row in b.rows) == [1.0, 3.0]
    assert len(found) == 2


def test_a_changed_budget_or_another_space_is_anotherboard_of():
    changed, natural = record(budget="smoke[num_draws=96]"), record()
    natural["identity"]["space"] = "natural"
    assert len(boards([record(), changed, natural])) == 3


def test_problems_and_budgets_can_be_picked():
    records = [record(), record(problem="other"), record(budget="quick")]
    assert {board.terms.problem for board in boards(records, problems=["other"])} == {"other"}
    assert {board.terms.budget for board in boards(records, budgets=["quick"])} == {"quick"}
    assert boards(records, problems=["neither"]) == []
    assert boards([]) == []


def test_settings_are_rows_of_their_own():
    board = board_of([record(), record(label="alpha[x=1]", values={"mah@1": 9.0})])
    assert {row.method for row in board.rows} == {"alpha", "alpha[x=1]"}


def test_stale_methods_are_left_out_and_counted():
    stale = [record("consensus", split, {"mah@1": 9.0}, method_version=0) for split in (0, 1)]
    board = board_of([record("consensus"), *stale])
    assert board.stale == 2
    assert row_of(board, "consensus").scores["mah@1"].mean == 1.0
    assert "2 stale records (of older versions) are left out" in to_markdown([board])


def test_stale_problems_are_left_out_and_counted():
    board = board_of([record(problem="spambase", problem_version=0)])
    assert (board.rows, board.stale) == ([], 1)


def test_stale_metrics_are_left_out():
    board = board_of([record(values={"mah@0": 9.0, "mah@1": 1.0})])
    assert board.metrics == ["mah@1"]


def test_versions_of_a_plugin_that_is_not_loaded_are_never_mixed():
    records = [
        record("ghost", 0, {"mah@1": 1.0}, method_version=1),
        record("ghost", 1, {"mah@1": 3.0}, method_version=2),
    ]
    means = [row.scores["mah@1"].mean for board in boards(records) for row in board.rows]
    assert means
    assert set(means) <= {1.0, 3.0}


# ---------------------------------------------------------------- what is missing


def test_failed_cells_stay_visible_with_their_reason():
    board = board_of([record(), failed("beta", 0, "ValueError: no|luck"), failed("beta", 1)])
    row = row_of(board, "beta")
    assert (row.splits, row.scores, row.bytes) == (0, {}, None)
    assert row.notes == ["2 failed: ValueError: no|luck"]
    assert [each.method for each in board.rows] == ["alpha", "beta"]
    assert "- beta: 2 failed: ValueError: no\\|luck" in to_markdown([board])


def test_cell_that_is_not_applicable_says_why():
    board = board_of([failed("alpha", reason="needs labels", status="not applicable")])
    assert row_of(board, "alpha").notes == ["1 not applicable: needs labels"]
    assert board.metrics == []


def test_failed_split_is_left_out_of_the_mean():
    row = row_of(board_of([record(), failed("alpha", 1)]), "alpha")
    assert (row.splits, row.scores["mah@1"].mean) == (1, 1.0)
    assert row.notes == ["1 failed: ValueError: no"]


def test_warnings_are_counted():
    row = row_of(board_of([record(warnings=["R-hat"]), record(split=1)]), "alpha")
    assert (row.notes, row.warned, row.warnings) == ([], 1, ["R-hat"])


# ---------------------------------------------------------------- seconds


def test_seconds_are_means_and_compiling_counts_once():
    slow = record().get("seconds") | {"sampling": 4.0, "compile": 1.5, "sampling_compile": 0.0}
    row = row_of(board_of([record(), record(split=1, seconds=slow)]), "alpha")
    assert row.seconds["sampling"] == 3.0
    assert row.seconds["compile"] == 1.5
    assert row.seconds["sampling_compile"] == 8.0
    assert row.bytes == 57_600


def test_memory_is_that_of_the_largest_program_of_the_splits_that_say():
    needs = [{"fit": 300 << 20, "merge": 1}, {"fit": 2, "merge": 700 << 20}]
    records = [record(split=split, memory_bytes=each) for split, each in enumerate(needs)]
    board = board_of([*records, record(split=2), record("beta")])
    assert row_of(board, "alpha").memory_mib == 700
    assert row_of(board, "beta").memory_mib is None
    by_method = {line["method"]: line for line in csv.DictReader(io.StringIO(to_csv([board])))}
    assert float(by_method["alpha"]["memory MiB"]) == 700
    assert by_method["beta"]["memory MiB"] == ""
    shown = {row[0]: row[header(board).index("MiB")] for row in cells(board)}
    assert (shown["alpha"], shown["beta"]) == ("700", "-")


@pytest.mark.parametrize("untold", [{}, {"memory_bytes": {}}, {"memory_bytes": {"fit": 0}}])
def test_memory_has_no_column_where_no_record_says(untold):
    board = board_of([record(**untold)])
    assert row_of(board, "alpha").memory_mib is None
    assert "MiB" not in header(board)


@pytest.mark.parametrize(
    ("load", "kept"), [(None, True), (MAX_OTHER_LOAD, True), (MAX_OTHER_LOAD + 0.01, False)]
)
def test_seconds_made_beside_other_work_stay_off_theboard_of(load, kept):
    slow = record()["seconds"] | {"merge": 100.0}
    busy = record(split=1, seconds=slow, other_load_cores=load)
    row = row_of(board_of([record(), busy]), "alpha")
    assert row.seconds["merge"] == (50.125 if kept else 0.25)
    assert row.notes == ([] if kept else ["1 timed beside other work"])
    assert row.splits == 2


def test_row_without_a_quiet_record_has_no_seconds():
    board = board_of([record(other_load_cores=1.5)])
    assert row_of(board, "alpha").seconds == {}
    assert cells(board)[0][7:12] == ["-"] * 5


def test_of_two_records_of_a_cell_the_newest_counts():
    older = record(values={"mah@1": 9.0}, created="2024-01-01T00:00:00+00:00")
    newer = record(values={"mah@1": 3.0}, created="2024-01-02T00:00:00+00:00")
    newer["settings"]["method"] = {"added": 1}
    for records in ([older, newer], [newer, older]):
        row = row_of(board_of(records), "alpha")
        assert (row.splits, row.scores["mah@1"].mean) == (1, 3.0)
