"""Sequences of symbols, written from left to right."""

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


@dataclass(frozen=True)
class Writing(Environment):
    """States are symbols from 1, and 0 where nothing is written yet; an action writes the next.

    One trajectory leads to each sequence, so that the state graph is a tree.
    """

    num_symbols: int
    length: int

    @property
    def num_actions(self) -> int:
        """One for each symbol."""
        return self.num_symbols

    def initial(self) -> np.ndarray:
        """Nothing."""
        return np.zeros(self.length, dtype=int)

    def allowed(self, states: Shaped[Any, "n L"]) -> Bool[Any, "n V"]:
        """Any symbol, while the last place is free."""
        xp = states.__array_namespace__()
        return xp.broadcast_to(states[:, -1:] == 0, (len(states), self.num_symbols))

    def step(self, states: Shaped[Any, "n L"], actions: Int[Any, " n"]) -> Shaped[Any, "n L"]:
        """The first free place is written."""
        xp = states.__array_namespace__()
        place = xp.sum(states > 0, axis=1)
        symbol = (actions + 1).astype(states.dtype)
        return states + xp.eye(self.length, dtype=states.dtype)[place] * symbol[:, None]

    def features(self, states: Shaped[Any, "n L"]) -> Float[Any, "n F"]:
        """Symbols one-hot; nothing where nothing is written."""
        xp = states.__array_namespace__()
        hot = states[:, :, None] == xp.arange(1, self.num_symbols + 1)[None, None]
        return hot.reshape(len(states), -1).astype(xp.float32)


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
    """

    num_shards: int = 4
    num_symbols: int = 4
    length: int = 6
    reward: str = "bigram"

    cites: ClassVar = ("dasilva2024",)
    source: ClassVar = "rewards from a fixed key, in the style of da Silva et al. (2024)"

    def __check_init__(self) -> None:
        if self.reward not in REWARDS:
            raise UnknownNameError(
                f"sequences: reward is {self.reward!r}{nearest(self.reward, REWARDS)}; "
                f"known: {', '.join(REWARDS)}"
            )

    @property
    def environment(self) -> Writing:
        """One symbol after another."""
        return Writing(self.num_symbols, self.length)

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
