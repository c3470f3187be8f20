"""Laws of policies by dynamic programming, against sums over all trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2
from toys import Toy, law

from dncbench.problems.discrete._grid import Grid
from dncbench.problems.discrete._structures import AddingEdges
from dncbench.problems.discrete._trees import Joining
from dncbench.problems.discrete.multisets import Bag
from dncbench.problems.discrete.sequences import Writing
from dncbench.stategraph.graph import tabulate
from dncbench.stategraph.laws import (
    aggregated_policy,
    backward_policy,
    balanced_policy,
    forward_policy,
    log_law,
    log_visits,
)
from dncbench.stategraph.moves import Tabulated
from dncbench.stategraph.trajectories import every_trajectory, roll_back, roll_out

ENVIRONMENTS = [Grid(4), Bag(4, 3), Joining(4), AddingEdges(3)]

every_environment = pytest.mark.parametrize(
    "environment", ENVIRONMENTS, ids=lambda environment: type(environment).__name__
)


def a_policy(graph, seed: int = 0):
    scores = np.random.default_rng(seed).normal(size=graph.child.shape)
    return forward_policy(graph, scores)


@every_environment
def test_the_law_is_the_sum_over_trajectories(environment) -> None:
    graph = tabulate(environment)
    policy, every = a_policy(graph), every_trajectory(graph)
    terms = np.exp(np.asarray(every.along(policy)))
    expected = np.bincount(graph.codes()[every.last], terms, minlength=graph.num_objects)
    np.testing.assert_allclose(np.exp(log_law(graph, policy)), expected, rtol=1e-12)
    assert np.sum(expected) == pytest.approx(1.0, abs=1e-12)


@every_environment
def test_each_layer_that_nothing_has_left_is_visited_for_certain(environment) -> None:
    graph = tabulate(environment)
    visits = np.exp(np.asarray(log_visits(graph, a_policy(graph))))
    depth = np.repeat(np.arange(graph.num_steps + 1), np.diff(graph.starts))
    done = ~graph.allowed.any(1)
    for layer in range(graph.num_steps + 1):
        there = visits[depth == layer].sum() + visits[(depth < layer) & done].sum()
        assert there == pytest.approx(1.0, abs=1e-12)


@every_environment
def test_backward_policies_sum_to_one(environment) -> None:
    graph = tabulate(environment)
    scores = np.random.default_rng(1).normal(size=graph.child.shape)
    for policy in (graph.log_backward, np.asarray(backward_policy(graph, scores))):
        total = np.zeros(graph.num_states)
        np.add.at(total, graph.child[graph.allowed], np.exp(policy[graph.allowed]))
        np.testing.assert_allclose(total[1:], 1.0, rtol=1e-12)


@every_environment
def test_a_balanced_policy_has_the_law_of_the_rewards(environment) -> None:
    graph = tabulate(environment)
    rng = np.random.default_rng(2)
    rewards = rng.normal(size=graph.num_objects)
    backward = backward_policy(graph, rng.normal(size=graph.child.shape))
    for given in (None, backward):
        policy = balanced_policy(graph, rewards, given)
        found = np.asarray(jnp.where(graph.allowed, jnp.exp(policy), 0.0)).sum(1)
        np.testing.assert_allclose(found[graph.allowed.any(1)], 1.0, rtol=1e-12)
        np.testing.assert_allclose(np.exp(log_law(graph, policy)), law(rewards), rtol=1e-10)


def test_clients_in_balance_aggregate_to_the_product() -> None:
    """Where two edges lead from one state to another; each client has a backward policy."""
    graph = tabulate(Writing(3, 4, both=True))
    rng = np.random.default_rng(5)
    rewards = rng.normal(size=(3, graph.num_objects))
    backwards = [backward_policy(graph, rng.normal(size=graph.child.shape)) for _ in rewards]
    policies = [balanced_policy(graph, *each) for each in zip(rewards, backwards, strict=True)]
    merged = aggregated_policy(graph, np.stack(policies), np.stack(backwards))
    found = np.exp(np.asarray(log_law(graph, merged)))
    np.testing.assert_allclose(found, law(rewards.sum(0)), rtol=1e-10)


def test_the_law_can_be_differentiated() -> None:
    """Against central differences, whose error is of the order of the step's square."""
    graph = tabulate(Grid(4))
    rng = np.random.default_rng(3)
    scores, weights = rng.normal(size=graph.child.shape), rng.normal(size=graph.num_objects)

    def objective(scores):
        return jnp.asarray(weights) @ log_law(graph, forward_policy(graph, scores))

    gradient = np.asarray(jax.grad(objective)(jnp.asarray(scores)))
    assert np.isfinite(gradient).all()
    for edge in zip(*np.nonzero(graph.allowed), strict=True):
        step = np.zeros_like(scores)
        step[edge] = 1e-5
        slope = (objective(scores + step) - objective(scores - step)) / 2e-5
        assert gradient[edge] == pytest.approx(float(slope), abs=1e-7)


def test_roll_outs_have_the_policy_s_law() -> None:
    graph = tabulate(Grid(4))
    policy, num = a_policy(graph), 20_000
    probs = jnp.exp(policy).astype(jnp.float32)
    moves = Tabulated(graph, Grid(4))
    found = roll_out(moves, lambda states: probs[states], jax.random.key(4), num)
    counts = np.bincount(graph.codes()[np.asarray(found.last)], minlength=graph.num_objects)
    expected = num * np.exp(np.asarray(log_law(graph, policy)))
    assert expected.min() > 5
    statistic = np.sum((counts - expected) ** 2 / expected)
    assert statistic < chi2.isf(1e-4, graph.num_objects - 1)


def test_trajectories_rolled_back_estimate_the_law_without_bias() -> None:
    """p(x) = E_{τ ~ p_B(. given x)} [p_F(τ) / p_B(τ given x)], of trajectories of any length."""
    graph = tabulate(Grid(4))
    forward, num = a_policy(graph), 4096
    backward = backward_policy(graph, np.random.default_rng(6).normal(size=graph.child.shape))
    moves = Tabulated(graph, Grid(4))
    parent = np.maximum(moves.parent, 0)
    into = jnp.exp(backward)[parent, np.arange(3)[None]].astype(jnp.float32)
    last = jnp.repeat(jnp.asarray(graph.complete), num)
    path = roll_back(moves, lambda states: into[states], jax.random.key(7), last)

    np.testing.assert_array_equal(path.last, last)
    after = np.concatenate([path.states[1:], path.last[None]])
    moved, states, actions = (np.asarray(each) for each in (path.moved, path.states, path.actions))
    np.testing.assert_array_equal(np.where(moved, graph.child[states, actions], states), after)
    assert (states[0] == 0).all()
    assert (moved.sum(0) == graph.states[np.asarray(last)].sum(1)).all()

    terms = np.exp(np.asarray(path.along(forward - backward))).reshape(graph.num_objects, num)
    error = terms.std(1, ddof=1) / num**0.5
    gap = np.abs(terms.mean(1) - np.exp(np.asarray(log_law(graph, forward))))
    # 16 objects: five standard errors are exceeded by chance once in 10^5 times.
    assert (gap <= 5 * error + 1e-6).all()
    assert error.max() > 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_aggregated_policy_has_the_law_that_remark_3_3_says(noise: float) -> None:
    """R̂(x) = E_{τ ~ p_B(. given x)} Π_n p_F,n(τ) / p_B,n(τ given x), by all trajectories."""
    toy = Toy(4, 3, 3)
    graph, own = toy.graph, toy.backward()
    log_forwards = jnp.stack(
        [forward_policy(graph, policy + noise * toy.scores()) for policy in toy.log_forwards]
    )
    policy = aggregated_policy(graph, log_forwards, toy.log_backwards, own)
    ratios = toy.ratios(log_forwards, toy.log_backwards).sum(0)
    terms = np.exp(np.asarray(toy.every.along(own)) + ratios)
    rewards = np.bincount(toy.last, terms, minlength=graph.num_objects)
    found = np.exp(np.asarray(log_law(graph, policy)))
    np.testing.assert_allclose(found, rewards / rewards.sum(), rtol=1e-10)
    gap = np.abs(found - law(toy.log_rewards.sum(0))).sum()
    assert gap < 1e-10 if noise == 0.0 else gap > 1e-3
    # It is in aggregating balance: what the loss trains a server to.
    residual = np.asarray(toy.every.along(policy) - toy.every.along(own)) - ratios
    if noise == 0.0:
        assert np.ptp(residual) < 1e-10
