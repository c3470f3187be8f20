"""Counts of items that sum to a number: how they are built and coded, and laws of them."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import logsumexp

from dncbench.stategraph.environment import Environment


@dataclass(frozen=True)
class Bag(Environment):
    """States are counts of items; an action adds one, until there are ``size``."""

    num_items: int
    size: int

    @property
    def num_actions(self) -> int:
        """One for each item."""
        return self.num_items

    def initial(self) -> np.ndarray:
        """Empty."""
        return np.zeros(self.num_items, dtype=int)

    def allowed(self, states: Shaped[Any, "n U"]) -> Bool[Any, "n U"]:
        """Any item, while there is room."""
        xp = states.__array_namespace__()
        return xp.broadcast_to(xp.sum(states, axis=1, keepdims=True) < self.size, states.shape)

    def step(self, states: Shaped[Any, "n U"], actions: Int[Any, " n"]) -> Shaped[Any, "n U"]:
        """One count grows by one."""
        xp = states.__array_namespace__()
        return states + xp.eye(self.num_items, dtype=states.dtype)[actions]

    def features(self, states: Shaped[Any, "n U"]) -> Float[Any, "n F"]:
        """Counts one-hot."""
        xp = states.__array_namespace__()
        hot = states[:, :, None] == xp.arange(self.size + 1)[None, None]
        return hot.reshape(len(states), -1).astype(xp.float32)

    @property
    def num_steps(self) -> int:
        """As many as there are items in the end."""
        return self.size

    def entered(self, states: Shaped[Any, "n U"]) -> Bool[Any, "n U"]:
        """Any item that is there."""
        return states > 0

    def undo(self, states: Shaped[Any, "n U"], actions: Int[Any, " n"]) -> Shaped[Any, "n U"]:
        """One count shrinks by one."""
        xp = states.__array_namespace__()
        return states - xp.eye(self.num_items, dtype=states.dtype)[actions]

    def wander(self, states: Shaped[Any, "n U"]) -> Float[Any, "n U"]:
        """Pólya's urn, (x_u + 1) / (Σ x + U): all objects of a size are equally probable."""
        xp = states.__array_namespace__()
        urn = xp.where(self.allowed(states), states.astype(xp.float32) + 1.0, 0.0)
        return urn / xp.maximum(xp.sum(urn, axis=1, keepdims=True), 1.0)

    # ------------------------------------------------------------ codes

    @property
    def num_objects(self) -> int:
        """K = (size + num_items - 1)! / (size! (num_items - 1)!)."""
        return math.comb(self.size + self.num_items - 1, self.size)

    def code(self, states: Shaped[Any, "n U"]) -> Int[Any, " n"]:
        """How many objects come before in the order of the rows, which is a state graph's.

        Of r items of k + 1 kinds, those with fewer than c of the first kind are
        (r + k)! / (r! k!) - (r - c + k)! / ((r - c)! k!): the combinatorial number system.
        """
        xp = states.__array_namespace__()
        counts = states.astype(xp.int64)
        after = self.size - xp.cumsum(counts, axis=1)
        ways, item = xp.asarray(_ways(self.num_items, self.size)), xp.arange(self.num_items)[None]
        return xp.sum(ways[item, after + counts] - ways[item, after], axis=1)

    def counts(self, codes: Int[Any, " n"]) -> Int[Any, "n U"]:
        """The objects that have these codes."""
        xp = codes.__array_namespace__()
        found, rest = [], xp.full(codes.shape, self.size)
        to_end = self.num_objects - codes  # of the objects with the counts so far
        for ways in xp.asarray(_ways(self.num_items, self.size))[:-1, None]:
            # As few are left for later items as make so many objects.
            fewer = ways < to_end[:, None]
            left = xp.sum(fewer, axis=1)
            to_end = to_end - xp.max(xp.where(fewer, ways, 0), axis=1)
            found.append(rest - left)
            rest = left
        return xp.stack([*found, rest], axis=1)


@functools.lru_cache(maxsize=16)
def _ways(num_items: int, size: int) -> Int[np.ndarray, "U r"]:
    """For each kind with k after it: how many choices of r = 0 to ``size`` of k + 1 kinds."""
    later = range(num_items - 1, -1, -1)
    return np.array([[math.comb(r + k, k) for r in range(size + 1)] for k in later], np.int64)


class CountLaw:
    """p(x) ∝ exp Σ_u table[u, x_u] where Σ_u x_u = k: items independent but for their total.

    Exact by dynamic programming over the items, whatever the number of objects.

    Args:
        table: (U, k + 1) log weight of every count of each item.

    Attributes:
        log_normaliser: log Σ_x exp Σ_u table[u, x_u].
        conditionals: (U, k + 1, k + 1) probability of a count of item u, its last axis, where
            items u, u + 1, ... sum to r.
        marginals: (U, k + 1) probability of every count of each item.
    """

    log_normaliser: float
    conditionals: Float[np.ndarray, "U r c"]
    marginals: Float[np.ndarray, "U c"]

    def __init__(self, table: Float[np.ndarray, "U c"]) -> None:
        num_items, num_counts = table.shape
        total, count = np.indices((num_counts, num_counts))
        log_sums = np.where(np.arange(num_counts) == 0, 0.0, -np.inf)  # of no items
        self.conditionals = np.empty((num_items, num_counts, num_counts))
        for item in range(num_items - 1, -1, -1):
            terms = np.where(
                count <= total, table[item][None] + log_sums[np.maximum(total - count, 0)], -np.inf
            )
            log_sums = logsumexp(terms, axis=1)
            self.conditionals[item] = np.exp(terms - log_sums[:, None])
        self.log_normaliser = float(log_sums[-1])

        self.marginals = np.empty(table.shape)
        reached = (np.arange(num_counts) == num_counts - 1).astype(float)
        for item, conditional in enumerate(self.conditionals):
            joint = reached[:, None] * conditional
            self.marginals[item] = joint.sum(0)
            reached = np.bincount((total - count)[count <= total], joint[count <= total])

    def draws(self, uniform: Float[np.ndarray, "n U"]) -> Int[np.ndarray, "n U"]:
        """Independent draws, from independent uniform numbers of [0, 1)."""
        rest = np.full(len(uniform), self.conditionals.shape[1] - 1)
        found = np.empty(uniform.shape, int)
        for item, conditional in enumerate(self.conditionals):
            below = np.cumsum(conditional, axis=1)
            below /= below[:, -1:]
            found[:, item] = np.sum(below[rest] <= uniform[:, item, None], axis=1)
            rest = rest - found[:, item]
        return found
