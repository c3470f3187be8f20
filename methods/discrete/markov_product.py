"""The product of Markov chains along the places that objects are made of."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import Message, drawn, sites_of
from dncbench.registry import register_method


@register_method("markov-product", version=1)
class MarkovProduct(Method):
    """Fits a Markov chain along the places to each client's draws, and multiplies the chains.

    The product is normalised over all objects together; normalised place by place, it would
    be another law. Exact, but for the error of the draws, where clients' log rewards are
    sums over neighbouring places.

    Attributes:
        pseudo_count: of every pair of values at neighbouring places.
    """

    pseudo_count: float = 0.5

    needs = frozenset({"draws", "problem"})
    spaces = frozenset({"codes"})

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """Log probabilities of the first value (V,), and of each given that before (L-1, V, V)."""
        sites = sites_of(shard.problem)
        values = jnp.asarray(sites.values)[shard.values]
        size, length = sites.num_values, values.shape[1]
        first = jnp.zeros(size).at[values[:, 0]].add(1.0) + self.pseudo_count
        places = jnp.arange(length - 1)[None]
        pairs = jnp.zeros((length - 1, size, size))
        pairs = pairs.at[places, values[:, :-1], values[:, 1:]].add(1.0) + self.pseudo_count
        chain = jnp.log(pairs) - jnp.log(jnp.sum(pairs, axis=2, keepdims=True))
        return Message((jnp.log(first) - jnp.log(jnp.sum(first)), chain), shard.problem)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The sum of the clients' chains, at every object."""
        values = jnp.asarray(sites_of(messages.problem).values)
        places = jnp.arange(values.shape[1] - 1)[None]

        def logs(sent: tuple[Array, Array]) -> Array:
            first, chain = sent
            return first[values[:, 0]] + jnp.sum(
                chain[places, values[:, :-1], values[:, 1:]], axis=1
            )

        summed = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), messages.sent)
        return drawn(logs(summed), jax.lax.map(logs, messages.sent), key, num_draws)
