"""Noise on one client's policy, on purpose: the bound that is recorded with it stays one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.configure import configure
from dncbench.errors import UnknownNameError
from dncbench.methods.gflownet._clients import Client, Sent, edges, moves_of, range_of
from dncbench.methods.gflownet._policy import Network
from dncbench.stategraph.laws import log_law

PROBLEM = "multisets[num_shards=2,num_items=3,size=3]"


@pytest.fixture(scope="module")
def given() -> tuple[Sent, np.ndarray]:
    """Untrained clients, and the product of rewards that they are nearly in balance with."""
    problem = configure("problem", PROBLEM)[1]
    moves, graph = moves_of(problem), problem.graph
    pair = [Network(moves, 8, False, jax.random.key(number)) for number in range(2)]
    networks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pair)
    rewards, widths = [], []
    policies = zip(*jax.lax.map(lambda network: edges(network, moves), networks), strict=True)
    for forward, backward in policies:
        rewards.append(log_law(graph, forward))
        widths.append(range_of(graph, forward - backward, -rewards[-1]))
    client = Client(networks, jnp.zeros((2, 1)), jnp.zeros(2), jnp.stack(widths))
    return Sent(client, problem), np.asarray(sum(rewards))


def test_what_a_broken_client_costs_stays_below_the_bound(given) -> None:
    messages, log_rewards = given
    log_aim = log_rewards - np.logaddexp.reduce(log_rewards)
    found = {}
    for broken in (0.0, 2.0):
        method = configure("method", f"ep-gflownet-exact[broken={broken}]")[1]
        _, info = method.merge(messages, jax.random.key(0), 10)
        log_probs = np.asarray(info["log_probs"])
        gap = np.exp(log_probs) - np.exp(log_aim)
        jeffreys = float(np.sum(gap * (log_probs - log_aim)))
        bound = float(info["failure_bound"])
        assert 0.0 <= jeffreys <= bound
        found[broken] = (jeffreys, bound)
    assert found[0.0][1] == pytest.approx(float(jnp.sum(messages.client.width)))
    # Without what the noise adds it would be none.
    assert found[2.0][0] > found[0.0][1]


@pytest.mark.parametrize("broken", ["-0.1", "inf", "nan"])
def test_noise_has_a_standard_deviation(broken: str) -> None:
    with pytest.raises(UnknownNameError, match="broken"):
        configure("method", f"ep-gflownet-exact[broken={broken}]")
