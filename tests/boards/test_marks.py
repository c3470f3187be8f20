"""Ranks, marks and remarks of a board: who is best, who is not ranked, and why."""

import pytest
from handmade import board_of, failed, record, row_of, series_of

from dncbench.boards.leaderboard import boards
from dncbench.boards.tables import cells, to_markdown


def _best(records):
    return {row.method for row in board_of(records).rows if row.scores["mah@1"].best}


@pytest.mark.parametrize(("gap", "tied"), [(0.15, True), (0.19, False)])
def test_equal_splits_are_tied_by_their_monte_carlo_error(gap, tied):
    # The logarithms 0 and log(1 + gap) have errors of 0.1 and 0.1 / (1 + gap) over sqrt(3): they
    # are apart by more than 1.96 of their difference's from a gap of 0.166 on.
    records = series_of("alpha", [1.0] * 3, error=0.1) + series_of(
        "beta", [1.0 + gap] * 3, error=0.1
    )
    assert _best(records) == ({"alpha", "beta"} if tied else {"alpha"})


@pytest.mark.parametrize(("shift", "tied"), [(0.6, True), (1.3, False)])
def test_five_splits_are_tied_by_their_spread(shift, tied):
    # Doublings apart shift + (-1, 0, 0, 0, 1): sd sqrt(1/2), for which Student's t allows
    # 2.776 sqrt(1/10) = 0.878. A mean of five resampled gaps is a multiple of 0.2, widened to one
    # of 0.317: the quantile of the bootstrap is 0.63 or 0.95, whichever is nearer to 2.5 %.
    gaps = [shift - 1, shift, shift, shift, shift + 1]
    records = series_of("alpha", [5.0] * 5) + series_of("beta", [5.0 * 2**gap for gap in gaps])
    assert _best(records) == ({"alpha", "beta"} if tied else {"alpha"})


def test_ties_are_judged_on_paired_differences():
    # Between splits both spread widely; split by split beta is always worse by 0.1.
    base = [1.0, 3.0, 5.0, 7.0, 9.0]
    assert _best(series_of("alpha", base) + series_of("beta", [b + 0.1 for b in base])) == {"alpha"}


def test_pairs_are_matched_by_split_and_not_by_order():
    base = [1.0, 3.0, 5.0]
    shifted = series_of("beta", [b * 1.1 for b in base])
    assert _best(series_of("alpha", base) + shifted[::-1]) == {"alpha"}


def test_a_method_with_one_bad_split_is_not_the_best_for_it():
    """Of figures that differ by multiples a spread of multiples is what counts."""
    records = series_of("alpha", [0.6, 0.7, 0.65]) + series_of("beta", [20.0, 200.0, 21.0])
    assert _best(records) == {"alpha"}


@pytest.mark.parametrize("splits", [1, 2])
def test_fewer_than_three_splits_have_no_ranks(splits):
    board = board_of(series_of("alpha", [1.0] * splits) + series_of("beta", [9.0] * splits))
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
    board = board_of(series_of("alpha", [0.5] * 3, reference=doubtful))
    (row,) = board.rows
    assert row.overall.rank is None
    assert not row.scores["mah@1"].at_floor
    assert "- no ranks: the reference is not certified (grade C)" in to_markdown([board])


def misfitting(k_hat=0.9, ess_share=0.1):
    return {"k_hat": k_hat, "ess_share": ess_share, "points": 2000}


def test_a_density_that_misses_the_posterior_has_no_rank_but_keeps_its_place():
    """The others' ranks count it: a method that has no density does not gain by having none."""
    records = [
        *series_of("alpha", [1.0] * 3, importance=misfitting()),
        *series_of("beta", [2.0] * 3),
        *series_of("gamma", [4.0] * 3, importance=misfitting(0.9, 0.995)),
    ]
    board = board_of(records)
    assert [row_of(board, name).overall.rank for name in ("alpha", "beta", "gamma")] == [
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
    assert row_of(board, "alpha").overall.sd == pytest.approx(0.0, abs=1e-9)
    assert row_of(board, "alpha").overall.mean == pytest.approx(1.0)
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
    lines = [line for line in to_markdown([board_of(records)]).splitlines() if "R-hat" in line]
    assert lines == ["- 4 of 4 methods warn, e.g. shard 0: R-hat 1.00 in slope 0"]
    assert "- alpha: warns: its own" in to_markdown([board_of(records)])


def test_methods_of_this_project_are_named_as_such():
    text = to_markdown([board_of([record("score-regression"), record("consensus")])])
    assert "- this project's own: score-regression (developed on spambase)" in text


def test_equal_figures_are_tied():
    assert _best(series_of("alpha", [1.0, 2.0, 3.0]) + series_of("beta", [1.0, 2.0, 3.0])) == {
        "alpha",
        "beta",
    }


def test_methods_without_a_common_split_are_not_ranked():
    records = [record("alpha", 0, error=1.0), record("beta", 1, {"mah@1": 1.1}, error=1.0)]
    assert _best(records) == set()
    assert cells(board_of(records))[0][3:6] == ["2", "-", "-"]


def test_a_method_that_lacks_a_split_has_no_rank():
    records = [each for m in ("alpha", "beta", "gamma") for each in series_of(m, [1.0, 2.0, 3.0])]
    records[-1] = failed("gamma", 2)
    board = board_of(records)
    assert row_of(board, "gamma").overall.rank is None
    assert row_of(board, "alpha").overall.rank == (1, 2)


def test_every_metric_is_marked_on_its_own():
    records = [
        record(method, split, values={"mah@1": mah, "iad@1": iad})
        for split in range(3)
        for method, mah, iad in (("alpha", 1.0, 2.0), ("beta", 2.0, 1.0))
    ]
    board = board_of(records)
    for method, best in (("alpha", "mah@1"), ("beta", "iad@1")):
        marks = {metric for metric, score in row_of(board, method).scores.items() if score.best}
        assert marks == {best}


def test_the_oracle_is_last_and_never_the_best():
    records = series_of("oracle", [0.1] * 3, track="reference") + series_of("alpha", [1.0] * 3)
    board = board_of(records)
    assert [row.method for row in board.rows] == ["alpha", "oracle"]
    assert _best(records) == {"alpha"}


def test_what_is_no_merge_has_no_rank_among_merges():
    """One network on all clients' rewards: its records name what it used, boards what it is."""
    records = series_of("central-gflownet", [0.6] * 3, track="the model")
    board = board_of(records + series_of("alpha", [1.0] * 3, track="the model"))
    assert [(row.method, row.track) for row in board.rows] == [
        ("alpha", "the model"),
        ("central-gflownet", "reference"),
    ]
    assert _best(records + series_of("alpha", [1.0] * 3)) == {"alpha"}


@pytest.mark.parametrize(("value", "at_floor"), [(0.749, True), (0.751, False)])
def test_the_error_of_the_floors_mean_widens_it(value, at_floor):
    made = record("alpha", values={"mah@1": value})
    # Of a floor of 0.5 and sd 0.1, twice hypot(0.1, 0.075) = 0.125.
    made["metrics"]["mah@1"]["noise_floor"]["standard_error"] = 0.075
    (board,) = boards([made])
    assert row_of(board, "alpha").scores["mah@1"].at_floor is at_floor


@pytest.mark.parametrize(("value", "at_floor"), [(0.1, True), (0.699, True), (0.701, False)])
def test_at_floor_is_within_two_sds_of_the_floor(value, at_floor):
    board = board_of([record(values={"mah@1": value}, floor=(0.5, 0.1))])
    assert row_of(board, "alpha").scores["mah@1"].at_floor is at_floor
    assert ("°" in cells(board)[0][2]) is at_floor
