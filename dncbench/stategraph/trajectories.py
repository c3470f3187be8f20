"""Trajectories on a state graph: rolled out, or all of them where they are few."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dncbench.errors import NotApplicableError
from dncbench.stategraph.graph import StateGraph

MOST_TRAJECTORIES = 100_000


class Trajectories(NamedTuple):
    """N complete trajectories, padded at their ends.

    Attributes:
        states: (T, N) the state before each action.
        actions: (T, N) what was done.
        moved: (T, N) False where the object was complete already.
        last: (N,) the complete states.
    """

    states: Int[Array | np.ndarray, "T N"]
    actions: Int[Array | np.ndarray, "T N"]
    moved: Bool[Array | np.ndarray, "T N"]
    last: Int[Array | np.ndarray, " N"]

    def along(self, edges: Float[Array | np.ndarray, "n A"]) -> Float[Array, " N"]:
        """Sums over each trajectory of what belongs to edges, e.g. log probabilities."""
        return self.add(jnp.asarray(edges)[self.states, self.actions])

    def add(self, terms: Float[Array, "T N"]) -> Float[Array, " N"]:
        """Sums over each trajectory of what belongs to its steps."""
        return jnp.sum(jnp.where(self.moved, terms, 0.0), axis=0)


def roll_out(
    graph: StateGraph,
    log_policy: Callable[[Int[Array, " N"]], Float[Array, "N A"]],
    key: PRNGKeyArray,
    num: int,
) -> Trajectories:
    """Trajectories of a policy, all of them in step.

    Args:
        graph: of A actions.
        log_policy: from states (N,) to unnormalised log probabilities (N, A) of their actions;
            those that are not allowed are masked here.
        key: random key.
        num: N.
    """
    child, allowed = jnp.asarray(graph.child), jnp.asarray(graph.allowed)

    def step(states: Array, key: PRNGKeyArray) -> tuple[Array, tuple[Array, Array, Array]]:
        can = allowed[states]
        moved = can.any(1)
        scores = jnp.where(can, log_policy(states), -jnp.inf)
        actions = jax.random.categorical(key, jnp.where(moved[:, None], scores, 0.0))
        return child[states, actions], (states, actions, moved)

    start = jnp.zeros(num, dtype=graph.child.dtype)
    last, (states, actions, moved) = jax.lax.scan(
        step, start, jax.random.split(key, graph.num_steps)
    )
    return Trajectories(states, actions, moved, last)


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
