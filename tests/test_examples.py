"""What docs/extending.md shows: four plugs, each through plan, record, board and report."""

from pathlib import Path

import numpy as np
import pytest
from handmade import REPOSITORY

from dncbench import load_plugin, run
from dncbench.boards.board import Board
from dncbench.boards.leaderboard import boards
from dncbench.configure import configure
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.report import build
from dncbench.storage.records import Records

EXAMPLES = REPOSITORY / "docs" / "examples"


@pytest.fixture(scope="module", autouse=True)
def _plugins(module_registry):
    for file in EXAMPLES.glob("*.py"):
        load_plugin(file)


def through(folder: Path, cache: Path, problem: str, methods: list[str]) -> tuple[Board, dict]:
    """Plan, cells and records, board, report; returns the board, and the records by method."""
    made = run(problem, methods, splits=1, budget="smoke", results=folder, cache=cache)
    (board,) = boards(Records(folder), [problem])
    page = build(Records(folder), problems=[problem], cache=cache)
    assert problem in page
    by_method = {record["identity"]["method"]["label"]: record for record in made}
    assert {row.method for row in board.rows} == set(by_method) == set(methods)
    return board, by_method


def test_the_page_names_every_example() -> None:
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    names = {file.name for file in EXAMPLES.glob("*.py")}
    assert names == {"discrete.py", "federated.py", "hierarchical.py", "predictive.py"}
    assert all(f"(examples/{name})" in page for name in names)


def test_a_discrete_problem_is_scored_by_total_variation(tmp_path, session_cache) -> None:
    methods = ["add-tables", "pooled", "oracle", "consensus"]
    board, records = through(tmp_path, session_cache, "reward-tables", methods)
    assert board.metrics == ["tv@1"]
    assert board.grade == "A"
    # The law itself: 20 probabilities, added up in another order.
    assert records["add-tables"]["metrics"]["tv@1"]["value"] < 1e-14
    floor = board.floor["tv@1"]
    assert abs(records["oracle"]["metrics"]["tv@1"]["value"] - floor["mean"]) < 5 * floor["sd"]
    assert records["pooled"]["metrics"]["tv@1"]["value"] > floor["mean"] + 20 * floor["sd"]
    assert records["consensus"]["status"] == "not applicable"
    assert "merges real draws, and these are codes" in records["consensus"]["reason"]
    first, *_, last = board.rows
    assert (first.method, last.method) == ("add-tables", "oracle")


def test_latent_variables_stay_on_their_shard(tmp_path, session_cache) -> None:
    methods = ["consensus", "score-regression[steps=500]", "gp", "oracle", "consensus + psis"]
    board, records = through(tmp_path, session_cache, "group-means", methods)
    for method in ("consensus", "score-regression[steps=500]"):
        figure = records[method]["metrics"]["mah@1"]
        # Gaussian subposteriors: within the figure's own error of what perfect draws read, the
        # conditional scores of which have no bias.
        bound = figure["noise_floor"]["mean"] + 4 * figure["standard_error"]
        assert figure["value"] < bound
    assert records["gp"]["reason"] == "method 'gp' needs log_density, which was not given"
    assert "needs density" in records["consensus + psis"]["reason"]
    assert {records[name]["status"] for name in ("gp", "consensus + psis")} == {"not applicable"}
    problem = configure("problem", "group-means")[1]
    data = load_data(problem, derive_key(0, "group-means", "data"))
    split = problem.split(data, "random", derive_key(0, "any"))
    assert split.unit == "groups"
    assert np.issubdtype(data.train["group"].dtype, np.integer)  # dtypes are kept
    for group in range(60):
        assert len(np.unique(split.shard_of[np.asarray(data.train["group"]) == group])) == 1
    assert board.grade == "A"


def test_rounds_and_predictions_reach_board_and_report(tmp_path, session_cache) -> None:
    methods = ["federated-newton", "consensus", "average", "oracle"]
    board, records = through(tmp_path, session_cache, "held-out-regression", methods)
    assert board.headline == ["log-predictive", "mah"]
    assert board.metrics == ["log-predictive@1", "mah@1"]

    newton = records["federated-newton"]
    assert newton["track"] == "data + 5 rounds"
    rounds = newton["rounds"]
    assert len(rounds) == 5
    assert all(len(one["fit_by_shard"]) == 3 for one in rounds)
    # 3 shards send a gradient and a curvature, 12 numbers; the mode, 3 numbers, goes to each.
    assert [one["bytes_up"] for one in rounds] == [3 * 12 * 8] * 5
    assert [one["bytes_down"] for one in rounds] == [0] + [3 * 3 * 8] * 4
    # A Gaussian posterior: the first step arrives, and what follows sends no change.
    errors = [one["metrics"]["mah@1"] for one in rounds]
    assert all(later == pytest.approx(errors[0], rel=1e-6) for later in errors)
    figure = newton["metrics"]["mah@1"]
    assert figure["value"] < figure["noise_floor"]["mean"] + 4 * figure["standard_error"]
    page = build(Records(tmp_path), cache=session_cache)
    assert "Round by round" in page
    assert "mah after rounds 1 to 5" in page

    for record in records.values():
        read = record["metrics"]["log-predictive@1"]
        # 50 held-out observations of unit noise: about ½ log 2πe = 1.42 nats each, give or take.
        assert 1.0 < read["value"] < 2.2
    assert board.rows[-1].method == "oracle"
