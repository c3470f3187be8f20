"""Figures of laws that a merge tells exactly: they have no noise, and none of the floor's."""

import math

import pytest
from handmade import board_of, record, row_of, series_of

from dncbench.boards.board import EXACT_SHARE
from dncbench.boards.leaderboard import boards
from dncbench.boards.tables import cells
from dncbench.report.floors import height, multiple_text

FLOOR = 0.5  # of the hand-made records


def _board(**values):
    """Methods with exact laws, beside one with draws at the floor."""
    records = series_of("draws", [0.4, 0.5, 0.6])
    for method, figures in values.items():
        records += series_of(method, figures, error=0.0)
    return board_of(records)


def test_exact_laws_below_the_floor_are_told_apart_and_draws_are_not():
    board = _board(near=[0.05, 0.06, 0.07], far=[0.25, 0.26, 0.27])
    assert [row.method for row in board.rows] == ["near", "far", "draws"]
    assert [row.overall.group for row in board.rows] == [1, 2, 3]
    mean = sum(math.log2(value / FLOOR) for value in (0.05, 0.06, 0.07)) / 3
    assert row_of(board, "near").overall.mean == pytest.approx(mean)
    # Draws below the floor are there by chance: 0.4 and 0.5 count as 0.5.
    assert row_of(board, "draws").overall.mean == pytest.approx(math.log2(0.6 / FLOOR) / 3)


def test_an_exact_law_is_at_the_floor_only_where_it_is_right():
    share = EXACT_SHARE * FLOOR
    board = _board(right=[share] * 3, nearly=[1.01 * share] * 3)
    marked = {row[0]: "°" in row[2] for row in cells(board)[:-1]}
    assert marked == {"right": True, "nearly": False, "draws": True}


def test_a_figure_of_draws_that_has_no_error_is_not_one_of_a_law():
    """Draws that miss no mode have a share of 0 without an error; their law is not known."""
    records = series_of("draws", [0.6] * 3)
    for each in records:
        missed = {**each["metrics"]["mah@1"], "value": 0.0, "standard_error": 0.0}
        each["metrics"]["modes-missed@1"] = missed
    (board,) = boards(records, metrics=["modes-missed"])
    row = row_of(board, "draws")
    assert not row.scores["modes-missed@1"].exact
    assert row.overall.mean == 0.0  # at the floor, and no nearer


def test_zero_has_a_multiple_that_a_mean_survives():
    board = _board(zero=[0.0, 0.25, 0.25])
    assert row_of(board, "zero").overall.mean == pytest.approx((math.log2(EXACT_SHARE) - 2) / 3)


def test_reports_show_multiples_below_one_of_exact_laws():
    board = _board(law=[0.05] * 3)
    found = height(board, row_of(board, "law"), "mah@1")
    assert (found.level, multiple_text(found)) == (0, "0.1")
    assert multiple_text(height(board, row_of(board, "draws"), "mah@1")) == "1.0"


def test_a_method_that_tells_its_law_in_some_splits_alone_is_held_to_the_noise():
    exact = record("mixed", 0, {"mah@1": 0.01}, error=0.0)
    drawn = [record("mixed", split, {"mah@1": 0.5}, error=0.01) for split in (1, 2)]
    board = board_of([exact, *drawn])
    assert not row_of(board, "mixed").scores["mah@1"].exact
    assert row_of(board, "mixed").scores["mah@1"].at_floor
