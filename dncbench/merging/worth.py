"""What merged draws are worth as an estimate of the posterior.

However many draws a merge returns, its weights and means come of the shards' draws, and their
error is one that all merged draws share: with thirty unlike shards in twenty dimensions, consensus
of 10 000 draws each can be as far from the posterior's mean as 2 700 independent draws. Leaving
out one group of each shard's draws after another shows it, as the merges then differ by it
(delete-a-group jackknife; Kott 2001).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.method import Method, Shard
from dncbench.timing import Program

NUM_GROUPS = 20

_BY_DRAW = ("values", "log_density", "score", "inflated")


def worth(
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
        None where the method does not say where it aims (:meth:`Method.centre`), the shards have
        fewer draws than groups, or too few were merged for a covariance.
    """
    dim = draws.shape[1]
    if type(method).centre is Method.centre or len(draws) < dim + 2:
        return None
    if min(array.shape[1] for array in _by_draw(shards).values()) < 2 * NUM_GROUPS:
        return None
    centre, others = (np.asarray(each) for each in _aims(method, shards, key).value)
    with np.errstate(all="ignore"):
        spread = draws.std(0)
        missed, apart = (draws.mean(0) - centre) / spread, (others - others.mean(0)) / spread
        correlation = np.corrcoef(draws.T).reshape(dim, dim)
    if not all(np.all(np.isfinite(each)) for each in (missed, apart, correlation)):
        return None  # a constant coordinate, or one whose square is no number
    solved = np.linalg.lstsq(correlation, np.column_stack([missed, apart.T]), rcond=None)[0]
    of_groups = (NUM_GROUPS - 1) / NUM_GROUPS * np.sum(apart.T * solved[:, 1:])
    squared = of_groups + missed @ solved[:, 0]
    return float(min(dim / squared, len(draws))) if squared > 0 else float(len(draws))


def _by_draw(shards: Shard) -> dict[str, Float[Array, "S T ..."]]:
    found = {name: getattr(shards, name) for name in _BY_DRAW}
    return {name: array for name, array in found.items() if array is not None}


def _centres(
    method: Method, shards: Shard, key: PRNGKeyArray
) -> tuple[Float[Array, " d"], Float[Array, "groups d"]]:
    """Where the method aims with all draws, and without each group."""
    stacked = eqx.if_array(0)
    fit = eqx.filter_vmap(
        lambda method, shard, key: method.fit(shard, key), in_axes=(None, stacked, 0)
    )
    assert shards.num_shards is not None
    keys = jax.random.split(key, shards.num_shards)
    without = jax.lax.map(
        lambda group: method.centre(fit(method, _without(shards, group), keys)),
        jnp.arange(NUM_GROUPS),
    )
    return method.centre(fit(method, shards, keys)), without


_aims = Program(_centres)


def _without(shards: Shard, group: Int[Array, ""]) -> Shard:
    """The shards without one group of each one's draws; all groups are of one size."""

    def left(array: Float[Array, "S T ..."]) -> Float[Array, "S left ..."]:
        size = array.shape[1] // NUM_GROUPS
        rows = jnp.arange(array.shape[1] - size)
        return array[:, rows + size * (rows >= group * size)]

    arrays = _by_draw(shards)
    ess = shards.ess
    if ess is not None:
        arrays, ess = arrays | {"ess": ess}, ess * (1 - 1 / NUM_GROUPS)
    return eqx.tree_at(
        lambda shards: [getattr(shards, name) for name in arrays],
        shards,
        [ess if name == "ess" else left(array) for name, array in arrays.items()],
    )
