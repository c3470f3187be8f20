"""What GFlowNet merges share: their settings, a client's training, and what a client sends."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import categorical
from dncbench.errors import NotApplicableError, UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._learning import in_stretches
from dncbench.methods.discrete._objects import log_rewards
from dncbench.methods.gflownet._policy import Network
from dncbench.methods.gflownet._training import LOSSES, LogReward, Plan, last, train
from dncbench.stategraph.graph import StateGraph
from dncbench.stategraph.laws import largest_sum, log_law
from dncbench.stategraph.moves import Moves, Tabulated

POINTS = 8
"""Of a training, at which the law is told."""

_TOGETHER = 8192  # states that are evaluated at once: bounds the memory of hidden layers


class Client(NamedTuple):
    """What a client sends: its policies, and how well they do, which costs a few numbers.

    Attributes:
        network: forward and backward policy; they belong together.
        losses: in the course of training.
        distance: () total variation from the client's own rewards, normalised.
        width: () range of log p_F(τ) / (p_B(τ given x) R(x)) over all trajectories τ: the sum
            of the clients' bounds how far the merge may be off (:func:`failure_bound`).
    """

    network: Network
    losses: Float[Array, "*S points"]
    distance: Float[Array, "*S"]
    width: Float[Array, "*S"]


class Sent(eqx.Module):
    """A message; the problem is known to the server and costs nothing.

    Attributes:
        client: what is sent; stacked along a leading axis of S where they meet.
        problem: of the clients.
    """

    client: Client
    problem: Any = eqx.field(static=True)


class GFlowNet(Method):
    """Settings of all GFlowNets.

    Attributes:
        loss: of the clients (or the centralised network): "contrastive" balance; "trajectory"
            balance; "detailed" balance; or "modified", detailed balance where building may
            stop in every state.
        backward: "uniform", or "learned" beside the forward policy.
        steps: updates of each network.
        batch: trajectories in an update.
        width: units of each of two hidden layers.
        learning_rate: of Adam; falls to a hundredth along a cosine.
        exploration: share of an explorer in the policy at the start, falling to zero. An
            explorer goes for any object with equal probability: uniform actions would hardly
            ever get far where stopping is one of them.
    """

    loss: str = "contrastive"
    backward: str = "uniform"
    steps: int = 3000
    batch: int = 128
    width: int = 64
    learning_rate: float = 3e-3
    exploration: float = 0.5

    needs = frozenset({"model", "problem"})
    spaces = frozenset({"codes"})

    def __check_init__(self) -> None:
        for setting, known in (("loss", LOSSES), ("backward", ("uniform", "learned"))):
            value = getattr(self, setting)
            if value not in known:
                raise UnknownNameError(
                    f"gflownet: {setting} is {value!r}{nearest(str(value), known)}; "
                    f"known: {', '.join(known)}"
                )
        for setting, least in (("steps", 1), ("batch", 2), ("width", 1)):
            if getattr(self, setting) < least:
                raise UnknownNameError(
                    f"gflownet: {setting}={getattr(self, setting)}; at least {least}"
                )
        if not 0.0 <= self.exploration <= 1.0 or self.learning_rate <= 0.0:
            raise UnknownNameError(
                f"gflownet: exploration={self.exploration}, "
                f"learning_rate={self.learning_rate}; the first "
                "must lie between 0 and 1, the second be positive"
            )

    def plan(self, loss: str, steps: int | None = None) -> Plan:
        """How to train with a loss."""
        steps = self.steps if steps is None else steps
        return Plan(loss, steps, self.batch, self.learning_rate, self.exploration)

    def network(self, moves: Moves, key: PRNGKeyArray) -> Network:
        """Untrained."""
        return Network(moves, self.width, self.backward == "learned", key)

    def trained(
        self, problem: Any, table: Float[Array, " K"], key: PRNGKeyArray
    ) -> tuple[Network, Float[Array, " points"]]:
        """Networks in the course of training on log rewards, the last at the end; and losses."""
        moves = moves_of(problem)
        if self.loss == "modified":
            check_stops(moves)
        start, key = jax.random.split(key)
        reward = lookup(moves, table)
        networks, losses = train(
            self.network(moves, start),
            moves,
            self.plan(self.loss),
            key,
            of_objects(reward),
            reward,
            points=POINTS,
        )
        return networks, in_stretches(losses)

    def client(self, shard: Shard, key: PRNGKeyArray) -> Sent:
        """Train on one client's rewards."""
        table = log_rewards(shard)
        networks, losses = self.trained(shard.problem, table, key)
        network = last(networks)
        graph, moves = shard.problem.graph, moves_of(shard.problem)
        forward, backward = edges(network, moves)
        log_probs = log_law(graph, forward)
        gap = jnp.exp(log_probs) - jax.nn.softmax(table)
        distance = 0.5 * jnp.sum(jnp.abs(gap))
        width = range_of(graph, forward - backward, -table)
        return Sent(Client(network, losses, distance, width), shard.problem)

    def evaluations(self, num_shards: int) -> int:
        """Rewards that the clients look up in training, all together."""
        return num_shards * self.batch * self.steps


def law_of(
    log_probs: Float[Array, " K"], key: PRNGKeyArray, num_draws: int
) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
    """Draws of an exact law, and the law."""
    log_probs = jax.nn.log_softmax(log_probs)
    return categorical(key, log_probs, num_draws), {"log_probs": log_probs}


def laws_of(networks: Network, problem: Any) -> Float[Array, "P K"]:
    """Log probabilities of all objects under the policies of P stacked networks."""
    moves = moves_of(problem)

    def law(network: Network) -> Array:
        return jax.nn.log_softmax(log_law(problem.graph, edges(network, moves)[0]))

    return jax.lax.map(law, networks)


def moves_of(problem: Any) -> Tabulated:
    """The problem's state graph as what training asks of it.

    Raises:
        NotApplicableError: it has none, or its states are too many for one.
    """
    graph, environment = getattr(problem, "graph", None), getattr(problem, "environment", None)
    if not isinstance(graph, StateGraph) or environment is None:
        raise NotApplicableError(
            "the problem has no state graph, which says how its objects are built, step by step"
        )
    return _tabulated(problem)


@functools.lru_cache(maxsize=16)
def _tabulated(problem: Any) -> Tabulated:
    """Kept; computed outside of what is traced."""
    with jax.ensure_compile_time_eval():
        return Tabulated(problem.graph, problem.environment)


def of_objects(reward: LogReward) -> Any:
    """The aim of a trajectory is its object's log reward."""
    return lambda path: reward(path.last)


def lookup(moves: Tabulated, table: Float[Array, " K"]) -> LogReward:
    """Log rewards of complete states, the largest of which is zero.

    What is added to all of them is lost in every loss but for log Z, which would otherwise
    have far to go, and float32 keeps more digits of small numbers.
    """
    level = (table - jnp.max(table)).astype(jnp.float32)
    return lambda states: level[moves.codes(states)]


def edges(network: Network, moves: Tabulated) -> tuple[Float[Array, "n A"], Float[Array, "n A"]]:
    """Log probabilities of all edges, forwards and backwards; float64, since they are added up."""

    def of_state(state: Array) -> tuple[Array, Array]:
        one = state[None]
        outputs = network.outputs(moves, one)
        forward = network.forward(outputs, moves.allowed(one))
        return forward[0], network.backward(outputs, moves.entered(one))[0]

    every = jnp.arange(moves.num_states)
    forward, into = jax.lax.map(of_state, every, batch_size=min(_TOGETHER, moves.num_states))
    backward = into[moves.child, jnp.arange(moves.num_actions)[None]]
    can = jnp.asarray(moves.can)
    wide = lambda table: jnp.where(can, table, 0.0).astype(jnp.float64)  # noqa: E731
    return wide(forward), wide(backward)


def range_of(
    graph: StateGraph, terms: Float[Array, "n A"], ends: Float[Array, " K"]
) -> Float[Array, ""]:
    """Largest minus smallest sum over a trajectory's edges and its object."""
    return largest_sum(graph, terms, ends) + largest_sum(graph, -terms, -ends)


def check_stops(moves: Tabulated) -> None:
    """Modified detailed balance needs a stop, the last action, in every incomplete state.

    Raises:
        NotApplicableError: there is none.
    """
    incomplete = moves.can.any(1)
    ends = ~moves.can[moves.child[:, -1]].any(1)
    if not (moves.can[incomplete, -1] & ends[incomplete]).all():
        raise NotApplicableError("loss=modified is for objects whose building may stop anywhere")
