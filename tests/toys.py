"""Small state graphs, rewards and policies by which theorems are tried."""

import jax
import jax.numpy as jnp
import numpy as np

from dncbench.problems.discrete.multisets import Bag
from dncbench.stategraph.graph import StateGraph, tabulate
from dncbench.stategraph.laws import backward_policy, balanced_policy
from dncbench.stategraph.trajectories import Trajectories, every_trajectory


class Toy:
    """Clients with random rewards, each in balance with a backward policy of its own."""

    def __init__(self, num_items: int, size: int, num_clients: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph: StateGraph = tabulate(Bag(num_items, size))
        self.every: Trajectories = every_trajectory(self.graph)
        self.log_rewards = self.rng.normal(size=(num_clients, self.graph.num_objects))
        self.log_backwards = jnp.stack([self.backward() for _ in range(num_clients)])
        pairs = zip(self.log_rewards, self.log_backwards, strict=True)
        self.log_forwards = jnp.stack([balanced_policy(self.graph, r, b) for r, b in pairs])

    def scores(self) -> np.ndarray:
        """Standard normal numbers for all edges."""
        return self.rng.normal(size=self.graph.child.shape)

    def backward(self) -> jax.Array:
        """A random backward policy."""
        return backward_policy(self.graph, self.scores())

    @property
    def last(self) -> np.ndarray:
        """The code that each trajectory ends in."""
        return self.graph.codes()[self.every.last]

    def ratios(self, log_forwards: jax.Array, log_backwards: jax.Array) -> np.ndarray:
        """(S, trajectories) log p_F,n(τ) - log p_B,n(τ given x)."""
        pairs = zip(log_forwards, log_backwards, strict=True)
        return np.stack([self.every.along(f) - self.every.along(b) for f, b in pairs])


def law(log_rewards: np.ndarray) -> np.ndarray:
    """Probabilities."""
    return np.asarray(jax.nn.softmax(jnp.asarray(log_rewards)))
