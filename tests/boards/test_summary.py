"""Boards put together: weights, missing cells, ranks; from records made by hand."""

import csv
import io
import json

import pytest
from handmade import failed, record

from dncbench.boards import summary_tables
from dncbench.boards.leaderboard import boards
from dncbench.boards.summary import Line, Summary, summaries
from dncbench.errors import DataError
from dncbench.report.publish import BEGIN, END, readme_text

FLOOR = (0.5, 0.01)


def series(method: str, problem: str, multiples: list[float], **fields) -> list[dict]:
    """Records of a method whose figures are these multiples of the floor; the last till thrice."""
    multiples = multiples + [multiples[-1]] * (3 - len(multiples))
    return [
        record(
            method, split, {"mah@1": 0.5 * x}, problem=problem, floor=FLOOR, error=1e-9, **fields
        )
        for split, x in enumerate(multiples)
    ]


def summarised(records: list[dict]):
    (found,) = summaries(boards(records))
    return found


def line(found, method: str):
    (one,) = [each for each in found.lines if each.method == method]
    return one


def test_doublings_are_averaged_over_problems() -> None:
    records = [
        *series("alpha", "one", [2**1.9, 4.0, 2**2.1]),
        *series("alpha", "two", [16.0]),
        *series("beta", "one", [0.5, 0.9]),  # below the floor is at it
        *series("beta", "two", [2**0.9, 2.0, 2**1.1]),
    ]
    found = summarised(records)
    assert line(found, "alpha").above_floor == pytest.approx([2.0, 4.0], abs=1e-6)
    assert line(found, "alpha").complete == pytest.approx(3.0, abs=1e-6)
    assert line(found, "alpha").imputed == pytest.approx(3.0, abs=1e-6)
    assert line(found, "beta").imputed == pytest.approx(0.5, abs=1e-6)
    assert [each.method for each in found.lines] == ["beta", "alpha"]
    assert [each.rank for each in found.lines] == [(1, 1), (2, 2)]
    assert (line(found, "beta").mean_rank, line(found, "alpha").mean_rank) == (1.0, 2.0)


def test_boards_of_one_problem_share_its_weight() -> None:
    records = [
        *series("alpha", "one", [2.0]),
        *series("alpha", "two", [4.0], problem_label="two[dataset=0]"),
        *series("alpha", "two", [16.0], problem_label="two[dataset=1]"),
    ]
    found = summarised(records)
    assert found.boards == ["one", "two[dataset=0]", "two[dataset=1]"]
    assert found.weights == pytest.approx([0.5, 0.25, 0.25])
    assert line(found, "alpha").complete == pytest.approx(0.5 * 1 + 0.25 * 2 + 0.25 * 4, abs=1e-6)


def test_a_failure_costs_the_worst_figure_of_the_split() -> None:
    records = [
        *series("alpha", "one", [2.0, 2.0]),
        *series("beta", "one", [8.0, 32.0, 8.0]),
        *series("alpha", "two", [2.0, 2.0]),
        *series("beta", "two", [8.0, 8.0]),
        *series("gamma", "two", [1.0, 1.0]),
        *[each for split, each in enumerate(series("gamma", "one", [4.0])) if split != 1],
        failed("gamma", 1, problem="one"),
    ]
    found = summarised(records)
    gamma = line(found, "gamma")
    # On "one": doublings 2, and 5 of beta where gamma failed.
    assert gamma.imputed == pytest.approx(0.5 * (2 + 5 + 2) / 3, abs=1e-6)
    assert gamma.states == ["1 failed", ""]
    assert summary_tables.cells(found)[1][3].endswith("!")
    assert any("1 failed on one" in note for note in summary_tables.notes(found))


def test_what_holds_for_many_boards_of_a_problem_is_said_once() -> None:
    boards = ["gamma", "tall, natural space", "tall[n=1]", "tall[n=2]", "banana", "tall[n=3]"]
    found = Summary(
        budget="quick",
        seed=0,
        metrics=[["mah@1"]] * 6,
        boards=boards,
        weights=[0.25, 0.125, 0.125, 0.125, 0.25, 0.125],
        complete=[],
        lines=[
            Line("swiss", "draws", [None] * 6, ["", "1 failed", "1 failed", "", "2 failed", ""])
        ],
    )
    assert summary_tables.notes(found) == [
        "weights: 0.25 for each of gamma, banana; 0.125 for each of tall (4 boards)",
        "swiss: 1 failed on tall (natural space), tall[n=1]; 2 failed on banana",
    ]


def test_complete_cases_are_the_same_for_all() -> None:
    records = [
        *series("alpha", "one", [2.0]),
        *series("alpha", "two", [8.0]),
        *series("beta", "one", [4.0]),
        *(
            failed("beta", split, "too many dimensions", problem="two", status="not applicable")
            for split in range(3)
        ),
    ]
    found = summarised(records)
    assert found.complete == [0]
    assert line(found, "alpha").complete == pytest.approx(1.0, abs=1e-6)
    assert line(found, "beta").complete == pytest.approx(2.0, abs=1e-6)
    assert line(found, "beta").imputed == pytest.approx((2 + 3) / 2, abs=1e-6)
    assert summary_tables.header(found)[2] == "x floor, complete (1 boards)"


def test_a_method_that_was_not_tried_everywhere_is_left_out() -> None:
    records = [
        *series("alpha", "one", [2.0, 2.0]),
        *series("alpha", "two", [8.0, 2.0]),
        *series("beta", "two", [1.0, 1.0]),
        *series("gamma", "one", [1.0, 1.0]),
        *series("gamma", "two", [1.0])[:2],
        *series("delta", "one", [1.0, 1.0]),
        *series("delta", "two", [1.0, 1.0]),
    ]
    found = summarised(records)
    assert {each.method for each in found.lines} == {"alpha", "delta"}
    assert found.left_out == {"beta": 1, "gamma": 1}
    assert "beta (1), gamma (1)" in summary_tables.notes(found)[-1]


def test_the_oracle_is_not_ranked_and_one_board_is_no_summary() -> None:
    records = [
        *series("alpha", "one", [2.0]),
        *series("oracle", "one", [1.0], track="reference"),
    ]
    assert summaries(boards(records)) == []
    records += [*series("alpha", "two", [2.0]), *series("oracle", "two", [1.0], track="reference")]
    assert [each.method for each in summarised(records).lines] == ["alpha"]


def test_a_problem_on_which_no_merge_can_be_right_does_not_count() -> None:
    records = [
        *series("alpha", "one", [2.0]),
        *series("alpha", "two", [2.0]),
        *series("alpha", "power-plant-one-row", [64.0]),
    ]
    found = summarised(records)
    assert found.boards == ["one", "two"]
    assert line(found, "alpha").imputed == pytest.approx(1.0, abs=1e-6)


def test_a_class_of_posteriors_has_a_mean_of_its_own() -> None:
    glm, other = ("toy-logistic", "spambase"), ("banana",)
    records = [
        each
        for problem, figure in ((glm[0], 1.0), (glm[1], 4.0), (other[0], 16.0))
        for each in (
            *series("alpha", problem, [figure]),
            *series("score-regression", problem, [2.0]),
        )
    ]
    found = summarised(records)
    assert found.classes == {"glm": [1, 2], "not glm": [0], "not log-concave": [0]}
    alpha = line(found, "alpha").by_class
    assert alpha == pytest.approx({"glm": 1.0, "not glm": 4.0, "not log-concave": 4.0}, abs=1e-6)
    assert summary_tables.lead(found) == [
        "The order depends on the problems: GLMs are 2 of 3 boards (67% of the weight), others "
        "than GLMs are 1 of 3 boards (33% of the weight), posteriors not log-concave are 1 of 3 "
        "boards (33% of the weight).",
        "First over all is score-regression (this project's own, developed on spambase); it is "
        "number 1 of 2 over GLMs, number 1 of 2 over others than GLMs, number 1 of 2 over "
        "posteriors not log-concave.",
    ]
    text = summary_tables.to_markdown([found])
    assert text.index("First over all") < text.index("| method")


def test_boards_without_ranks_have_no_share_and_are_named() -> None:
    doubtful = {"grade": "C", "failures": ["R-hat"]}
    records = [
        *series("alpha", "one", [2.0]),
        *series("alpha", "two", [4.0]),
        *series("alpha", "three", [64.0], reference=doubtful),
        *series("alpha", "four", [64.0])[:2],
    ]
    found = summarised(records)
    assert found.boards == ["one", "two"]
    assert line(found, "alpha").imputed == pytest.approx(1.5, abs=1e-6)
    (told,) = [note for note in summary_tables.notes(found) if "no share" in note]
    assert "three (the reference is not certified" in told
    assert "four (ranks need 3 splits" in told


def test_a_board_whose_metrics_are_not_all_there_does_not_break_the_summary() -> None:
    records = [*series("alpha", "one", [2.0]), *series("alpha", "two", [4.0])]
    half = series("alpha", "three", [4.0])
    half[0]["metrics"]["iad@1"] = half[0]["metrics"]["mah@1"]
    found = summarised([*records, *half])
    assert found.boards == ["one", "two"]
    assert [title for title, _ in found.unranked] == ["three"]


def test_of_two_boards_of_one_title_each_has_its_own_reason() -> None:
    """Random and in-order splits of a problem are called alike."""
    records = [
        *series("alpha", "one", [2.0]),
        *series("alpha", "two", [4.0]),
        *series("alpha", "two", [64.0], scheme="in-order")[:2],
    ]
    found = summarised(records)
    assert found.boards == ["one", "two"]
    assert [title for title, _ in found.unranked] == ["two"]


def test_boards_of_other_metrics_are_put_together() -> None:
    """Doublings above the floor of whatever a problem is judged by."""
    records = [*series("alpha", "one", [2.0]), *series("alpha", "two", [4.0])]
    for each in records[3:]:
        each["metrics"] = {"skew@1": each["metrics"]["mah@1"]}
    found = summarised(records)
    assert found.metrics == [["mah@1"], ["skew@1"]]
    assert "other metrics: skew on two" in summary_tables.notes(found)


def test_budgets_are_never_mixed() -> None:
    records = [
        *series("alpha", "one", [2.0], budget="smoke"),
        *series("alpha", "two", [2.0], budget="quick"),
    ]
    assert summaries(boards(records)) == []


# ---------------------------------------------------------------- as text


@pytest.fixture
def found():
    records = [
        each
        for problem in ("one", "two")
        for each in (*series("alpha", problem, [2.0, 4.0]), *series("b_1", problem, [3.0, 3.0]))
    ]
    return summaries(boards(records))


def test_csv_and_json_read_back(found) -> None:
    lines = list(csv.DictReader(io.StringIO(summary_tables.to_csv(found))))
    read = json.loads(summary_tables.to_json(found))
    for text, plain, one in zip(lines, read[0]["lines"], found[0].lines, strict=True):
        assert text["method"] == plain["method"] == one.method
        assert float(text["imputed"]) == plain["imputed"] == one.imputed
        assert [float(text["one"]), float(text["two"])] == plain["above_floor"] == one.above_floor
        assert [int(text["rank low"]), int(text["rank high"])] == plain["rank"] == list(one.rank)


def test_latex_escapes_and_closes_what_it_opens(found) -> None:
    text = summary_tables.to_latex(found)
    assert r"b\_1 & " in text
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    columns = len(summary_tables.header(found[0]))
    body = [row for row in text.splitlines() if row.endswith(r"\\")]
    assert len(body) == 1 + len(found[0].lines)
    assert {row.count(" & ") for row in body} == {columns - 1}


def test_a_block_is_replaced_between_its_marks(found, tmp_path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nobsolete\n{END}\nafter\n")
    text = readme_text(file, found)
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "| alpha |" in text
    assert "obsolete" not in text
    file.write_text(text)
    assert readme_text(file, found) == text


def test_a_file_without_marks_is_left_alone(found, tmp_path) -> None:
    file = tmp_path / "README.md"
    file.write_text("nothing here\n")
    with pytest.raises(DataError, match="no leaderboard block"):
        readme_text(file, found)
    file.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(DataError, match="at least two problems"):
        readme_text(file, [])
