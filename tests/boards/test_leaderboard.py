"""Records to tables, from records made by hand whose figures are known."""

import csv
import io
import math

import pytest
from handmade import failed, record

from dncbench.boards.leaderboard import MAX_OTHER_LOAD, boards
from dncbench.boards.tables import cells, header, to_csv, to_markdown


def _board(records):
    (board,) = boards(records)
    return board


def _row(board, method):
    (row,) = [row for row in board.rows if row.method == method]
    return row


def _series(method, values, error=1e-9, **fields):
    return [
        record(method, split, {"mah@1": value}, error=error, **fields)
        for split, value in enumerate(values)
    ]


def _best(records):
    return {row.method for row in _board(records).rows if row.scores["mah@1"].best}


# ---------------------------------------------------------------- figures


def test_score_is_the_mean_and_sd_over_splits():
    board = _board(_series("alpha", [1.0, 2.0, 6.0], error=0.3))
    score = _row(board, "alpha").scores["mah@1"]
    assert score.mean == pytest.approx(3.0, rel=1e-15)
    assert score.sd == pytest.approx(math.sqrt(7.0), rel=1e-15)
    assert score.standard_error == pytest.approx(0.3 / math.sqrt(3), rel=1e-15)
    assert _row(board, "alpha").splits == 3


def test_single_split_has_no_sd():
    row = _row(_board([record()]), "alpha")
    assert row.scores["mah@1"].sd is None
    assert cells(_board([record()]))[0][2] == "1.00"


def test_floor_and_grade_come_from_the_records():
    board = _board([record(floor=(0.25, 0.5)), record("beta", floor=(0.25, 0.5))])
    assert (board.floor["mah@1"]["mean"], board.floor["mah@1"]["sd"]) == (0.25, 0.5)
    assert board.grade == "B"
    doubtful = record("beta", reference={"grade": "C", "failures": ["R-hat"]})
    assert _board([record(), doubtful]).grade == "C"


def test_metrics_stand_in_their_order_and_rows_best_first():
    # Products 8 and 6: the geometric mean decides, not any one of them.
    values = {"skew@1": 2.0, "mah@1": 2.0, "iad@1": 2.0}
    other = {"skew@1": 1.0, "mah@1": 6.0, "iad@1": 1.0}
    board = _board([record("worse", values=values), record("better", values=other)])
    assert board.metrics == ["mah@1", "iad@1", "skew@1"]
    assert [row.method for row in board.rows] == ["better", "worse"]
    assert header(board)[:5] == ["method", "track", "mah", "iad", "skew"]


# ---------------------------------------------------------------- marks


@pytest.mark.parametrize(("gap", "tied"), [(0.15, True), (0.19, False)])
def test_equal_splits_are_tied_by_their_monte_carlo_error(gap, tied):
    # The logarithms 0 and log(1 + gap) have errors of 0.1 and 0.1 / (1 + gap) over sqrt(3): they
    # are apart by more than 1.96 of their difference's from a gap of 0.166 on.
    records = _series("alpha", [1.0] * 3, error=0.1) + _series("beta", [1.0 + gap] * 3, error=0.1)
    assert _best(records) == ({"alpha", "beta"} if tied else {"alpha"})


@pytest.mark.parametrize(("shift", "tied"), [(0.6, True), (1.3, False)])
def test_five_splits_are_tied_by_their_spread(shift, tied):
    # Doublings apart shift + (-1, 0, 0, 0, 1): sd sqrt(1/2), for which Student's t allows
    # 2.776 sqrt(1/10) = 0.878. A mean of five resampled gaps is a multiple of 0.2, widened to one
    # of 0.317: the quantile of the bootstrap is 0.63 or 0.95, whichever is nearer to 2.5 %.
    gaps = [shift - 1, shift, shift, shift, shift + 1]
    records = _series("alpha", [5.0] * 5) + _series("beta", [5.0 * 2**gap for gap in gaps])
    assert _best(records) == ({"alpha", "beta"} if tied else {"alpha"})


def test_ties_are_judged_on_paired_differences():
    # Between splits both spread widely; split by split beta is always worse by 0.1.
    base = [1.0, 3.0, 5.0, 7.0, 9.0]
    assert _best(_series("alpha", base) + _series("beta", [b + 0.1 for b in base])) == {"alpha"}


def test_pairs_are_matched_by_split_and_not_by_order():
    base = [1.0, 3.0, 5.0]
    shifted = _series("beta", [b * 1.1 for b in base])
    assert _best(_series("alpha", base) + shifted[::-1]) == {"alpha"}


def test_a_method_with_one_bad_split_is_not_the_best_for_it():
    """Of figures that differ by multiples a spread of multiples is what counts."""
    records = _series("alpha", [0.6, 0.7, 0.65]) + _series("beta", [20.0, 200.0, 21.0])
    assert _best(records) == {"alpha"}


@pytest.mark.parametrize("splits", [1, 2])
def test_fewer_than_three_splits_have_no_ranks(splits):
    board = _board(_series("alpha", [1.0] * splits) + _series("beta", [9.0] * splits))
    for row in board.rows:
        assert (row.overall.rank, row.overall.group, row.scores["mah@1"].best) == (
            None,
            None,
            False,
        )
    assert cells(board)[0][4:6] == ["-", "-"]
    assert (
        f"- no ranks: ranks need 3 splits that most methods have, and here are {splits}"
        in to_markdown([board])
    )


def test_a_reference_that_is_not_certified_ranks_nothing_and_has_no_floor():
    doubtful = {"grade": "C", "failures": ["R-hat"]}
    board = _board(_series("alpha", [0.5] * 3, reference=doubtful))
    (row,) = board.rows
    assert row.overall.rank is None
    assert not row.scores["mah@1"].at_floor
    assert "- no ranks: the reference is not certified (grade C)" in to_markdown([board])


def misfitting(k_hat=0.9, ess_share=0.1):
    return {"k_hat": k_hat, "ess_share": ess_share, "points": 2000}


def test_a_density_that_misses_the_posterior_has_no_rank_but_keeps_its_place():
    """The others' ranks count it: a method that has no density does not gain by having none."""
    records = [
        *_series("alpha", [1.0] * 3, importance=misfitting()),
        *_series("beta", [2.0] * 3),
        *_series("gamma", [4.0] * 3, importance=misfitting(0.9, 0.995)),
    ]
    board = _board(records)
    assert [_row(board, name).overall.rank for name in ("alpha", "beta", "gamma")] == [
        None,
        (2, 2),
        (3, 3),
    ]
    assert _best(records) == set()
    assert "†" in cells(board)[0][2]
    assert cells(board)[0][6:8] == ["0.90", "10%"]


def test_repetitions_of_a_problem_are_splits_of_one_board():
    records = []
    for number in range(3):
        for method, value in (("alpha", 1.0), ("beta", 3.0)):
            own = record(
                method,
                values={"mah@1": value * (1 + number)},
                # Of its own reference: both methods double it as often on every data set.
                floor=(0.5 * (1 + number), 0.1),
                problem="logistic-100d",
                problem_label="logistic-100d" + f"[dataset={number}]" * (number > 0),
                settings={"problem": {"dataset": number}, "method": {}},
                error=1e-9,
            )
            records.append(own)
    label = "logistic-100d[dataset=1,published=True]"
    other = record(problem="logistic-100d", problem_label=label)
    board, published = boards([*records, other])
    assert (board.terms.problem, published.terms.problem) == (
        "logistic-100d",
        "logistic-100d[published=True]",
    )
    assert board.repetitions == ["dataset 0", "dataset 1", "dataset 2"]
    assert [(row.method, row.splits) for row in board.rows] == [("alpha", 3), ("beta", 3)]
    assert _row(board, "alpha").overall.sd == pytest.approx(0.0, abs=1e-9)
    assert _row(board, "alpha").overall.mean == pytest.approx(1.0)
    assert board.floor["mah@1"]["mean"] == pytest.approx(1.0)
    assert [row.overall.rank for row in board.rows] == [(1, 1), (2, 2)]
    assert "dataset 0, dataset 1, dataset 2 as its splits" in to_markdown([board])


def test_a_warning_of_most_methods_is_said_once():
    names = ["alpha", "beta", "gamma", "delta"]
    records = [
        record(name, warnings=[f"shard {n}: R-hat 1.0{n} in slope {n}"])
        for n, name in enumerate(names)
    ]
    records[0]["warnings"].append("its own")
    lines = [line for line in to_markdown([_board(records)]).splitlines() if "R-hat" in line]
    assert lines == ["- 4 of 4 methods warn, e.g. shard 0: R-hat 1.00 in slope 0"]
    assert "- alpha: warns: its own" in to_markdown([_board(records)])


def test_methods_of_this_project_are_named_as_such():
    text = to_markdown([_board([record("score-regression"), record("consensus")])])
    assert "- this project's own: score-regression (developed on spambase)" in text


def test_equal_figures_are_tied():
    assert _best(_series("alpha", [1.0, 2.0, 3.0]) + _series("beta", [1.0, 2.0, 3.0])) == {
        "alpha",
        "beta",
    }


def test_methods_without_a_common_split_are_not_ranked():
    records = [record("alpha", 0, error=1.0), record("beta", 1, {"mah@1": 1.1}, error=1.0)]
    assert _best(records) == set()
    assert cells(_board(records))[0][3:6] == ["2", "-", "-"]


def test_a_method_that_lacks_a_split_has_no_rank():
    records = [each for m in ("alpha", "beta", "gamma") for each in _series(m, [1.0, 2.0, 3.0])]
    records[-1] = failed("gamma", 2)
    board = _board(records)
    assert _row(board, "gamma").overall.rank is None
    assert _row(board, "alpha").overall.rank == (1, 2)


def test_every_metric_is_marked_on_its_own():
    records = [
        record(method, split, values={"mah@1": mah, "iad@1": iad})
        for split in range(3)
        for method, mah, iad in (("alpha", 1.0, 2.0), ("beta", 2.0, 1.0))
    ]
    board = _board(records)
    for method, best in (("alpha", "mah@1"), ("beta", "iad@1")):
        marks = {metric for metric, score in _row(board, method).scores.items() if score.best}
        assert marks == {best}


def test_the_oracle_is_last_and_never_the_best():
    records = _series("oracle", [0.1] * 3, track="reference") + _series("alpha", [1.0] * 3)
    board = _board(records)
    assert [row.method for row in board.rows] == ["alpha", "oracle"]
    assert _best(records) == {"alpha"}


@pytest.mark.parametrize(("value", "at_floor"), [(0.749, True), (0.751, False)])
def test_the_error_of_the_floors_mean_widens_it(value, at_floor):
    made = record("alpha", values={"mah@1": value})
    # Of a floor of 0.5 and sd 0.1, twice hypot(0.1, 0.075) = 0.125.
    made["metrics"]["mah@1"]["noise_floor"]["standard_error"] = 0.075
    (board,) = boards([made])
    assert _row(board, "alpha").scores["mah@1"].at_floor is at_floor


@pytest.mark.parametrize(("value", "at_floor"), [(0.1, True), (0.699, True), (0.701, False)])
def test_at_floor_is_within_two_sds_of_the_floor(value, at_floor):
    board = _board([record(values={"mah@1": value}, floor=(0.5, 0.1))])
    assert _row(board, "alpha").scores["mah@1"].at_floor is at_floor
    assert ("°" in cells(board)[0][2]) is at_floor


# ---------------------------------------------------------------- never mixed


@pytest.mark.parametrize(
    "other",
    [{"budget": "quick"}, {"scheme": "sorted-by-label"}, {"seed": 1}, {"problem": "other"}],
)
def test_other_terms_are_another_board(other):
    found = boards([record(values={"mah@1": 1.0}), record(values={"mah@1": 3.0}, **other)])
    assert sorted(row.scores["mah@1"].mean for b in found for row in b.rows) == [1.0, 3.0]
    assert len(found) == 2


def test_a_changed_budget_or_another_space_is_another_board():
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
    board = _board([record(), record(label="alpha[x=1]", values={"mah@1": 9.0})])
    assert {row.method for row in board.rows} == {"alpha", "alpha[x=1]"}


def test_stale_methods_are_left_out_and_counted():
    stale = [record("consensus", split, {"mah@1": 9.0}, method_version=0) for split in (0, 1)]
    board = _board([record("consensus"), *stale])
    assert board.stale == 2
    assert _row(board, "consensus").scores["mah@1"].mean == 1.0
    assert "2 stale records (of older versions) are left out" in to_markdown([board])


def test_stale_problems_are_left_out_and_counted():
    board = _board([record(problem="spambase", problem_version=0)])
    assert (board.rows, board.stale) == ([], 1)


def test_stale_metrics_are_left_out():
    board = _board([record(values={"mah@0": 9.0, "mah@1": 1.0})])
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
    board = _board([record(), failed("beta", 0, "ValueError: no|luck"), failed("beta", 1)])
    row = _row(board, "beta")
    assert (row.splits, row.scores, row.bytes) == (0, {}, None)
    assert row.notes == ["2 failed: ValueError: no|luck"]
    assert [each.method for each in board.rows] == ["alpha", "beta"]
    assert "- beta: 2 failed: ValueError: no\\|luck" in to_markdown([board])


def test_cell_that_is_not_applicable_says_why():
    board = _board([failed("alpha", reason="needs labels", status="not applicable")])
    assert _row(board, "alpha").notes == ["1 not applicable: needs labels"]
    assert board.metrics == []


def test_failed_split_is_left_out_of_the_mean():
    row = _row(_board([record(), failed("alpha", 1)]), "alpha")
    assert (row.splits, row.scores["mah@1"].mean) == (1, 1.0)
    assert row.notes == ["1 failed: ValueError: no"]


def test_warnings_are_counted():
    row = _row(_board([record(warnings=["R-hat"]), record(split=1)]), "alpha")
    assert (row.notes, row.warned, row.warnings) == ([], 1, ["R-hat"])


# ---------------------------------------------------------------- seconds


def test_seconds_are_means_and_compiling_counts_once():
    slow = record().get("seconds") | {"sampling": 4.0, "compile": 1.5, "sampling_compile": 0.0}
    row = _row(_board([record(), record(split=1, seconds=slow)]), "alpha")
    assert row.seconds["sampling"] == 3.0
    assert row.seconds["compile"] == 1.5
    assert row.seconds["sampling_compile"] == 8.0
    assert row.bytes == 57_600


def test_memory_is_that_of_the_largest_program_of_the_splits_that_say():
    needs = [{"fit": 300 << 20, "merge": 1}, {"fit": 2, "merge": 700 << 20}]
    records = [record(split=split, memory_bytes=each) for split, each in enumerate(needs)]
    board = _board([*records, record(split=2), record("beta")])
    assert _row(board, "alpha").memory_mib == 700
    assert _row(board, "beta").memory_mib is None
    by_method = {line["method"]: line for line in csv.DictReader(io.StringIO(to_csv([board])))}
    assert float(by_method["alpha"]["memory MiB"]) == 700
    assert by_method["beta"]["memory MiB"] == ""
    shown = {row[0]: row[header(board).index("MiB")] for row in cells(board)}
    assert (shown["alpha"], shown["beta"]) == ("700", "-")


@pytest.mark.parametrize("untold", [{}, {"memory_bytes": {}}, {"memory_bytes": {"fit": 0}}])
def test_memory_has_no_column_where_no_record_says(untold):
    board = _board([record(**untold)])
    assert _row(board, "alpha").memory_mib is None
    assert "MiB" not in header(board)


@pytest.mark.parametrize(
    ("load", "kept"), [(None, True), (MAX_OTHER_LOAD, True), (MAX_OTHER_LOAD + 0.01, False)]
)
def test_seconds_made_beside_other_work_stay_off_the_board(load, kept):
    slow = record()["seconds"] | {"merge": 100.0}
    busy = record(split=1, seconds=slow, other_load_cores=load)
    row = _row(_board([record(), busy]), "alpha")
    assert row.seconds["merge"] == (50.125 if kept else 0.25)
    assert row.notes == ([] if kept else ["1 timed beside other work"])
    assert row.splits == 2


def test_row_without_a_quiet_record_has_no_seconds():
    board = _board([record(other_load_cores=1.5)])
    assert _row(board, "alpha").seconds == {}
    assert cells(board)[0][7:12] == ["-"] * 5


def test_of_two_records_of_a_cell_the_newest_counts():
    older = record(values={"mah@1": 9.0}, created="2024-01-01T00:00:00+00:00")
    newer = record(values={"mah@1": 3.0}, created="2024-01-02T00:00:00+00:00")
    newer["settings"]["method"] = {"added": 1}
    for records in ([older, newer], [newer, older]):
        row = _row(_board(records), "alpha")
        assert (row.splits, row.scores["mah@1"].mean) == (1, 3.0)
