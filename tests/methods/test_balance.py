"""Theorems of da Silva et al. (2024) on graphs small enough for sums over all trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Toy, law

from dncbench.methods.gflownet._balance import contrastive_loss, trajectory_loss
from dncbench.stategraph.laws import (
    aggregated_policy,
    balanced_policy,
    forward_policy,
    log_law,
)

TOYS = [(3, 2, 3), (4, 4, 5)]
"""Items, size and clients: 6 objects by 9 ways, 35 by 256."""

both_toys = pytest.mark.parametrize("sizes", TOYS, ids=str)


@both_toys
def test_clients_and_server_in_balance_leave_no_residual(sizes) -> None:
    """Theorem 3.1 and Lemma 3.5, with another backward policy for everybody."""
    toy = Toy(*sizes)
    graph, own, total = toy.graph, toy.backward(), toy.log_rewards.sum(0)
    normalisers = jax.nn.logsumexp(jnp.asarray(toy.log_rewards), axis=1)
    ratios = toy.ratios(toy.log_forwards, toy.log_backwards)
    for ratio, rewards, log_z in zip(ratios, toy.log_rewards, normalisers, strict=True):
        assert trajectory_loss(jnp.asarray(ratio - rewards[toy.last]), log_z) < 1e-20
    policy = balanced_policy(graph, total, own)
    server = np.asarray(toy.every.along(policy) - toy.every.along(own))
    contrastive, aggregating = server - total[toy.last], server - ratios.sum(0)
    assert contrastive_loss(jnp.asarray(contrastive)) < 1e-20
    assert contrastive_loss(jnp.asarray(aggregating)) < 1e-20
    # The constants: -log Z, and that of the clients' balance.
    log_z = jax.nn.logsumexp(jnp.asarray(total))
    np.testing.assert_allclose(contrastive, -log_z, rtol=1e-12)
    np.testing.assert_allclose(aggregating, normalisers.sum() - log_z, rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_law(graph, policy)), law(total), rtol=1e-10)
    computed = aggregated_policy(graph, toy.log_forwards, toy.log_backwards, own)
    np.testing.assert_allclose(computed, policy, rtol=1e-9, atol=1e-12)


def test_a_client_must_send_the_backward_policy_that_it_was_trained_with() -> None:
    """With the right laws and other backward policies, what was in balance is not any more."""
    toy = Toy(*TOYS[0])
    total, own = toy.log_rewards.sum(0), toy.backward()
    server = toy.every.along(balanced_policy(toy.graph, total, own)) - toy.every.along(own)
    others = jnp.stack([toy.backward() for _ in toy.log_rewards])
    residual = server - toy.ratios(toy.log_forwards, others).sum(0)
    assert contrastive_loss(residual) > 0.1


def test_the_loss_is_the_mean_over_pairs() -> None:
    residuals = np.random.default_rng(0).normal(size=7)
    gaps = (residuals[:, None] - residuals[None]) ** 2
    expected = gaps.sum() / (7 * 6)
    assert contrastive_loss(jnp.asarray(residuals)) == pytest.approx(expected, rel=1e-14)


@both_toys
def test_the_gradient_of_contrastive_balance_is_four_times_that_of_the_divergence(sizes) -> None:
    """Theorem 3.7, with the constant, by sums over all pairs of trajectories."""
    toy = Toy(*sizes)
    graph, every = toy.graph, toy.every
    scores, own, rewards = jnp.asarray(toy.scores()), toy.backward(), toy.log_rewards[0]
    aim = every.along(own) + jnp.asarray(rewards)[toy.last]
    aim = aim - jax.nn.logsumexp(jnp.asarray(rewards))

    def log_forward(scores):
        return every.along(forward_policy(graph, scores))

    weight = jnp.exp(log_forward(scores))  # sampling is not differentiated
    pairs = weight[:, None] * weight[None, :]

    def contrastive(scores):
        residuals = log_forward(scores) - aim
        return jnp.sum(pairs * (residuals[:, None] - residuals[None, :]) ** 2)

    def divergence(scores):
        logs = log_forward(scores)
        return jnp.sum(jnp.exp(logs) * (logs - aim))

    found, expected = jax.grad(contrastive)(scores), 4.0 * jax.grad(divergence)(scores)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5, 2.0])
def test_failing_clients_do_no_more_harm_than_the_bound_allows(noise: float) -> None:
    """Theorem 3.4, and two sharper bounds: D_J ≤ TV W ≤ W, and D_J ≤ W tanh(W / 4)."""
    toy = Toy(*TOYS[1])
    aim = law(toy.log_rewards.sum(0))
    for _ in range(5):
        noisy = [policy + noise * toy.scores() for policy in toy.log_forwards]
        log_forwards = jnp.stack([forward_policy(toy.graph, scores) for scores in noisy])
        merged = aggregated_policy(toy.graph, log_forwards, toy.log_backwards)
        log_found = np.asarray(log_law(toy.graph, merged))
        # The range of log(p_F,n / p_B,n R_n), which no scale of R_n changes.
        misfit = toy.ratios(log_forwards, toy.log_backwards) - toy.log_rewards[:, toy.last]
        width = float(np.sum(np.ptp(misfit, axis=1)))
        gap = np.exp(log_found) - aim
        jeffreys = float(np.sum(gap * (log_found - np.log(aim))))
        distance = 0.5 * float(np.sum(np.abs(gap)))
        assert 0.0 < jeffreys <= distance * width <= width
        assert jeffreys <= width * np.tanh(width / 4)


def test_one_step_of_averaging_clients_is_the_centralised_step() -> None:
    """Contrastive balance's gradient is linear in log R; clients use S log R_s."""
    toy = Toy(*TOYS[1])
    scores, own = jnp.asarray(toy.scores()), toy.backward()
    batch = toy.rng.integers(len(toy.last), size=16)

    def gradient(rewards):
        def loss(scores):
            ways = toy.every.along(forward_policy(toy.graph, scores)) - toy.every.along(own)
            return contrastive_loss((ways - jnp.asarray(rewards)[toy.last])[batch])

        return np.asarray(jax.grad(loss)(scores))

    clients = [gradient(len(toy.log_rewards) * rewards) for rewards in toy.log_rewards]
    central = gradient(toy.log_rewards.sum(0))
    assert np.abs(central).max() > 0.1
    np.testing.assert_allclose(np.mean(clients, axis=0), central, rtol=1e-9, atol=1e-12)
