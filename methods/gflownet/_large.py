"""GFlowNets on objects that are too many to be listed: tables elsewhere, trajectories here.

Rewards are evaluated object by object, and the clients' policies along the server's trajectories.
The law of the server's policy is not computed but rolled out, and the probability of an object is
estimated without bias by trajectories that are rolled back from it,

    p(x) = E_{τ ~ p_B(. given x)} [p_F(τ) / p_B(τ given x)],

whose terms are equal where the policy is in balance. No array has a size of the states or objects.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from dncbench.errors import NotApplicableError
from dncbench.method import Shard
from dncbench.methods._learning import in_stretches, learning_curve
from dncbench.methods.discrete._objects import Message
from dncbench.methods.gflownet._clients import GFlowNet, of_objects
from dncbench.methods.gflownet._policy import Network
from dncbench.methods.gflownet._training import Aim, along, last, train
from dncbench.stategraph.environment import Environment
from dncbench.stategraph.graph import StateGraph
from dncbench.stategraph.moves import Functional, Moves
from dncbench.stategraph.trajectories import Trajectories, roll_back, roll_out

_JUDGED = 1024  # trajectories by which the server's balance is judged
_ROLLED_BACK = 64  # trajectories from each object whose probability is estimated
_TOGETHER = 16  # objects whose trajectories are evaluated at once: bounds the memory


class Client(NamedTuple):
    """What a client sends.

    Attributes:
        network: forward and backward policy; they belong together.
        losses: in the course of training.
    """

    network: Network
    losses: Float[Array, "*S points"]


def is_large(problem: Any) -> bool:
    """Whether the problem says how objects are built, but has no graph of all states."""
    with_graph = isinstance(getattr(problem, "graph", None), StateGraph)
    return isinstance(getattr(problem, "environment", None), Environment) and not with_graph


def client(method: GFlowNet, shard: Shard, key: PRNGKeyArray) -> Message:
    """Train on one client's rewards, of the objects that its trajectories end in.

    Raises:
        NotApplicableError: the loss asks something of all states.
    """
    if method.loss == "modified":
        raise NotApplicableError("loss=modified looks at all states, which are too many")
    moves, density = Functional(shard.problem.environment), shard.density
    assert density is not None

    def reward(states: Array) -> Array:
        return jax.vmap(density)(moves.codes(states)).astype(jnp.float32)

    start, key = jax.random.split(key)
    plan = method.plan(method.loss)
    networks, losses = train(
        method.network(moves, start), moves, plan, key, of_objects(reward), reward
    )
    return Message(Client(last(networks), in_stretches(losses)), shard.problem)


def merged(
    method: GFlowNet, messages: Message, steps: int, key: PRNGKeyArray, num_draws: int
) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
    """Train a server to aggregating balance for so many steps; draws of its policy."""
    moves, sent = Functional(messages.problem.environment), messages.sent
    keys = jax.random.split(key, 4)
    aim = log_ratios(sent.network, moves)
    plan = method.plan("contrastive", steps)
    networks, losses = train(method.network(moves, keys[0]), moves, plan, keys[1], aim)
    network = last(networks)

    def policy(states: Array) -> Array:
        return jnp.exp(network.forward(network.outputs(moves, states), moves.allowed(states)))

    path = roll_out(moves, policy, keys[2], num_draws)
    objects = jnp.asarray(path.last)
    log_probs, error = log_probs_at(network, moves, objects, keys[3])
    states, actions, moved = (part[:, :_JUDGED] for part in path[:-1])
    judged = Trajectories(states, actions, moved, objects[:_JUDGED])
    return moves.codes(objects), {
        "log_density": log_probs,
        "log_density_error": jnp.sqrt(jnp.mean(error**2)),
        "aggregating_balance": jnp.std(_log_ratio(network, moves, judged) - aim(judged)),
        "reward_evaluations": method.evaluations(len(sent.losses)),
        "learning_curve": learning_curve(sent.losses),
        "server_curve": in_stretches(losses),
    }


def log_ratios(networks: Network, moves: Moves) -> Aim:
    """The aim of a server: Σ_n log p_F,n(τ) - log p_B,n(τ given x), of S stacked networks."""

    def aim(path: Trajectories) -> Float[Array, " N"]:
        each = jax.vmap(lambda network: _log_ratio(network, moves, path))(networks)
        return jnp.sum(each, axis=0)

    return aim


def log_probs_at(
    network: Network,
    moves: Moves,
    objects: Shaped[Array, "N ..."],
    key: PRNGKeyArray,
    num: int = _ROLLED_BACK,
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Log probabilities of objects under a network's policy, and their standard errors.

    Args:
        network: of the policy.
        moves: of the task.
        objects: complete states.
        key: random key.
        num: trajectories from each, two at least.
    """

    def policy(states: Array) -> Array:
        outputs = network.outputs(moves, states) if network.learned_backward else None
        return jnp.exp(network.backward(outputs, moves.entered(states)))

    def of_object(given: tuple[Array, Array]) -> tuple[Array, Array]:
        last, key = given
        path = roll_back(moves, policy, key, jnp.repeat(last[None], num, axis=0))
        terms = _log_ratio(network, moves, path).astype(jnp.float64)
        log_mean = jax.nn.logsumexp(terms) - jnp.log(num)
        return log_mean, jnp.std(jnp.exp(terms - log_mean), ddof=1) / num**0.5

    keys = jax.random.split(key, len(objects))
    together = math.gcd(len(objects), _TOGETHER)  # a remainder would be a program of its own
    return jax.lax.map(of_object, (objects, keys), batch_size=together)


def _log_ratio(network: Network, moves: Moves, path: Trajectories) -> Float[Array, " N"]:
    """log p_F(τ) - log p_B(τ given x)."""
    forward, backward = along(network, moves, lambda states: network.outputs(moves, states), path)
    return path.add(forward - backward)
