"""Training of GFlowNets: how near to the truth they come, and what each part is for."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.errors import NotApplicableError, UnknownNameError
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Method, Shard
from dncbench.methods.gflownet import _training
from dncbench.methods.gflownet._clients import edges, lookup, moves_of, of_objects
from dncbench.methods.gflownet._training import Plan, train
from dncbench.methods.gflownet.central import CentralGflownet
from dncbench.methods.gflownet.ep_gflownet import EpGflownet, EpGflownetExact, EpGflownetIs
from dncbench.methods.gflownet.fedavg import FedavgGflownet
from dncbench.problem import load_data
from dncbench.problems.discrete.bayes_net import BayesNet
from dncbench.problems.discrete.multisets import Multisets
from dncbench.stategraph.laws import log_law

NUM_DRAWS = 2000
BAG = Multisets(num_shards=2, num_items=4, size=3)
SHORT: dict[str, Any] = {"steps": 600, "batch": 32, "width": 32, "learning_rate": 1e-2}


@functools.cache
def shards(problem: Any) -> Shard:
    data = load_data(problem, jax.random.key(0))
    split = problem.split(data, "random", jax.random.key(0))
    density = problem.density(data, split, "plain", problem.space)
    return Shard(density=density, problem=problem, num_shards=problem.num_shards)


@functools.cache
def merged(method: Method, problem: Any = BAG) -> MergeResult:
    key = jax.random.key(3)
    return run_method(method, "it", shards(problem), key, NUM_DRAWS, problem.space)


def truth(problem: Any = BAG) -> np.ndarray:
    return np.asarray(jax.nn.softmax(jnp.sum(shards(problem).density.table, axis=0)))


def distance(method: Method, problem: Any = BAG) -> float:
    return float(0.5 * np.abs(np.exp(merged(method, problem).log_probs) - truth(problem)).sum())


# Flat law's distance from the truth: what an untrained policy is off by, about.
UNTRAINED = 0.5 * np.abs(1 / len(truth()) - truth()).sum()


def test_a_trained_merge_is_near_the_truth_and_its_clients_say_how_far() -> None:
    """Ten times nearer than a flat law; the divergence is within Theorem 3.4's bound."""
    for method in (EpGflownet(**SHORT), EpGflownetExact(**SHORT)):
        result = merged(method)
        assert UNTRAINED > 0.25
        assert distance(method) < 0.1 * UNTRAINED
        assert len(result.info["client_tv"]) == BAG.num_shards
        assert max(result.info["client_tv"]) < 0.1
        law, p = np.exp(result.log_probs), truth()
        jeffreys = np.sum((law - p) * (result.log_probs - np.log(p)))
        width = result.info["failure_bound"]
        assert method.__class__ is EpGflownet or jeffreys <= width * np.tanh(width / 4)
        assert result.info["reward_evaluations"] == 2 * 600 * 32


def test_weights_mend_a_server_that_was_hardly_trained() -> None:
    """Draws of few updates are far off; weighted, within the floor of 2000 draws.

    The floor is ½ Σ sqrt(2 p (1 - p) / (π n)), for 5 n proposals resampled to n draws somewhat
    more; three of it are allowed beside the clients' own error.
    """
    little = SHORT | {"server_steps": 0.05}
    before = distance(EpGflownet(**little))
    result, p = merged(EpGflownetIs(**little)), truth()
    after = 0.5 * np.abs(np.bincount(result.draws, minlength=len(p)) / NUM_DRAWS - p).sum()
    floor = 0.5 * np.sum(np.sqrt(2 * p * (1 - p) / (np.pi * NUM_DRAWS)))
    clients = distance(EpGflownetExact(**SHORT))
    assert before > 0.1
    assert after < 3 * floor + clients < before
    assert 0.0 < result.info["weights_share"] < 1.0
    assert result.info["ess"] <= NUM_DRAWS


@pytest.mark.parametrize("loss", ["contrastive", "trajectory", "detailed"])
def test_every_loss_leads_to_the_truth(loss: str) -> None:
    assert distance(CentralGflownet(**SHORT, loss=loss)) < 0.1 * UNTRAINED


def test_a_learned_backward_policy_goes_with_its_forward_policy() -> None:
    """Clients whose backward policies are their own merge as those with a uniform one do."""
    assert distance(EpGflownetExact(**SHORT, backward="learned")) < 0.1 * UNTRAINED


def test_modified_balance_is_for_objects_that_may_be_stopped_at_anywhere() -> None:
    graphs = BayesNet(num_shards=2, num_nodes=3, rows_per_client=10)
    flat = 0.5 * np.abs(1 / len(truth(graphs)) - truth(graphs)).sum()
    assert distance(CentralGflownet(**SHORT, loss="modified"), graphs) < 0.1 * flat
    with pytest.raises(NotApplicableError, match="stop anywhere"):
        merged(CentralGflownet(**SHORT, loss="modified"))


def test_clients_that_meet_more_often_drift_less_apart() -> None:
    """From one start to one average, or to 20 in as many updates: less than half the error."""
    once, often = (FedavgGflownet(**SHORT, rounds=rounds) for rounds in (1, 20))
    assert distance(often) < 0.5 * distance(once) < 0.5 * UNTRAINED
    assert len(merged(often).rounds) == 20


def test_all_states_at_once_or_only_those_visited_train_alike(monkeypatch) -> None:
    """Two ways of evaluating the same network, chosen by what is cheaper."""
    moves, table = moves_of(BAG), jnp.asarray(shards(BAG).density.table[0])
    network = EpGflownet(**SHORT).network(moves, jax.random.key(0))
    reward = lookup(moves, table)
    plan = Plan("contrastive", 5, 16, 1e-2, 0.5)

    def trained(most: int) -> Any:
        monkeypatch.setattr(_training, "_TABLE", most)
        return train(network, moves, plan, jax.random.key(1), of_objects(reward), reward)

    (one, losses_one), (other, losses_other) = trained(0), trained(1000)
    np.testing.assert_allclose(losses_one, losses_other, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_untrained_policies_are_laws() -> None:
    moves = moves_of(BAG)
    network = EpGflownet(backward="learned").network(moves, jax.random.key(0))
    network = eqx.tree_at(lambda n: n.biases[-1], network, replace_fn=lambda b: b + jnp.arange(9.0))
    forward, backward = edges(network, moves)
    assert np.exp(log_law(BAG.graph, forward)).sum() == pytest.approx(1.0, abs=1e-5)
    into = np.zeros(len(moves.child))
    np.add.at(into, moves.child[moves.can], np.exp(backward)[moves.can])
    np.testing.assert_allclose(into[1:], 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "contrastve"}, "contrastive"),
        ({"backward": "fixed"}, "uniform, learned"),
        ({"batch": 1}, "at least 2"),
        ({"exploration": 1.5}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        EpGflownet(**settings)
    with pytest.raises(UnknownNameError, match="rounds=0"):
        FedavgGflownet(rounds=0)
