"""What merged draws are worth as an estimate of the posterior.

However many draws a merge returns, its weights and means come of the shards' draws, and their
error is one that all merged draws share, the larger the more dimensions and shards there are and
the less alike the shards. Leaving out one group of each shard's draws after another shows it, as
the merges then differ by it (delete-a-group jackknife; Kott 2001).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.method import Method, Shard
from dncbench.timing import Program

MOST_GROUPS = 20

_BY_DRAW = ("values", "log_density", "score", "inflated")


def jackknifed_ess(
    method: Method, shards: Shard, key: PRNGKeyArray, draws: Float[np.ndarray, "num_draws d"]
) -> float | None:
    """How many independent draws of the posterior would have a mean that is as far off.

    In units of the merged draws' covariance V, the squared error of the mean of n independent
    draws is d / n on average. Here it is tr(V⁻¹ J) + δᵀ V⁻¹ δ, with J the jackknife covariance of
    what the merge aims at, and δ what the mean of the draws at hand misses that by. Groups are
    of consecutive draws, within which those of a chain depend on each other.

    Args:
        method: that merged.
        shards: what it was given.
        key: random key for the shards.
        draws: merged.

    Returns:
        None where the method does not say where it aims (:meth:`Method.centre`), or there are too
        few draws for a covariance.
    """
    dim = draws.shape[1]
    if type(method).centre is Method.centre or len(draws) < dim + 2:
        return None
    fewest = min(array.shape[1] for array in _by_draw(shards).values())
    num_groups = min(MOST_GROUPS, fewest)
    centre, others = (np.asarray(each) for each in _aims(method, shards, key, num_groups).value)
    with np.errstate(all="ignore"):
        spread = draws.std(0)
        missed, apart = (draws.mean(0) - centre) / spread, (others - others.mean(0)) / spread
        correlation = np.corrcoef(draws.T).reshape(dim, dim)
    if not all(np.all(np.isfinite(each)) for each in (missed, apart, correlation)):
        return None  # a constant coordinate, one whose square is no number, a singular shard
    solved = np.linalg.lstsq(correlation, np.column_stack([missed, apart.T]), rcond=None)[0]
    of_groups = (num_groups - 1) / num_groups * np.sum(apart.T * solved[:, 1:])
    squared = of_groups + missed @ solved[:, 0]
    return float(min(dim / squared, len(draws))) if squared > 0 else float(len(draws))


def _by_draw(shards: Shard) -> dict[str, Float[Array, "S T ..."]]:
    found = {name: getattr(shards, name) for name in _BY_DRAW}
    return {name: array for name, array in found.items() if array is not None}


def _centres(
    method: Method, shards: Shard, key: PRNGKeyArray, num_groups: int
) -> tuple[Float[Array, " d"], Float[Array, "groups d"]]:
    """Where the method aims with all draws, and without each group."""
    stacked = eqx.if_array(0)
    fit = eqx.filter_vmap(
        lambda method, shard, key: method.fit(shard, key), in_axes=(None, stacked, 0)
    )
    assert shards.num_shards is not None
    keys = jax.random.split(key, shards.num_shards)
    without = jax.lax.map(
        lambda group: method.centre(fit(method, _without(shards, group, num_groups), keys)),
        jnp.arange(num_groups),
    )
    return method.centre(fit(method, shards, keys)), without


_aims = Program(_centres)


def _without(shards: Shard, group: Int[Array, ""], num_groups: int) -> Shard:
    """The shards without one group of each one's draws; all groups are of one size."""

    def left(array: Float[Array, "S T ..."]) -> Float[Array, "S left ..."]:
        size = array.shape[1] // num_groups
        rows = jnp.arange(array.shape[1] - size)
        return array[:, rows + size * (rows >= group * size)]

    fewer = {name: left(array) for name, array in _by_draw(shards).items()}
    if shards.ess is not None:
        fewer["ess"] = shards.ess * (1 - 1 / num_groups)
    return eqx.tree_at(
        lambda shards: [getattr(shards, name) for name in fewer], shards, list(fewer.values())
    )
