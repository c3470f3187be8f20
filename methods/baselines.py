"""The rows that put the others into proportion: two strawmen and the noise floor."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dncbench.method import Method, Shard
from dncbench.methods._gaussian import pooled, shuffled, thinned
from dncbench.registry import register_method
from dncbench.space import KINDS


class _SendDraws(Method):
    """A method whose message is the shard's draws."""

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Shaped[Array, "T ..."]:
        """The draws themselves."""
        assert shard.values is not None
        return shard.values


@register_method("pooled", version=1)
class Pooled(_SendDraws):
    """Strawman: all subposterior draws thrown together, as if shards were posteriors."""

    spaces: ClassVar = frozenset(KINDS)

    def merge(
        self, messages: Shaped[Array, "S T ..."], key: PRNGKeyArray, num_draws: int
    ) -> tuple[Shaped[Array, "num_draws ..."], dict[str, Any]]:
        """Equally many draws of each shard, in turn."""
        return pooled(thinned(messages, num_draws), num_draws), {}


@register_method("average", version=1)
class Average(_SendDraws):
    """Strawman: unweighted average over shards of one draw each."""

    def centre(self, messages: Float[Array, "S T d"]) -> Float[Array, " d"]:
        """The average of the shards' means."""
        return jnp.mean(messages, axis=(0, 1))

    def merge(
        self, messages: Float[Array, "S T d"], key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Average of independently shuffled draws."""
        return jnp.mean(shuffled(key, messages, num_draws), axis=0), {}


@register_method("oracle", version=1)
class Oracle(_SendDraws):
    """Not a merge: fresh reference draws scored as if they were one; the noise floor as a row.

    The framework hands it one "shard": a stretch of the certified reference that is
    scored against another. There are five such stretches, used in turn by the splits.
    """

    needs: ClassVar = frozenset({"reference"})
    spaces: ClassVar = frozenset(KINDS)
    exact_for_gaussians: ClassVar = True

    def merge(
        self, messages: Shaped[Array, "1 T ..."], key: PRNGKeyArray, num_draws: int
    ) -> tuple[Shaped[Array, "num_draws ..."], dict[str, Any]]:
        """The draws, in order."""
        return pooled(thinned(messages, num_draws), num_draws), {}
