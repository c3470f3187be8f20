"""GFlowNets without a state graph: the same training, estimates for what tables say exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.configure import configure
from dncbench.errors import NotApplicableError
from dncbench.merging.executors import Local
from dncbench.merging.run import run_method
from dncbench.method import Shard
from dncbench.methods.gflownet._clients import moves_of
from dncbench.methods.gflownet._large import is_large, log_probs_at
from dncbench.methods.gflownet._policy import Network
from dncbench.methods.gflownet._training import Plan, last, train
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.problems.discrete._counts import Bag
from dncbench.stategraph.graph import tabulate
from dncbench.stategraph.laws import forward_policy, log_law
from dncbench.stategraph.moves import Functional, Moves, Tabulated

BAG = Bag(4, 3)
GRAPH = tabulate(BAG)
TABLE, FUNCTIONS = Tabulated(GRAPH, BAG), Functional(BAG)
OBJECTS = jnp.asarray(GRAPH.objects)


def trained(moves: Moves) -> tuple[Network, np.ndarray]:
    """Without an explorer, who wanders by the graph where there is one."""
    rewards = jnp.asarray(np.random.default_rng(0).normal(size=GRAPH.num_objects), jnp.float32)
    network = Network(moves, 16, False, jax.random.key(0))
    plan = Plan("contrastive", 60, 16, 3e-3, 0.0)
    aim = lambda path: rewards[moves.codes(path.last)]  # noqa: E731
    networks, losses = jax.jit(lambda start: train(start, moves, plan, jax.random.key(1), aim))(
        network
    )
    return last(networks), np.asarray(losses)


def test_training_is_the_same_with_a_graph_and_without() -> None:
    """One key draws the same trajectories of both; single precision rounds by 1e-7."""
    network, losses = trained(FUNCTIONS)
    other, expected = trained(TABLE)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()

    scores = other.outputs(TABLE, jnp.arange(GRAPH.num_states))[:, : BAG.num_actions]
    exact = np.asarray(log_law(GRAPH, forward_policy(GRAPH, scores.astype(float))))
    estimate = jax.jit(lambda network, key: log_probs_at(network, FUNCTIONS, OBJECTS, key))
    found, error = estimate(network, jax.random.key(2))
    # Of four objects one trajectory each leads to, which leaves no error but rounding's. Of the
    # others, 16, five standard errors are exceeded by chance once in 10^5 times.
    assert (np.abs(found - exact) < 5 * np.asarray(error) + 1e-5).all()
    assert np.sum(np.asarray(error) > 1e-3) == 16


def shards_of(spec: str) -> Shard:
    problem = configure("problem", spec)[1]
    data = load_data(problem, derive_key(0, "multisets-large", "data"))
    split = problem.split(data, "random", jax.random.key(0))
    return Shard(
        density=problem.density(data, split, "plain", problem.space),
        problem=problem,
        num_shards=problem.num_shards,
    )


def test_objects_that_nobody_lists_are_merged_in_bounded_memory() -> None:
    shards = shards_of("multisets-large")
    problem, num = shards.problem, 32
    assert is_large(problem)
    with pytest.raises(NotApplicableError, match="has no state graph"):
        moves_of(problem)
    method = configure("method", "ep-gflownet[steps=4,batch=8,width=8]")[1]
    result = run_method(
        method, "it", shards, jax.random.key(3), num, problem.space, Local(time_alone=False)
    )
    assert (problem.space.embed(result.draws).sum(1) <= 15).all()
    assert len(np.unique(result.draws)) > num / 2
    # A number for each of 1.9e9 objects would be 14 GB.
    assert max(result.memory.values()) < 100 * 2**20
    assert result.info["reward_evaluations"] == 4 * 4 * 8
    assert result.info["log_density_error"] > 0
    assert result.log_density is not None
    assert np.isfinite(result.log_density).all()


def test_a_loss_that_looks_at_all_states_is_not_applicable() -> None:
    shards = shards_of("multisets-large[num_items=4,size=3]")
    method = configure("method", "ep-gflownet[loss=modified]")[1]
    with pytest.raises(NotApplicableError, match="loss=modified looks at all states"):
        run_method(method, "it", shards, jax.random.key(3), 8, shards.problem.space)
