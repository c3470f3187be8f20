"""What the split saves: what is measured, not how fast."""

import json

import pytest
from click.testing import CliRunner

from dncbench.cli import main
from dncbench.running.speedup import Cost, Speedup


def test_the_slowest_shard_counts() -> None:
    full = Cost(300, 12.0, 1000.0)
    shards = (Cost(100, 2.0, 1000.0), Cost(100, 2.0, 500.0), Cost(100, 3.0, 1500.0))
    found = Speedup("mine", full, shards)
    assert found.slowest is shards[1]
    assert found.factor == pytest.approx(3.0)


def test_the_command_samples_the_full_posterior_and_every_shard() -> None:
    problem = "logistic-tall[num_observations=2000]"
    arguments = ["speedup", problem, "--budget", "smoke", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["full"]["rows"] == 2000
    assert [shard["rows"] for shard in found["shards"]] == [250] * 8
    for cost in (found["full"], *found["shards"]):
        # 1200 draws of NUTS: correlated, but by far not this much; and never free.
        assert 300 < cost["ess"] < 4800
        assert cost["seconds"] > 0
    slowest = max(shard["seconds"] / shard["ess"] for shard in found["shards"])
    full = found["full"]["seconds"] / found["full"]["ess"]
    assert found["factor"] == pytest.approx(full / slowest)


def test_an_unknown_problem_is_named() -> None:
    result = CliRunner().invoke(main, ["speedup", "logistic-tal"])
    assert result.exit_code == 2
    assert "logistic-tall" in result.output
