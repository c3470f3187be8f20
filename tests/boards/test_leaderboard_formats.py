"""The leaderboard's formats give back the figures of the boards."""

import csv
import io
import json
import re

import pytest
from handmade import failed, record

from dncbench.boards.leaderboard import boards
from dncbench.boards.tables import LEGEND, cells, header, to_csv, to_json, to_markdown


@pytest.fixture
def found():
    values = {"mah@1": 1 / 3, "iad@1": 2 / 3}
    return boards(
        [
            record("alpha", 0, values),
            record("alpha", 1, {"mah@1": 0.1, "iad@1": 0.2}),
            record("beta", 0, {"mah@1": 4.0, "iad@1": 0.001}, label="beta[x=a|b*]"),
            failed("gamma", 0, "ValueError: line one\nline two, with a comma"),
            record("alpha", seed=7),
        ]
    )


def test_csv_reads_back_to_the_same_figures(found):
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    rows = [(board, row) for board in found for row in board.rows]
    assert len(lines) == len(rows) == 4
    for line, (board, row) in zip(lines, rows, strict=True):
        assert (line["problem"], line["scheme"], line["budget"], line["seed"], line["space"]) == (
            board.terms.problem,
            board.terms.scheme,
            board.terms.budget,
            str(board.terms.seed),
            board.terms.space,
        )
        assert (line["method"], line["track"]) == (row.method, row.track)
        assert (int(line["splits"]), line["notes"]) == (row.splits, "; ".join(row.notes))
        for metric in ("mah@1", "iad@1"):
            score = row.scores.get(metric)
            assert line[f"{metric} mean"] == (str(score.mean) if score else "")
            assert line[f"{metric} se"] == (str(score.standard_error) if score else "")
            assert line[f"{metric} best"] == (str(int(score.best)) if score else "")
            if score:
                assert float(line[f"{metric} floor"]) == board.floor[metric]["mean"]
        for phase in ("sampling", "merge"):
            assert line[f"seconds {phase}"] == str(row.seconds.get(phase, ""))


def test_json_reads_back_to_the_same_figures(found):
    read = json.loads(to_json(found))
    assert [board["terms"] for board in read] == [vars(board.terms) for board in found]
    for plain, board in zip(read, found, strict=True):
        assert plain["floor"] == board.floor
        for each, row in zip(plain["rows"], board.rows, strict=True):
            assert each["method"] == row.method
            plain_scores = {name: vars(s) for name, s in row.scores.items()}
            assert each["scores"] == json.loads(json.dumps(plain_scores))
            assert each["seconds"] == row.seconds


def unescaped(text):
    return re.sub(r"\\(.)", r"\1", text).strip()


def test_markdown_reads_back_to_the_cells_of_the_table(found):
    text = to_markdown(found)
    blocks = text.split("### ")[1:]
    assert len(blocks) == len(found)
    for block, board in zip(blocks, found, strict=True):
        table = [line for line in block.splitlines() if line.startswith("|")]
        read = [[unescaped(cell) for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in table]
        assert read[0] == header(board)
        assert set(read[1]) == {"---"}
        wanted = [[cell.replace("\n", " ") for cell in row] for row in cells(board)]
        assert read[2:] == wanted
        assert unescaped(LEGEND) in unescaped(block)


def test_no_boards_make_no_rows():
    assert to_markdown([]) == ""
    assert json.loads(to_json([])) == []
    assert len(to_csv([]).splitlines()) == 1
