"""Embarrassingly parallel GFlowNets: clients train alone, and a server learns their product.

da Silva et al. (2024). Each client trains a GFlowNet on its own reward and sends the network. The
server trains another one until its trajectories are balanced against what the clients' policies
say of them (aggregating balance): their rewards and data are not asked for. Three ways to get
from the clients' networks to a law, which tell apart where errors come from.

When it fails: the product concentrates where single clients put little mass, and a client that is
accurate in total variation may be far off there; ``failure_bound`` sees it, and so does
``ep-gflownet-exact``, whose error is the clients' alone.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import categorical
from dncbench.method import Shard
from dncbench.methods._learning import in_stretches, learning_curve
from dncbench.methods.gflownet import _large as large
from dncbench.methods.gflownet._clients import GFlowNet, Sent, edges, moves_of
from dncbench.methods.gflownet._policy import Network
from dncbench.methods.gflownet._training import train
from dncbench.registry import register_method
from dncbench.stategraph.laws import aggregated_policy, forward_policy, log_law
from dncbench.stategraph.moves import Tabulated
from dncbench.stategraph.trajectories import Trajectories, roll_out

_JUDGED = 4096  # trajectories by which the server's balance is judged


def _codes(
    log_probs: Float[Array, " K"], key: PRNGKeyArray, num_draws: int
) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
    log_probs = jax.nn.log_softmax(log_probs)
    return categorical(key, log_probs, num_draws), {"log_probs": log_probs}


class _Merge(GFlowNet):
    """Clients as in the paper."""

    cites: ClassVar = ("dasilva2024",)

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Sent:
        """Train on the client's rewards, and send the network."""
        return self.client(shard, key)

    def told(self, messages: Sent) -> dict[str, Any]:
        """What is recorded of the clients."""
        client = messages.client
        return {
            "client_tv": jnp.mean(client.distance),
            "client_tv_worst": jnp.max(client.distance),
            "failure_bound": jnp.sum(client.width),
            "reward_evaluations": self.evaluations(len(client.distance)),
            "learning_curve": learning_curve(client.losses),
        }


def _ratios(messages: Sent, moves: Tabulated) -> tuple[Float[Array, "S n A"], Float[Array, "S n A"]]:
    """The clients' forward and backward log probabilities of all edges."""
    return jax.lax.map(lambda network: edges(network, moves), messages.client.network)


@register_method("ep-gflownet", version=1, small="steps=40,batch=16,width=16")
class EpGflownet(_Merge):
    """Clients train GFlowNets alone; a server learns their product by aggregating balance.

    One message for each client, its network: no reward is evaluated at the server. The law of
    the server's policy is computed exactly. The module's docstring gives the source and says
    when it fails.

    Attributes:
        server_steps: updates of the server's network, as many times ``steps``.
    """

    server_steps: float = 2.0

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Sent:
        """Train on the client's rewards, and send the network."""
        client = large.client if large.is_large(shard.problem) else type(self).client
        return client(self, shard, key)

    def merge(
        self, messages: Sent, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """Train the server, and draw from the law of its policy."""
        if large.is_large(messages.problem):
            steps = round(self.server_steps * self.steps)
            return large.merged(self, messages, steps, key, num_draws)
        network, info, _ = self.server(messages, key)
        moves = moves_of(messages.problem)
        forward = forward_policy(messages.problem.graph, edges(network, moves)[0])
        codes, law = _codes(log_law(messages.problem.graph, forward), key, num_draws)
        return codes, info | law

    def server(
        self, messages: Sent, key: PRNGKeyArray
    ) -> tuple[Network, dict[str, Any], Float[Array, "n A"]]:
        """The trained server, what is recorded of it, and the clients' Σ log p_F,n / p_B,n."""
        moves = moves_of(messages.problem)
        forwards, backwards = _ratios(messages, moves)
        sums = jnp.sum(forwards - backwards, axis=0).astype(jnp.float32)
        start, training, judging = jax.random.split(key, 3)
        plan = self.plan("contrastive", round(self.server_steps * self.steps))
        network, losses = train(
            self.network(moves, start), moves, plan, training, lambda path: path.along(sums)
        )
        forward, backward = edges(network, moves)
        path = roll_out(moves, lambda states: jnp.exp(forward[states]).astype(jnp.float32), judging, _JUDGED)
        residual = jnp.std(path.along(forward - backward - sums))
        info = self.told(messages) | {
            "aggregating_balance": residual,
            "server_losses": in_stretches(losses),
        }
        return network, info, sums
