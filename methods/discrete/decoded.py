"""Merges of points, applied to objects that are described by numbers."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.errors import NotApplicableError
from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import Message, num_objects
from dncbench.registry import register_correction


@register_correction("decoded", version=1)
class Decoded(Method):
    """Merges coordinates of objects as if they were points, and takes the nearest objects.

    Every draw becomes a point that is uniform in the cell around its object: on a grid of
    cells (``banana-grid``, ``grid-world``) such densities multiply as the laws of the cells do.
    Elsewhere (counts, one-hot symbols) objects fill no box, and what comes out is not what
    the merge was made for.

    Attributes:
        method: the merge of points, of one round.
    """

    method: Method

    cites: ClassVar = ()

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What the merge needs, and the objects."""
        return self.method.needs | {"problem"}

    @property
    def spaces(self) -> frozenset[str]:  # type: ignore[override]
        """Codes, where the merge is of points."""
        return frozenset({"codes"}) if "real" in self.method.spaces else frozenset()

    @property
    def untraced(self) -> frozenset[str]:  # type: ignore[override]
        """The merge's."""
        return self.method.untraced

    def track(self) -> str:
        """That of the merge, on other draws than its own."""
        return self.method.track() + " as points"

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """The merge's message, of points.

        Raises:
            NotApplicableError: it has several rounds, or evaluates densities, of points.
        """
        if self.method.num_rounds > 1 or "model" in self.method.needs:
            raise NotApplicableError(
                "merges that ask the shards again, or evaluate their densities, are not decoded: "
                "those are densities of objects"
            )
        key_values, key_inflated, key_fit = jax.random.split(key, 3)
        table, gaps = _tables(shard.problem)

        def spread(codes: Array | None, key: PRNGKeyArray) -> Array | None:
            if codes is None:
                return None
            within = jax.random.uniform(key, (len(codes), table.shape[1])) - 0.5
            return table[codes] + gaps[None, :] * within

        points = Shard(
            values=spread(shard.values, key_values),
            log_density=shard.log_density,
            inflated=spread(shard.inflated, key_inflated),
            ess=shard.ess,
            num_shards=shard.num_shards,
        )
        return Message(self.method.begin(points, key_fit)[1], shard.problem)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The objects nearest to the merged points, in units of the cells."""
        points, info = self.method.finish(None, messages.sent, key, num_draws)
        info = {name: value for name, value in info.items() if name != "log_density"}
        table, gaps = _tables(messages.problem)
        scaled = table / gaps[None, :]
        size = 0.5 * jnp.sum(scaled**2, axis=1)
        nearest = lambda point: jnp.argmin(size - scaled @ point)  # noqa: E731
        codes = jax.lax.map(nearest, jnp.asarray(points) / gaps[None, :], batch_size=64)
        return codes, info


def _tables(problem: Any) -> tuple[Float[Array, "K p"], Float[Array, " p"]]:
    """All objects' points, and the smallest gap between values of each coordinate."""
    table = np.asarray(problem.space.embed(np.arange(num_objects(problem))))
    gaps = [np.diff(np.unique(column)).min() for column in table.T]
    return jnp.asarray(table), jnp.asarray(gaps)
