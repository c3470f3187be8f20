"""What the report computes: heights over the floor, fronts, features, contours, commands."""

import shlex

import numpy as np
import pytest
from handmade import failed, record
from report_pages import report_records
from scipy import stats

from dncbench.boards.board import Score
from dncbench.boards.leaderboard import boards
from dncbench.budget import get as get_budget
from dncbench.cli.running import run
from dncbench.report import features, floors, pareto
from dncbench.report import smoothing as densities
from dncbench.report.cells import command, rank_text
from dncbench.report.grouping import groups
from dncbench.report.overlays import WIDTH, contours, overlays, telling
from dncbench.running import plan as experiment
from dncbench.storage.records import Records

# ---------------------------------------------------------------- heights


@pytest.mark.parametrize(
    ("value", "multiple", "level"),
    [
        (0.5, 1.0, 0),
        (0.69, 1.38, 0),
        (0.71, 1.42, 1),
        (1.4, 2.8, 1),
        (1.6, 3.2, 2),
        (500.0, 1000, 5),
    ],
)
def test_height_is_the_multiple_of_the_floor(value, multiple, level):
    """The floor is 0.5 with sd 0.1: at the floor is up to 0.7."""
    (board,) = boards([record("m", 0, {"mah@1": value})])
    found = floors.height(board, board.rows[0], "mah@1")
    assert found.multiple == pytest.approx(multiple)
    assert found.level == level


def test_worst_needs_every_headline_metric():
    (board,) = boards(
        [record("m", 0, {"mah@1": 0.5, "iad@1": 4.0}), record("n", 0, {"mah@1": 0.5})]
    )
    heights = {row.method: floors.height(board, row, floors.WORST) for row in board.rows}
    assert heights["m"] == floors.Height(8.0, 2)
    assert heights["n"] is None


def test_no_height_without_a_figure_or_over_a_floor_of_zero():
    (board,) = boards([failed("m"), record("n", 0, {"mah@1": 1.0}, floor=(0.0, 0.0))])
    for row in board.rows:
        assert floors.height(board, row, "mah@1") is None


@pytest.mark.parametrize(
    ("multiple", "text"),
    [
        (0.0312, "0.031"),
        (0.5, "0.5"),
        (1.0, "1.0"),
        (9.94, "9.9"),
        (9.96, "10"),
        (994.0, "994"),
        (996.0, "1.0k"),
        (2.5e6, "2.5M"),
    ],
)
def test_multiples_have_two_digits_or_more(multiple, text):
    assert floors.multiple_text(floors.Height(multiple, 0)) == text


def test_methods_are_ordered_by_rank_and_a_missing_figure_is_a_last_place():
    rare = [record("rare", 0, {"mah@1": 0.4})]
    common = [
        record(m, 0, {"mah@1": v}, problem=p) for p in "ab" for m, v in (("x", 1.0), ("y", 2.0))
    ]
    reference = [record("oracle", 0, {"mah@1": 0.5}, problem="a", track="reference")]
    found = boards([*rare, *common, *reference])
    assert floors.best_first(found) == ["x", "y", "rare", "oracle"]


# ---------------------------------------------------------------- accuracy against time


def test_front_holds_what_nothing_reliable_beats_in_both():
    (board,) = [b for b in boards(report_records()) if b.terms.problem == "made"]
    points = {p.method: p for p in pareto.points(board, "mah@1")}
    assert "oracle" not in points
    assert {"broken", "apart"}.isdisjoint(points)
    assert [name for name, p in points.items() if p.front] == ["quick", "good"]
    assert points["quick"].seconds == pytest.approx(0.002)
    assert points["shaky"].unreliable


def test_methods_timed_beside_other_work_have_no_seconds():
    (board,) = boards([record("a"), record("b", other_load_cores=1.0), failed("c")])
    assert [p.method for p in pareto.points(board, "mah@1")] == ["a"]
    assert pareto.untimed(board) == ["b"]


# ---------------------------------------------------------------- features


def test_skewness_and_spread_are_measured():
    """A chi-squared(4) marginal has skewness sqrt(2); its standard error here is below 0.04."""
    rng = np.random.default_rng(1)
    theta = np.stack([rng.standard_normal(40_000), rng.chisquare(4, 40_000)], axis=1)
    assert features.largest_skew(theta) == pytest.approx(2**0.5, abs=0.12)
    assert features.largest_skew(theta) == pytest.approx(np.abs(stats.skew(theta)).max())
    shards = rng.standard_normal((3, 20_000, 2)) + np.array([-2.0, 0.0, 2.0])[:, None, None]
    assert features.heterogeneity(shards) == pytest.approx(2.0, abs=0.05)
    assert features.heterogeneity(shards[:1]) is None


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ({}, ["not known"] * 6),
        (
            {
                "dim": 5,
                "shards": 5,
                "skew": 0.3,
                "modes": 6,
                "heterogeneity": 3.1,
                "constrained": True,
            },
            ["1 to 5", "5 to 10", "0.25 to 0.75", "several", "above 3: far apart", "yes"],
        ),
        (
            {
                "dim": 21,
                "shards": 4,
                "skew": 0.1,
                "modes": 1,
                "heterogeneity": 1.0,
                "constrained": False,
            },
            ["above 20", "2 to 4", "below 0.25: near Gaussian", "one", "below 1.5: alike", "no"],
        ),
    ],
)
def test_problems_fall_into_classes(values, classes):
    found = features.Features(**values)
    assert [features.answer(found, question)[0] for question in features.QUESTIONS] == classes


# ---------------------------------------------------------------- drawings


def test_marginal_density_is_that_of_the_draws():
    """20 000 normal draws: a bin's standard error is about 0.005, smoothing lowers the top 1 %."""
    draws = np.random.default_rng(2).standard_normal(20_000)
    width = densities.bandwidth(draws)
    assert width == pytest.approx(0.9 * 20_000**-0.2, rel=0.05)
    found = densities.marginal(draws, -4.0, 4.0, 80, width)
    centres = np.linspace(-3.95, 3.95, 80)
    assert np.abs(found - stats.norm.pdf(centres)).max() < 0.025
    half = densities.marginal(draws, 0.0, 4.0, 40, width)
    assert half.sum() * 0.1 == pytest.approx(0.5, abs=0.03)  # what lies outside counts


def test_telling_coordinates_are_the_misplaced_the_misshapen_and_the_skewed():
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((5000, 5))
    truth[:, 4] = rng.exponential(size=5000)
    moved = truth + np.array([0.0, 0.0, 2.0, 0.0, 0.0])
    wide = truth * np.array([1.0, 3.0, 1.0, 1.0, 1.0])
    assert telling(truth, [moved, moved, wide * 1.0 + (moved - truth)])[0] == 2
    assert telling(truth, [wide + (moved - truth)] * 2) == [2, 1, 4]
    assert telling(truth[:, :1], [moved[:, :1]]) == [0]
    assert telling(truth, [])[0] == 4


def test_contours_enclose_the_mass_they_name():
    """The region of 95 % of a standard normal pair has radius sqrt(-2 log 0.05) = 2.448."""
    draws = np.random.default_rng(4).standard_normal((20_000, 2))
    box = np.array([-4.0, -4.0]), np.array([4.0, 4.0])
    lines = contours(draws, box)
    longest = np.array(max(lines, key=len), dtype=float)
    radius = np.linalg.norm(longest / WIDTH * 8 - 4, axis=1).mean()
    assert radius == pytest.approx(2.448, abs=0.12)


def test_the_first_coordinate_goes_across_and_the_second_up():
    rng = np.random.default_rng(5)
    truth = rng.standard_normal((4000, 2))
    shifted = truth + np.array([1.0, 0.0])
    _, pair = overlays(truth, {"m": shifted}, ("a", "b"))
    assert pair.names == ("a", "b")
    middle = [
        np.mean([p for line in lines for p in line], axis=0)
        for lines in (pair.reference, pair.lines["m"])
    ]
    assert middle[1][0] > middle[0][0] + 20
    assert abs(middle[1][1] - middle[0][1]) < 10


def test_draws_outside_the_drawing_have_no_line():
    truth = np.random.default_rng(6).standard_normal((1000, 2))
    marginals, pair = overlays(truth, {"far": truth + 100.0}, ("a", "b"))
    assert pair.lines["far"] == []
    assert all(overlay.lines["far"] == [] for overlay in marginals)


# ---------------------------------------------------------------- commands and ranks


@pytest.mark.parametrize(
    ("case", "method", "options"),
    [
        (experiment.Case("toy-logistic", 2), "consensus", {"seed": 3}),
        (experiment.Case("skewed-gamma", 1, "dirichlet:0.5", "natural"), "swiss", {"seed": 0}),
        (
            experiment.Case("logistic-100d[dataset=3,prior_precision=5.0]", 1),
            "consensus[weights=shard]",
            {"seed": 0},
        ),
        (experiment.Case("banana", 1), "flow[score_weight=0.3]", {"seed": 0, "correct": "psis"}),
        (experiment.published("toy-logistic"), "score-regression[rounds=2]", {"seed": 0}),
    ],
)
def test_the_command_of_a_cell_plans_that_very_cell(tmp_path, case, method, options):
    planned = experiment.plan(
        [case], [method], budget=get_budget("smoke"), records=Records(tmp_path), **options
    )
    identity = planned.todo[-1].identity
    words = shlex.split(command([identity], case.splits))
    assert words[:2] == ["dncbench", "run"]
    given = run.make_context("run", words[2:]).params
    again = experiment.plan(
        [
            experiment.Case(name, given["splits"], given["scheme"], given["space"])
            for name in given["problems"]
        ],
        given["methods"],
        budget=get_budget(given["budget_name"]),
        records=Records(tmp_path),
        seed=given["seed"],
        correct=given["correct"],
    )
    assert [cell.identity for cell in again.todo] == [cell.identity for cell in planned.todo]


def test_rank_intervals_are_shown_where_the_board_has_them():
    for rank, text in ((None, ""), ((2, 4), "2-4"), ((1, 1), "1")):
        assert rank_text(Score(1.0, None, 0.1, rank)) == text


def test_groups_leave_stale_records_and_other_problems_out():
    old = record("a", 0, method_version=1)
    new = record("a", 1, method_version=2)
    other = record("a", 0, problem="other", method_version=2)
    found = groups([old, new, other])
    assert [group.board.terms.problem for group in found] == ["made", "other"]
    assert found[0].records == {"a": [new]}
    assert [group.board.terms.problem for group in groups([new, other], ["other"])] == ["other"]


def test_methods_of_one_kind_of_draws_stand_together_and_those_of_several_after_them():
    points = [record(m, 0, {"mah@1": v}, problem="a") for m, v in (("x", 9.0), ("both", 1.0))]
    objects = [record(m, 0, {"mah@1": v}, problem="b") for m, v in (("o", 1.0), ("both", 9.0))]
    for each in objects:
        each["identity"]["space"] = "codes"
    assert floors.best_first(boards([*points, *objects])) == ["x", "o", "both"]
