"""Multisets that are too many to be listed; their laws are known exactly nevertheless."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import Check, Draws, Truth
from dncbench.errors import UnknownNameError
from dncbench.problem import Data, Problem, Split
from dncbench.problems.discrete._counts import Bag, CountLaw
from dncbench.registry import register_problem
from dncbench.space import Codes, Space

_SD = 0.7  # of every entry of a client's table


class CountRewards(eqx.Module):
    """A log density of multisets: the sum over their items of what a table has for each count.

    Attributes:
        table: (U, k + 1) of every count of each item; stacked over shards, (S, U, k + 1).
        bag: of the codes.
    """

    table: Float[Array, "*S U c"]
    bag: Bag = eqx.field(static=True)

    def __call__(self, code: Int[Array, ""]) -> Float[Array, ""]:
        """Log reward of one object."""
        counts = self.bag.counts(jnp.asarray(code)[None])[0]
        return jnp.sum(self.table[jnp.arange(self.bag.num_items), counts])


@register_problem("multisets-large", version=1, small="num_items=5,size=4")
class LargeMultisets(Problem):
    """15 items out of 20 kinds (1.9e9 multisets), which nobody lists; 4 clients.

    log R_n(x) = Σ_u T_n[u, x_u], x_u being how often item u is there, so that a second copy is
    worth something else than the first; entries are N(0, 0.7²). Such counts are independent but
    for their total: the normaliser, draws, means and the entropy of every client's law and
    of their product are exact by dynamic programming over the items. For merges that need no
    table of all objects; in the style of da Silva et al. (2024).

    Attributes:
        num_shards: S.
        num_items: U, kinds of items.
        size: k, how many items.
    """

    num_shards: int = 4
    num_items: int = 20
    size: int = 15

    headline = ("mah", "iad-rank")
    unit: ClassVar = "clients"
    cites: ClassVar = ("dasilva2024",)
    source: ClassVar = "rewards from a fixed key, in the style of da Silva et al. (2024)"

    def __check_init__(self) -> None:
        if not (self.num_items >= 2 and 1 <= self.size <= 127):
            raise UnknownNameError(
                f"multisets-large: num_items is {self.num_items}, size {self.size}; "
                "from 2, and from 1 to 127"
            )
        if self.environment.num_objects > np.iinfo(np.int64).max:
            raise UnknownNameError(
                f"multisets-large: num_items={self.num_items}, size={self.size} make more than "
                "2^63 objects, which have no codes; make one of them smaller"
            )

    @property
    def environment(self) -> Bag:
        """One item after another."""
        return Bag(self.num_items, self.size)

    @property
    def space(self) -> Space:
        """Codes, embedded by all counts but the last, which the others determine."""
        bag = self.environment
        names = tuple(f"count[{item}]" for item in range(bag.num_items - 1))
        return Codes(names, "codes", bag.num_objects, lambda codes: bag.counts(codes)[:, :-1])

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "S U c"]]:
        """Each client's table."""
        shape = (self.num_shards, self.num_items, self.size + 1)
        return {"table": _SD * jax.random.normal(key, shape)}

    def tables(self, data: Data, split: Split) -> Float[np.ndarray, "S U c"]:
        """Every shard's table: the sum of those that it holds."""
        holds = split.shard_of[None] == np.arange(split.num_shards)[:, None]
        return np.tensordot(holds.astype(float), np.asarray(data.train["table"]), 1)

    def density(self, data: Data, split: Split, kind: str, space: Space) -> CountRewards:
        """Of objects; inflating a shard's is a power."""
        power = split.num_shards if kind == "inflated" else 1
        return CountRewards(jnp.asarray(power * self.tables(data, split)), self.environment)

    def draws(
        self, data: Data, split: Split, kind: str, key: PRNGKeyArray, num_draws: int
    ) -> Draws:
        """Independent draws of every shard's law."""
        tables = np.asarray(self.density(data, split, kind, self.space).table)
        keys = jax.random.split(key, split.num_shards)
        laws = [CountLaw(table) for table in tables]
        counts = np.stack(
            [self._drawn(law, k, num_draws) for law, k in zip(laws, keys, strict=True)]
        )
        values = [self.environment.code(each) for each in counts]
        return Draws(np.stack(values), _summed(tables, counts))

    def truth(self, data: Data, key: PRNGKeyArray, num_draws: int) -> Truth:
        """Independent draws of the product of all clients' rewards, by dynamic programming."""
        table = self.tables(data, self.whole(data))[0]
        law = CountLaw(table)
        counts = self._drawn(law, key, num_draws)
        entropy = law.log_normaliser - np.sum(law.marginals * table)
        checks = (
            Check("objects", self.environment.num_objects),
            Check("entropy", float(entropy), where="nats"),
            Check("entropy of the flat law", np.log(self.environment.num_objects), where="nats"),
            Check("log normaliser", law.log_normaliser),
            Check(
                "log normaliser: |difference| with the items in another order",
                abs(CountLaw(table[::-1]).log_normaliser - law.log_normaliser),
                1e-9,
            ),
            Check("draws' means: largest |z|", _largest_z(law, counts), 6.0),
        )
        return Truth(self.environment.code(counts), num_draws, None, checks)

    def _drawn(self, law: CountLaw, key: PRNGKeyArray, num: int) -> Int[np.ndarray, "n U"]:
        return law.draws(np.asarray(jax.random.uniform(key, (num, self.num_items))))


def _summed(
    tables: Float[np.ndarray, "S U c"], counts: Int[np.ndarray, "S T U"]
) -> Float[np.ndarray, "S T"]:
    """Log rewards of each shard's own objects."""
    items = np.arange(tables.shape[1])[None]
    return np.stack([t[items, c].sum(1) for t, c in zip(tables, counts, strict=True)])


def _largest_z(law: CountLaw, counts: Int[np.ndarray, "n U"]) -> float:
    """How many standard errors the draws' means are off."""
    number = np.arange(law.marginals.shape[1])
    mean = law.marginals @ number
    variance = law.marginals @ number**2 - mean**2
    return float(np.max(np.abs(counts.mean(0) - mean) / np.sqrt(variance / len(counts))))
