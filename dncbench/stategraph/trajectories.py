"""Trajectories: rolled out, rolled back from objects, or all of them where they are few."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from dncbench.errors import NotApplicableError
from dncbench.stategraph.graph import StateGraph
from dncbench.stategraph.moves import Moves

MOST_TRAJECTORIES = 100_000


class Trajectories(NamedTuple):
    """N complete trajectories, padded at their ends; at their starts where rolled back.

    Attributes:
        states: (T, N, ...) the state before each action.
        actions: (T, N) what was done.
        moved: (T, N) False where nothing was: the object was complete already, or is not begun.
        last: (N, ...) the complete states.
    """

    states: Shaped[Array | np.ndarray, "T N ..."]
    actions: Int[Array | np.ndarray, "T N"]
    moved: Bool[Array | np.ndarray, "T N"]
    last: Shaped[Array | np.ndarray, "N ..."]

    def along(self, edges: Float[Array | np.ndarray, "n A"]) -> Float[Array, " N"]:
        """Sums over each trajectory of what belongs to a graph's edges, e.g. log probabilities."""
        return self.add(jnp.asarray(edges)[self.states, self.actions])

    def add(self, terms: Float[Array, "T N"]) -> Float[Array, " N"]:
        """Sums over each trajectory of what belongs to its steps."""
        return jnp.sum(jnp.where(self.moved, terms, 0.0), axis=0)


def roll_out(
    moves: Moves,
    policy: Callable[[Shaped[Array, "N ..."]], Float[Array, "N A"]],
    key: PRNGKeyArray,
    num: int,
) -> Trajectories:
    """Trajectories of a policy, all of them in step.

    Args:
        moves: of the task.
        policy: from N states to probabilities (N, A) of their actions, up to a factor for each
            state, float32; those that are not allowed are masked here.
        key: random key.
        num: N.
    """
    # All numbers at once: a generator inside the loop takes far longer to compile.
    uniform = jax.random.uniform(key, (moves.num_steps, num), jnp.float32)

    def step(states: Array, uniform: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        can = moves.allowed(states)
        actions = _chosen(policy(states), can, uniform)
        return moves.step(states, actions), (states, actions, can.any(1))

    last, (states, actions, moved) = jax.lax.scan(step, moves.start(num), uniform)
    return Trajectories(states, actions, moved, last)


def roll_back(
    moves: Moves,
    policy: Callable[[Shaped[Array, "N ..."]], Float[Array, "N A"]],
    key: PRNGKeyArray,
    last: Shaped[Array, "N ..."],
) -> Trajectories:
    """Trajectories to given objects, one for each, by a backward policy.

    Args:
        moves: of the task.
        policy: from N states to probabilities (N, A) of the actions that led into them, up to a
            factor for each state, float32; those that did not are masked here.
        key: random key.
        last: N complete states.
    """
    uniform = jax.random.uniform(key, (moves.num_steps, len(last)), jnp.float32)

    def step(states: Array, uniform: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        may = moves.entered(states)
        actions = _chosen(policy(states), may, uniform)
        before = moves.undo(states, actions)
        return before, (before, actions, may.any(1))

    _, (states, actions, moved) = jax.lax.scan(step, last, uniform)
    return Trajectories(states[::-1], actions[::-1], moved[::-1], last)


def _chosen(
    probs: Float[Array, "N A"], which: Bool[Array, "N A"], uniform: Float[Array, " N"]
) -> Int[Array, " N"]:
    """One action of each state's, of positive probability; action 0 where there is none."""
    below = jnp.cumsum(jnp.where(which, probs, 0.0), axis=1)
    # The first that is exceeded.
    return jnp.argmax(below > uniform[:, None] * below[:, -1:], axis=1).astype(jnp.int32)


def every_trajectory(graph: StateGraph, most: int = MOST_TRAJECTORIES) -> Trajectories:
    """All trajectories, for expectations without error on small graphs.

    Raises:
        NotApplicableError: there are more than ``most``.
    """
    if (number := graph.num_trajectories()) > most:
        raise NotApplicableError(f"{number} trajectories are too many to be listed")
    at = np.zeros(1, dtype=int)
    states = actions = moved = np.zeros((0, 1), dtype=int)
    for _ in range(graph.num_steps):
        can = graph.allowed[at]
        can[~can.any(1), 0] = True  # stay
        which, action = np.nonzero(can)
        before = at[which]
        states = np.concatenate([states[:, which], before[None]])
        actions = np.concatenate([actions[:, which], action[None]])
        moved = np.concatenate([moved[:, which], graph.allowed[before, action][None]])
        at = graph.child[before, action]
    return Trajectories(states, actions, moved.astype(bool), at)
