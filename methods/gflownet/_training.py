"""Training of a GFlowNet: one compiled loop for clients, server and the centralised network.

What is trained towards is an *aim*: the logarithm of what each trajectory's p_F / p_B should be
proportional to. For a client that is the log reward of the object; for the server of
da Silva et al. (2024) what the clients' policies say of the trajectory.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from dncbench.methods.gflownet._balance import (
    contrastive_loss,
    detailed_loss,
    trajectory_loss,
)
from dncbench.methods.gflownet._policy import Network
from dncbench.stategraph.moves import Moves, Tabulated
from dncbench.stategraph.trajectories import Trajectories, roll_out

Aim = Callable[[Trajectories], Float[Array, " N"]]
STEPWISE = ("detailed", "modified")
LOSSES = ("contrastive", "trajectory", *STEPWISE)

Look = Callable[[Shaped[Array, "N ..."]], Float[Array, "N outputs"]]
LogReward = Callable[[Shaped[Array, "N ..."]], Float[Array, " N"]]

_NORMALISER_RATE = 0.1  # of log Z; with the network's own rate it would lag far behind
_SLOWEST = 0.01  # share of the learning rate that is left at the end
_TABLE = 2  # all states are evaluated at once where a batch visits half as many or more


class Plan(NamedTuple):
    """How to train.

    Attributes:
        loss: "contrastive", "trajectory", "detailed" or "modified".
        steps: updates.
        batch: trajectories of each.
        learning_rate: of Adam; falls to a hundredth along a cosine.
        exploration: share of an explorer in the policy at the start; falls to zero linearly.
    """

    loss: str
    steps: int
    batch: int
    learning_rate: float
    exploration: float


def train(
    network: Network,
    moves: Moves,
    plan: Plan,
    key: PRNGKeyArray,
    aim: Aim,
    log_reward: LogReward | None = None,
    span: tuple[Float[Array, ""] | float, Float[Array, ""] | float] = (0.0, 1.0),
    points: int = 1,
) -> tuple[Network, Float[Array, " steps"]]:
    """Train a network on trajectories of its own policy, mixed with an explorer's.

    Args:
        network: where to start.
        moves: of the task.
        plan: how.
        key: random key.
        aim: of trajectories.
        log_reward: of complete states; what the losses of single steps need.
        span: which part of the whole training this is, for rates that fall.
        points: at how many even steps of the training to keep the network.

    Returns:
        Networks, stacked along a leading axis of ``points``, :func:`last` of which is the trained
        one; and the loss of each step.
    """
    adam = optax.scale_by_adam()
    every = _every_state(moves, plan.batch)

    def loss(network: Network, key: PRNGKeyArray, wander: Array) -> Array:
        table = None if every is None else network.outputs(moves, every)

        def look(states: Array) -> Array:
            return network.outputs(moves, states) if table is None else table[states]

        path = _explore(network, moves, look, key, plan.batch, wander)
        if plan.loss in STEPWISE:
            assert log_reward is not None
            residuals = _stepwise(plan.loss, network, moves, look, path, log_reward)
            return detailed_loss(residuals, jnp.asarray(path.moved))
        forward, backward = along(network, moves, look, path)
        residuals = path.add(forward - backward) - aim(path)
        if plan.loss == "trajectory":
            return trajectory_loss(residuals, network.log_normaliser)
        return contrastive_loss(residuals)

    def step(carry: tuple, at: tuple) -> tuple[tuple, Array]:
        network, state, kept = carry
        key, share, point = at
        value, gradient = jax.value_and_grad(loss)(network, key, plan.exploration * (1.0 - share))
        update, state = adam.update(gradient, state)
        falling = _SLOWEST + (1.0 - _SLOWEST) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
        network = _moved(network, update, plan.learning_rate, falling)
        # Every step of a stretch is written over by the next.
        kept = jax.tree.map(lambda all, leaf: all.at[point].set(leaf), kept, network)
        return (network, state, kept), value

    number = jnp.arange(plan.steps)
    shares = span[0] + (span[1] - span[0]) * number / plan.steps
    kept = jax.tree.map(lambda leaf: jnp.stack([leaf] * points), network)
    start = network, adam.init(network), kept
    at = jax.random.split(key, plan.steps), shares, number * points // plan.steps
    (_, _, kept), losses = jax.lax.scan(step, start, at)
    return kept, losses


def last(networks: Network) -> Network:
    """The last of several that are stacked."""
    return jax.tree.map(lambda leaf: leaf[-1], networks)


def _moved(network: Network, update: Network, rate: float, falling: Array) -> Network:
    """One step of Adam; log Z has a rate of its own."""
    size = lambda rate: (rate * falling).astype(jnp.float32)  # noqa: E731
    moved = jax.tree.map(lambda leaf, change: leaf - size(rate) * change, network, update)
    log_z = network.log_normaliser - size(_NORMALISER_RATE) * update.log_normaliser
    return eqx.tree_at(lambda tree: tree.log_normaliser, moved, log_z)


def _every_state(moves: Moves, batch: int) -> Int[Array, " n"] | None:
    """The numbers of all states where they are few; None otherwise."""
    if isinstance(moves, Tabulated) and moves.num_states <= _TABLE * moves.num_steps * batch:
        return jnp.arange(moves.num_states)
    return None


def _explore(
    network: Network, moves: Moves, look: Look, key: PRNGKeyArray, num: int, wander: Array
) -> Trajectories:
    """Trajectories of the policy, each of whose actions is an explorer's with some probability."""

    def policy(states: Array) -> Array:
        own = jnp.exp(network.forward(look(states), moves.allowed(states)))
        return (1.0 - wander) * own + wander * moves.wander(states)

    return jax.lax.stop_gradient(roll_out(moves, policy, key, num))


def along(
    network: Network, moves: Moves, look: Look, path: Trajectories
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Log probabilities of each step: of the action taken, and of its having led there."""
    before, after, actions = _steps(path)
    forward = network.forward(look(before), moves.allowed(before))
    outputs = look(after) if network.learned_backward else None
    backward = network.backward(outputs, moves.entered(after))
    shape = path.actions.shape
    return _taken(forward, actions).reshape(shape), _taken(backward, actions).reshape(shape)


def _stepwise(
    loss: str,
    network: Network,
    moves: Moves,
    look: Look,
    path: Trajectories,
    log_reward: LogReward,
) -> Float[Array, "T N"]:
    """Residuals of detailed balance, of each step.

    Its modified form has log R(s) - log p_F(stop given s) as log flow, R(s) being that of the
    object which stopping in s makes; a step that stops is then in balance whatever the policy.
    """
    before, after, _ = _steps(path)
    forward, backward = along(network, moves, look, path)
    shape = path.actions.shape
    done = ~moves.allowed(after).any(1)

    def log_flow(states: Array) -> Array:
        if loss == "detailed":
            return network.log_flow(look(states))
        last = jnp.full(len(states), moves.num_actions - 1, jnp.int32)
        stopped = jnp.where(moves.allowed(states).any(1), moves.step(states, last), states)
        stop = network.forward(look(states), moves.allowed(states))[:, -1]
        return log_reward(stopped) - stop

    onward = jnp.where(done, log_reward(after), log_flow(after))
    return (log_flow(before) - onward).reshape(shape) + forward - backward


def _steps(path: Trajectories) -> tuple[Array, Array, Int[Array, " TN"]]:
    """States before and after each step, and its action; trajectories one after another."""
    after = jnp.concatenate([path.states[1:], path.last[None]])
    flat = lambda stack: stack.reshape(-1, *stack.shape[2:])  # noqa: E731
    return flat(path.states), flat(after), flat(path.actions)


def _taken(table: Float[Array, "N A"], actions: Int[Array, " N"]) -> Float[Array, " N"]:
    return jnp.take_along_axis(table, actions[:, None], axis=1)[:, 0]
