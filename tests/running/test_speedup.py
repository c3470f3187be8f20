"""What the split saves: what is measured, not how fast."""

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dncbench.cli import main
from dncbench.draws import Draws
from dncbench.posterior import Density
from dncbench.running import speedup
from dncbench.running.speedup import Cost, Speedup, measure
from dncbench.sampling import diagnostics
from dncbench.sampling.nuts import sample

PROBLEM = "logistic-tall[num_observations=600,num_shards=3]"


def test_the_slowest_shard_counts() -> None:
    full = Cost(300, 12.0, 1000.0)
    shards = (Cost(100, 2.0, 1000.0), Cost(100, 2.0, 500.0), Cost(100, 3.0, 1500.0))
    found = Speedup("mine", full, shards)
    assert found.slowest is shards[1]
    assert found.factor == pytest.approx(3.0)


def test_the_command_samples_the_full_posterior_and_every_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a sampler reports of each is handed over; a full posterior is paid for thrice here."""
    reported = iter([(12.0, 1000.0), (2.0, 1000.0), (2.0, 500.0), (3.0, 1500.0)])
    densities: list[Density] = []

    def sampled(density: Density, *more: Any) -> Draws:
        densities.append(density)
        seconds, ess = next(reported)
        info = {"seconds": seconds, "diagnostics": [{"min_ess_bulk": ess}]}
        return Draws(np.zeros((1, 1200, 5)), info=info)

    monkeypatch.setattr(speedup, "sample", sampled)
    result = CliRunner().invoke(main, ["speedup", PROBLEM, "--budget", "smoke", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    costs = [found["full"], *found["shards"]]
    assert [cost["rows"] for cost in costs] == [600, 200, 200, 200]
    assert [cost["seconds"] for cost in costs] == [12.0, 2.0, 2.0, 3.0]
    assert [cost["ess"] for cost in costs] == [1000.0, 1000.0, 500.0, 1500.0]
    # 12 ms for an effective draw of the full posterior, 4 ms of the second shard.
    assert found["factor"] == pytest.approx(3.0)
    # One density at a time, of so many observations, with its share of the prior.
    assert [density.mask.shape[0] for density in densities] == [1] * 4
    assert [int(density.mask.sum()) for density in densities] == [600, 200, 200, 200]
    weights = [float(density.prior_weight[0]) for density in densities]
    assert weights == pytest.approx([1.0, 1 / 3, 1 / 3, 1 / 3])


def test_a_cost_is_what_the_sampler_took_and_what_its_draws_are_worth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Draws] = []

    def recording(*arguments: Any) -> Any:
        found = sample(*arguments)
        made.append(found)
        return found

    monkeypatch.setattr(speedup, "sample", recording)
    # One shard has the shape of the whole, and with it the program, which takes the time.
    found = measure("logistic-tall[num_observations=600,num_shards=1]")
    assert len(made) == 2
    for cost, draws in zip((found.full, *found.shards), made, strict=True):
        chains = draws.by_chain(0)
        assert chains.shape[0] * chains.shape[1] == 1200  # of the smoke budget
        assert cost.ess == diagnostics.ess_bulk(chains).min()
        assert cost.seconds == draws.info["seconds"] > 0
    # Each was sampled: no two have a draw in common, though a chain may repeat one.
    states = [set(draws.values[0, :, 0].tolist()) for draws in made]
    assert len(set.union(*states)) == sum(map(len, states))


def test_an_unknown_problem_is_named() -> None:
    result = CliRunner().invoke(main, ["speedup", "logistic-tal"])
    assert result.exit_code == 2
    assert "logistic-tall" in result.output
