"""Sequences of symbols, written from left to right, or from the middle to both ends."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from dncbench.draws import Arrays
from dncbench.errors import UnknownNameError, nearest
from dncbench.problems.discrete._enumerated import Enumerated
from dncbench.registry import register_problem
from dncbench.stategraph.environment import Environment
from dncbench.stategraph.sites import Sites

REWARDS = ("site", "bigram", "long")
BUILDINGS = ("append", "both")


@dataclass(frozen=True)
class Writing(Environment):
    """States are symbols from 1, and 0 behind the last that is written; an action writes one more.

    Actions 0 to V - 1 write a symbol behind the others; where ``both`` ends are written at,
    V to 2V - 1 write one before them. Then 2^(L-1) trajectories lead to a sequence of length L,
    and two edges to every state of two symbols or more, be it from one state, as from "a" to "aa".
    The first symbol has nothing before it, and one edge leads to it. Else the graph is a tree.
    """

    num_symbols: int
    length: int
    both: bool = False

    @property
    def num_actions(self) -> int:
        """One for each symbol and end."""
        return self.num_symbols * (2 if self.both else 1)

    def initial(self) -> np.ndarray:
        """Nothing."""
        return np.zeros(self.length, dtype=int)

    def allowed(self, states: Shaped[Any, "n L"]) -> Bool[Any, "n A"]:
        """Any symbol, while the last place is free; before others, once there are any."""
        xp = states.__array_namespace__()
        shape = (len(states), self.num_symbols)
        behind = xp.broadcast_to(states[:, -1:] == 0, shape)
        if not self.both:
            return behind
        return xp.concatenate([behind, behind & (states[:, :1] > 0)], axis=1)

    def step(self, states: Shaped[Any, "n L"], actions: Int[Any, " n"]) -> Shaped[Any, "n L"]:
        """The first free place is written, or all move to the right and the first place is."""
        xp = states.__array_namespace__()
        place = xp.sum(states > 0, axis=1)
        symbol = (actions % self.num_symbols + 1).astype(states.dtype)[:, None]
        behind = states + xp.eye(self.length, dtype=states.dtype)[place] * symbol
        if not self.both:
            return behind
        before = xp.concatenate([symbol, states[:, :-1]], axis=1)
        return xp.where((actions < self.num_symbols)[:, None], behind, before)

    def features(self, states: Shaped[Any, "n L"]) -> Float[Any, "n F"]:
        """Symbols one-hot; nothing where nothing is written."""
        xp = states.__array_namespace__()
        hot = states[:, :, None] == xp.arange(1, self.num_symbols + 1)[None, None]
        return hot.reshape(len(states), -1).astype(xp.float32)

    @property
    def num_steps(self) -> int:
        """As many as there are symbols in the end."""
        return self.length

    def entered(self, states: Shaped[Any, "n L"]) -> Bool[Any, "n A"]:
        """The last symbol behind the others; the first before them, where there are others."""
        xp = states.__array_namespace__()
        symbols = xp.arange(1, self.num_symbols + 1)[None]
        last = xp.sum(xp.where(self._is_last(states), states, 0), axis=1, keepdims=True)
        behind = last == symbols
        if not self.both:
            return behind
        several = xp.sum(states > 0, axis=1, keepdims=True) > 1
        return xp.concatenate([behind, (states[:, :1] == symbols) & several], axis=1)

    def undo(self, states: Shaped[Any, "n L"], actions: Int[Any, " n"]) -> Shaped[Any, "n L"]:
        """The last symbol is gone, or the first, and the others move to the left."""
        xp = states.__array_namespace__()
        behind = xp.where(self._is_last(states), 0, states)
        if not self.both:
            return behind
        before = xp.concatenate([states[:, 1:], xp.zeros_like(states[:, :1])], axis=1)
        return xp.where((actions < self.num_symbols)[:, None], behind, before)

    def _is_last(self, states: Shaped[Any, "n L"]) -> Bool[Any, "n L"]:
        """Where the last symbol is."""
        xp = states.__array_namespace__()
        return xp.arange(self.length)[None] == xp.sum(states > 0, axis=1, keepdims=True) - 1


@register_problem("sequences", version=1, small="num_symbols=3,length=4")
class Sequences(Enumerated):
    """Six places, four symbols (4096 sequences); each of 4 clients scores symbols in context.

    With reward "site", log R_n(x) = Σ_i p_n(i) u_n(x_i): places are independent, so that
    a product of laws of single places is exact, the control; "bigram" adds
    Σ_i B_n[x_i, x_{i+1}]; "long" adds Σ_{j ≥ i+2} J_n[i, j, x_i, x_j] to "bigram". p_n(i) is
    uniform on (0, 1), u_n is N(0, 1), B_n and J_n are N(0, 0.5²). The task of da Silva et al.
    (2024); the rewards are this suite's own.

    Attributes:
        num_shards: S.
        num_symbols: of the alphabet.
        length: of every sequence.
        reward: "site", "bigram" or "long".
        building: "append" symbols, so that one trajectory leads to each sequence; or write at
            "both" ends, so that many do. Objects, rewards and the truth are the same.
    """

    num_shards: int = 4
    num_symbols: int = 4
    length: int = 6
    reward: str = "bigram"
    building: str = "append"

    cites: ClassVar = ("dasilva2024",)
    source: ClassVar = "rewards from a fixed key, in the style of da Silva et al. (2024)"

    def __check_init__(self) -> None:
        for setting, known in (("reward", REWARDS), ("building", BUILDINGS)):
            value = getattr(self, setting)
            if value not in known:
                raise UnknownNameError(
                    f"sequences: {setting} is {value!r}{nearest(value, known)}; "
                    f"known: {', '.join(known)}"
                )

    @property
    def environment(self) -> Writing:
        """One symbol after another."""
        return Writing(self.num_symbols, self.length, self.building == "both")

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "S ..."]]:
        """Each client's scores, those that the reward asked for needs."""
        key_place, key_symbol, key_bigram, key_long = jax.random.split(key, 4)
        shards, symbols, length = self.num_shards, self.num_symbols, self.length
        found = {
            "place": jax.random.uniform(key_place, (shards, length)),
            "symbol": jax.random.normal(key_symbol, (shards, symbols)),
        }
        if self.reward != "site":
            found["bigram"] = 0.5 * jax.random.normal(key_bigram, (shards, symbols, symbols))
        if self.reward == "long":
            shape = (shards, length, length, symbols, symbols)
            found["long"] = 0.5 * jax.random.normal(key_long, shape)
        return found

    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "S K"]:
        """Log rewards of all sequences."""
        at = self.graph.objects.T.astype(int) - 1  # (L, K)
        place, symbol = (np.asarray(observations[name]) for name in ("place", "symbol"))
        found = np.einsum("sl,slk->sk", place, symbol[:, at])
        if "bigram" in observations:
            found += np.asarray(observations["bigram"])[:, at[:-1], at[1:]].sum(1)
        if "long" in observations:
            long = np.asarray(observations["long"])
            for i in range(self.length):
                for j in range(i + 2, self.length):
                    found += long[:, i, j, at[i], at[j]]
        return np.asarray(found)

    @property
    def sites(self) -> Sites:
        """The symbols."""
        return Sites(self.graph.objects.astype(int) - 1)

    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """Symbols one-hot."""
        names = tuple(
            f"x[{place}] is {symbol}"
            for place in range(self.length)
            for symbol in range(self.num_symbols)
        )
        return names, self.environment.features(self.graph.objects).astype(float)
