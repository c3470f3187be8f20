"""Directed acyclic graphs: how they are built, and how likely data are under them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import multigammaln

from dncbench.stategraph.environment import Environment


@dataclass(frozen=True)
class AddingEdges(Environment):
    """States are adjacency matrices, row after row, and whether stopped.

    Actions add the edge i → j, number d i + j, or stop. Every graph is an object; as many edges
    of the state graph lead to a graph as it has edges.
    """

    num_nodes: int

    @property
    def num_actions(self) -> int:
        """d² edges, and to stop."""
        return self.num_nodes**2 + 1

    def initial(self) -> np.ndarray:
        """No edge."""
        return np.zeros(self.num_actions, dtype=int)

    def allowed(self, states: Shaped[Any, "n D"]) -> Bool[Any, "n D"]:
        """Edges i → j where no path leads from j to i yet, and that are not there."""
        xp = states.__array_namespace__()
        edge = states[:, :-1].reshape(-1, self.num_nodes, self.num_nodes)
        path = edge.astype(xp.int32) + xp.eye(self.num_nodes, dtype=xp.int32)[None]
        for _ in range((self.num_nodes - 1).bit_length()):  # paths twice as long each time
            path = (xp.matmul(path, path) > 0).astype(xp.int32)
        free = (edge == 0) & (xp.matrix_transpose(path) == 0)
        free = xp.concatenate([free.reshape(len(states), -1), states[:, -1:] == 0], axis=1)
        return free & (states[:, -1:] == 0)

    def step(self, states: Shaped[Any, "n D"], actions: Int[Any, " n"]) -> Shaped[Any, "n D"]:
        """One more entry is one."""
        xp = states.__array_namespace__()
        return states + xp.eye(self.num_actions, dtype=states.dtype)[actions]

    def features(self, states: Shaped[Any, "n D"]) -> Float[Any, "n D"]:
        """The edges, and whether stopped."""
        return states.astype(states.__array_namespace__().float32)

    @property
    def num_steps(self) -> int:
        """As many edges as there can be, and stop."""
        return self.num_nodes * (self.num_nodes - 1) // 2 + 1

    def entered(self, states: Shaped[Any, "n D"]) -> Bool[Any, "n D"]:
        """The stop where there was one; else any edge that is there."""
        stopped = states[:, -1:] == 1
        xp = states.__array_namespace__()
        return xp.concatenate([(states[:, :-1] == 1) & ~stopped, stopped], axis=1)

    def undo(self, states: Shaped[Any, "n D"], actions: Int[Any, " n"]) -> Shaped[Any, "n D"]:
        """One entry less is one."""
        xp = states.__array_namespace__()
        return states - xp.eye(self.num_actions, dtype=states.dtype)[actions]


def local_scores(rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "d sets"]:
    """BGe scores: log p(column j given the columns in a set), for all 2^d sets as bits.

    Of a linear-Gaussian network whose parameters have the normal-Wishart prior, mean 0 worth
    α_μ = 1 observation and α_w = d + 2 degrees of freedom, with T = t I: Geiger & Heckerman
    (1994), in the corrected form of Kuipers, Moffa & Heckerman (2014). Equivalent graphs score
    equally. Entries where j is in the set mean nothing and are zero.

    Args:
        rows: observations.
    """
    num_nodes = rows.shape[1]
    of_set = np.array([_marginal(rows, columns) for columns in _subsets(num_nodes)])
    sets = np.arange(1 << num_nodes)
    bit = 1 << np.arange(num_nodes)[:, None]
    return np.where(sets & bit, 0.0, of_set[sets | bit] - of_set[sets])


def _subsets(num_nodes: int) -> list[list[int]]:
    sets = range(1 << num_nodes)
    return [[node for node in range(num_nodes) if number >> node & 1] for number in sets]


def _marginal(rows: Float[np.ndarray, "m d"], columns: list[int]) -> float:
    """Log probability of some columns, with the mean and the covariance integrated out."""
    num_rows, size, worth = len(rows), len(columns), 1.0
    if not size:
        return 0.0
    freedom = size + 2.0  # α_w - d + size
    scale = worth / (worth + 1.0)  # t = α_μ (α_w - d - 1) / (α_μ + 1)
    own = rows[:, columns]
    mean = own.mean(0)
    scatter = (own - mean).T @ (own - mean)
    shift = num_rows * worth / (num_rows + worth) * np.outer(mean, mean)
    after = scale * np.eye(size) + scatter + shift
    return float(
        -0.5 * size * num_rows * np.log(np.pi)
        + 0.5 * size * np.log(worth / (num_rows + worth))
        + multigammaln(0.5 * (num_rows + freedom), size)
        - multigammaln(0.5 * freedom, size)
        + 0.5 * freedom * size * np.log(scale)
        - 0.5 * (num_rows + freedom) * np.linalg.slogdet(after)[1]
    )


def graph_scores(
    graphs: Int[np.ndarray, "K d d"], scores: Float[np.ndarray, "d sets"]
) -> Float[np.ndarray, " K"]:
    """Log score of every graph: the sum of its nodes' local scores."""
    num_nodes = graphs.shape[1]
    parents = np.einsum("kij,i->kj", graphs, 1 << np.arange(num_nodes))
    return scores[np.arange(num_nodes)[None], parents].sum(1)
