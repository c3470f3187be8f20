"""The product of the clients' empirical laws."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import Message, counts, drawn, num_objects, own_draws
from dncbench.registry import register_method


@register_method("empirical-product", version=1)
class EmpiricalProduct(Method):
    """Multiplies shares of the clients' draws, with a pseudo-count for every object.

    p(x) ∝ Π_n (count_n(x) + a). Where there are many more objects than draws, what counts is
    which objects all clients happened to draw.

    Attributes:
        pseudo_count: a.
    """

    pseudo_count: float = 0.5

    needs = frozenset({"draws", "problem"})
    spaces = frozenset({"codes"})

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """The draws."""
        return own_draws(shard)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The normalised product."""
        size = num_objects(messages.problem)
        tables = jnp.stack([counts(codes, size) for codes in messages.sent])
        logs = jnp.log(tables + self.pseudo_count)
        return drawn(jnp.sum(logs, axis=0), logs, key, num_draws)
