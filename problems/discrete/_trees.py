"""Rooted binary trees: how they are built, and how likely sites of an alignment are under them."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from dncbench.stategraph.environment import Environment

UNKNOWN = 4  # beside the four nucleotides 0 to 3


@dataclass(frozen=True)
class Joining(Environment):
    """States say which clades of two leaves or more there are; an action joins two trees.

    A clade is the set of leaves below a node, as bits of a whole number. The trees of a forest
    are named by their smallest leaves, and an action is a pair i < j of leaves: it joins the
    trees that are called so. What is undone is the root of one of the trees, so that as many
    edges lead to a forest as it has trees that are no single leaf.
    """

    num_leaves: int

    @property
    def pairs(self) -> Int[np.ndarray, "A 2"]:
        """The leaves that each action names."""
        return np.array(list(itertools.combinations(range(self.num_leaves), 2)))

    @property
    def clades(self) -> Int[np.ndarray, " C"]:
        """All sets of two leaves or more, the smaller ones first."""
        every = np.arange(1 << self.num_leaves)
        size = np.bitwise_count(every)
        order = np.lexsort((every, size))
        return every[order][size[order] >= 2]

    @property
    def num_actions(self) -> int:
        """One for each pair of leaves."""
        return self.num_leaves * (self.num_leaves - 1) // 2

    def initial(self) -> np.ndarray:
        """Single leaves."""
        return np.zeros(len(self.clades), dtype=int)

    def _roots(self, states: Shaped[Any, "n C"]) -> Int[Any, "n leaves"]:
        """The largest clade that each leaf is in, itself where it is in none."""
        xp = states.__array_namespace__()
        leaf = 1 << np.arange(self.num_leaves)
        inside = (self.clades[:, None] & leaf[None]) > 0
        # Those that a leaf is in are nested, and so the largest is the largest number's.
        clades = np.where(inside, self.clades[:, None], 0)
        found = xp.max(xp.where(states[:, :, None] > 0, xp.asarray(clades)[None], 0), axis=1)
        return xp.maximum(found, xp.asarray(leaf)[None])

    def allowed(self, states: Shaped[Any, "n C"]) -> Bool[Any, "n A"]:
        """Pairs of leaves that both name a tree."""
        names = self._named(self._roots(states))
        first, second = self.pairs.T
        return names[:, first] & names[:, second]

    def _named(self, roots: Int[Any, "n leaves"]) -> Bool[Any, "n leaves"]:
        """Which leaves are the smallest of the clades that they are in."""
        xp = roots.__array_namespace__()
        return (roots & -roots) == xp.asarray(1 << np.arange(self.num_leaves))[None]

    def step(self, states: Shaped[Any, "n C"], actions: Int[Any, " n"]) -> Shaped[Any, "n C"]:
        """The two trees' leaves become a clade."""
        xp = states.__array_namespace__()
        roots, rows = self._roots(states), xp.arange(len(states))
        first, second = xp.asarray(self.pairs)[actions].T
        joined = roots[rows, first] | roots[rows, second]
        return states + self._one(joined, states)

    def _one(self, clades: Int[Any, " n"], states: Shaped[Any, "n C"]) -> Shaped[Any, "n C"]:
        """Rows, as those of the states, with one clade each."""
        xp = states.__array_namespace__()
        return (xp.asarray(self.clades)[None] == clades[:, None]).astype(states.dtype)

    def features(self, states: Shaped[Any, "n C"]) -> Float[Any, "n F"]:
        """The clades, which determine the forest."""
        return states.astype(states.__array_namespace__().float32)

    @property
    def num_steps(self) -> int:
        """Every step leaves one tree less."""
        return self.num_leaves - 1

    def entered(self, states: Shaped[Any, "n C"]) -> Bool[Any, "n A"]:
        """Pairs of leaves that name the two trees below one root."""
        xp = states.__array_namespace__()
        roots = self._roots(states)
        is_root = xp.any(xp.asarray(self.clades)[None, None] == roots[:, :, None], axis=1)
        names = self._named(self._roots(xp.where(is_root, 0, states)))
        first, second = self.pairs.T
        return names[:, first] & names[:, second] & (roots[:, first] == roots[:, second])

    def undo(self, states: Shaped[Any, "n C"], actions: Int[Any, " n"]) -> Shaped[Any, "n C"]:
        """The root of the tree with these leaves is gone."""
        xp = states.__array_namespace__()
        first = xp.asarray(self.pairs)[actions][:, 0]
        return states - self._one(self._roots(states)[xp.arange(len(states)), first], states)


def jukes_cantor(length: float) -> Float[np.ndarray, "4 4"]:
    """Probabilities of nucleotides at the end of a branch given those at its start.

    Jukes & Cantor (1969); the length is the expected number of substitutions.
    """
    stay = np.exp(-4.0 * length / 3.0)
    return np.full((4, 4), (1.0 - stay) / 4.0) + stay * np.eye(4)


def site_log_likelihoods(
    trees: Shaped[np.ndarray, "K C"],
    clades: Int[np.ndarray, " C"],
    sites: Int[np.ndarray, "n leaves"],
    length: float,
) -> Float[np.ndarray, "n K"]:
    """Log likelihood of every site under every tree, by Felsenstein's pruning.

    Args:
        trees: which clades each has.
        clades: leaves as bits, smaller sets first.
        sites: nucleotides of the leaves; 4 where unknown.
        length: of every branch.
    """
    patterns, pattern_of = np.unique(sites, axis=0, return_inverse=True)
    transition = jukes_cantor(length)
    seen = np.vstack([np.eye(4), np.ones((1, 4))])
    leaves = [seen[patterns[:, leaf]] @ transition for leaf in range(sites.shape[1])]

    @functools.cache
    def below(tree: Any) -> np.ndarray:
        """(patterns, 4) likelihood of what is below a node; many trees share it."""
        left, right = tree
        return along(left) * along(right)

    @functools.cache
    def along(tree: Any) -> np.ndarray:
        return leaves[tree] if isinstance(tree, int) else below(tree) @ transition

    found = np.empty((len(patterns), len(trees)))
    for number, tree in enumerate(trees):
        left, right = nested(clades[tree > 0].tolist())
        found[:, number] = np.log((along(left) * along(right)).mean(1))
    return found[pattern_of.ravel()]


def nested(clades: list[int]) -> Any:
    """The tree with these clades, smaller ones first: a pair of trees, or the number of a leaf."""
    trees: dict[int, Any] = {}
    for clade in clades:
        inside = [root for root in trees if root & clade == root]
        single = clade & ~sum(inside)
        parts = [trees.pop(root) for root in inside]
        parts += [leaf for leaf in range(single.bit_length()) if single >> leaf & 1]
        trees[clade] = tuple(sorted(parts, key=str))
    return trees[clades[-1]]
