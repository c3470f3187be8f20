"""Federated averaging of one GFlowNet's weights."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from dncbench.errors import UnknownNameError
from dncbench.method import Shard
from dncbench.methods.discrete._objects import log_rewards
from dncbench.methods.gflownet._clients import (
    GFlowNet,
    check_stops,
    edges,
    law_of,
    lookup,
    moves_of,
    of_objects,
)
from dncbench.methods.gflownet._policy import Network
from dncbench.methods.gflownet._training import last, train
from dncbench.registry import register_method
from dncbench.stategraph.laws import log_law


class _Average(eqx.Module):
    """Weights on their way, up or down; the problem is known everywhere.

    Attributes:
        network: of a client, or averaged.
        number: () of the round.
        problem: of the clients.
    """

    network: Network
    number: Int[Array, "*S"]
    problem: Any = eqx.field(static=True)


@register_method("fedavg-gflownet", version=1, small="steps=40,batch=16,width=16,rounds=2")
class FedavgGflownet(GFlowNet):
    """Federated averaging: clients train a common network in turns; its weights are averaged.

    In every round each client starts from the average and takes ``steps / rounds`` updates with S
    times its own log reward, S being the number of clients: averaged, these are the log reward of
    the product. With one update in a round that is centralised training, on other trajectories;
    the more there are, the further the clients drift apart. ``rounds=1`` averages weights of
    networks that were trained alone, from a common start.

    McMahan et al. (2017); Adam starts anew in every round.

    Attributes:
        rounds: how many times the clients are asked.
    """

    rounds: int = 10

    cites: ClassVar = ("mcmahan2017", "dasilva2024")
    finishes_any_round: ClassVar = True

    def __check_init__(self) -> None:
        if not 1 <= self.rounds <= self.steps:
            raise UnknownNameError(
                f"fedavg-gflownet: rounds={self.rounds}; "
                f"between 1 and steps={self.steps}, one update in each"
            )

    @property
    def num_rounds(self) -> int:  # type: ignore[override]
        """As set."""
        return self.rounds

    @property
    def _updates(self) -> int:
        """Of each client in each round; the last few may go beyond ``steps``."""
        return -(-self.steps // self.rounds)

    def _turn(self, shard: Shard, average: _Average, key: PRNGKeyArray) -> _Average:
        """A client's updates of one round."""
        moves = moves_of(shard.problem)
        if self.loss == "modified":
            check_stops(moves)
        assert shard.num_shards is not None
        reward = lookup(moves, shard.num_shards * log_rewards(shard))
        plan = self.plan(self.loss, self._updates)
        span = (average.number / self.rounds, (average.number + 1) / self.rounds)
        networks, _ = train(average.network, moves, plan, key, of_objects(reward), reward, span)
        return _Average(last(networks), average.number, shard.problem)

    def begin(self, shard: Shard, key: PRNGKeyArray) -> tuple[None, _Average]:
        """From a start that all clients know."""
        network = self.network(moves_of(shard.problem), jax.random.key(0))
        return None, self._turn(shard, _Average(network, jnp.asarray(0), shard.problem), key)

    def aggregate(
        self, server: None, messages: _Average, key: PRNGKeyArray
    ) -> tuple[None, _Average]:
        """The mean of the weights."""
        network = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), messages.network)
        return None, _Average(network, messages.number[0] + 1, messages.problem)

    def answer(
        self, shard: Shard, state: None, broadcast: _Average, key: PRNGKeyArray
    ) -> tuple[None, _Average]:
        """Further updates, from the mean."""
        return None, self._turn(shard, broadcast, key)

    def finish(
        self, server: None, messages: _Average, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """Draws of the law of the averaged policy."""
        _, average = self.aggregate(server, messages, key)
        problem = messages.problem
        forward, _ = edges(average.network, moves_of(problem))
        codes, info = law_of(log_law(problem.graph, forward), key, num_draws)
        updates = self.rounds * self._updates
        return codes, info | {"reward_evaluations": len(messages.number) * self.batch * updates}
