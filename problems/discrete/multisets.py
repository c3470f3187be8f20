"""Multisets: a fixed number of items, some of them alike."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.draws import Arrays
from dncbench.errors import UnknownNameError, nearest
from dncbench.problems.discrete._counts import Bag
from dncbench.problems.discrete._enumerated import Enumerated
from dncbench.registry import register_problem
from dncbench.stategraph.sites import Sites

REWARDS = ("linear", "table", "pairs")

_SD = 0.4  # of every entry of a client's table


@register_problem("multisets", version=1, small="num_items=5,size=4")
class Multisets(Enumerated):
    """8 items out of 10 kinds (24 310 multisets); each of 4 clients has values of its own.

    With reward "linear", log R_n(x) = Σ_u v_nu x_u, x_u being how often item u is there;
    "table": Σ_u T_n[u, x_u], so that a second copy is worth something else than the first;
    "pairs": "table" and Σ_{u < w} J_n[u, w] where u and w are both there. All entries are
    N(0, 0.4²). The task of da Silva et al. (2024); the rewards are this suite's own.

    Attributes:
        num_shards: S.
        num_items: kinds of items.
        size: how many items.
        reward: "linear", "table" or "pairs".
    """

    num_shards: int = 4
    num_items: int = 10
    size: int = 8
    reward: str = "table"

    cites: ClassVar = ("dasilva2024",)
    source: ClassVar = "rewards from a fixed key, in the style of da Silva et al. (2024)"

    def __check_init__(self) -> None:
        if self.reward not in REWARDS:
            raise UnknownNameError(
                f"multisets: reward is {self.reward!r}{nearest(self.reward, REWARDS)}; "
                f"known: {', '.join(REWARDS)}"
            )

    @property
    def environment(self) -> Bag:
        """One item after another."""
        return Bag(self.num_items, self.size)

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "S ..."]]:
        """Each client's values, which the reward asked for needs."""
        key_linear, key_table, key_pairs = jax.random.split(key, 3)
        shape = (self.num_shards, self.num_items)
        if self.reward == "linear":
            return {"value": _SD * jax.random.normal(key_linear, shape)}
        found = {"table": _SD * jax.random.normal(key_table, (*shape, self.size + 1))}
        if self.reward == "pairs":
            pairs = jax.random.normal(key_pairs, (*shape, self.num_items))
            found["pair"] = _SD * jnp.triu(pairs, 1)
        return found

    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "S K"]:
        """Log rewards of all multisets."""
        counts = self.graph.objects.astype(int)
        if "value" in observations:
            return np.asarray(observations["value"]) @ counts.T.astype(float)
        table = np.asarray(observations["table"])
        found = np.sum([table[:, item, counts[:, item]] for item in range(self.num_items)], axis=0)
        if "pair" in observations:
            there = (counts > 0).astype(float)
            found += np.einsum("ku,suw,kw->sk", there, observations["pair"], there, optimize=True)
        return np.asarray(found)

    @property
    def sites(self) -> Sites:
        """The items, in no order."""
        rows = np.repeat(
            np.tile(np.arange(self.num_items), self.graph.num_objects), self.graph.objects.ravel()
        )
        return Sites(rows.reshape(-1, self.size), exchangeable=True)

    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """Counts."""
        names = tuple(f"count[{item}]" for item in range(self.num_items))
        return names, self.graph.objects.astype(float)
