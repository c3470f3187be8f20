"""Chains over index vectors: which draws of S shards are multiplied in a product of kernels.

The product of S kernel estimates of T draws each is a mixture of T^S Gaussians, one for
every index vector (t_1, ..., t_S); Neiswanger, Wang & Xing (2014), "Asymptotically exact,
embarrassingly parallel MCMC", sections 3.2 and 3.3. Chains that propose one index at
a time (Metropolis within Gibbs; their algorithm 1) choose a component.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.methods._product_density import effective_share, resampled

WIDEST = 3.0  # bandwidth to begin with, in sds of the widest shard
_NARROWEST = 0.25  # bandwidth to end with where acceptance allows it, in posterior sds
_ACCEPTANCE = 0.05  # of uniform proposals, below which the bandwidth shrinks no further
_LAST = 6  # one sweep in so many is made at the last bandwidth
_SMALLEST_BLOCK = 3  # 2^3 draws


class Mixture(NamedTuple):
    """The product of S kernel estimates, in coordinates z with θ = centre + root z.

    Attributes:
        points: (S, T, d) draws.
        log_gaussian: (S, T) log N(θ given μ_s, C_s) at them, up to a constant.
        variance: (d,) of the product of Gaussians, which is N(0, diag(variance)) in z.
    """

    points: Float[Array, "S T d"]
    log_gaussian: Float[Array, "S T"]
    variance: Float[Array, " d"]

    def log_weight(
        self,
        points: Float[Array, "S C d"],
        log_gaussian: Float[Array, " C"],
        bandwidth: Float[Array, ""],
        power: Float[Array, ""],
    ) -> Float[Array, " C"]:
        """log W of C index vectors, from their draws and Σ_s log N(draw given μ_s, C_s).

        Π_s N(z_s given z̄, h² I) · [N(z̄ given 0, V + h²/S I) / Π_s N(z_s given 0, ...)]^power:
        with power 1 the weights W of section 3.3, with power 0 the w of section 3.2.
        """
        mean = jnp.mean(points, axis=0)
        spread = jnp.sum((points - mean[None]) ** 2, axis=(0, 2))
        variance = self.variance + bandwidth**2 / len(points)
        parametric = -0.5 * jnp.sum(mean**2 / variance[None, :], axis=1) - log_gaussian
        return -0.5 * spread / bandwidth**2 + power * parametric

    def log_ratio(
        self,
        old: Float[Array, "C d"],
        new: Float[Array, "C d"],
        total: Float[Array, "C d"],
        bandwidth: Float[Array, ""],
        power: Float[Array, ""],
    ) -> Float[Array, " C"]:
        """What moving one shard's draw does to :meth:`log_weight`, but for log_gaussian.

        O(d) given ``total``, the sum of the S draws before the move. Differences are
        taken before squares, so float32 loses nothing far from the centre.
        """
        num_shards = len(self.points)
        step = new - old
        spread = jnp.sum(step * (new + old - (2.0 * total + step) / num_shards), axis=1)
        variance = self.variance + bandwidth**2 / num_shards
        pulled = jnp.sum(step * (2.0 * total + step) / variance[None, :], axis=1) / num_shards**2
        return -0.5 * spread / bandwidth**2 - 0.5 * power * pulled


class Chains(NamedTuple):
    """C chains over index vectors, with the draws they point at."""

    indices: Int[Array, "S C"]
    points: Float[Array, "S C d"]


def spatial_order(positions: Float[Array, "T d"]) -> Int[Array, " T"]:
    """Row numbers that put near draws together: the leaves of a k-d tree, left to right.

    Aligned blocks of 2^m consecutive rows are then boxes, for every m from 3 on. Medians
    are taken along one coordinate after the other.
    """
    num_draws, dim = positions.shape
    sizes = jnp.array(_block_sizes(num_draws)[::-1], jnp.int32)
    places = jnp.arange(num_draws)

    def split(rows: Array, level: tuple) -> tuple[Array, None]:
        # Within every block twice as large: its lower half first, along this coordinate.
        size, axis = level
        return rows[jnp.lexsort((positions[rows, axis], places >> (size + 1)))], None

    return jax.lax.scan(split, places, (sizes, jnp.arange(len(sizes)) % dim))[0]


def _block_sizes(num_draws: int) -> list[int]:
    """Base-2 logarithms of the block sizes below T."""
    return list(range(_SMALLEST_BLOCK, (num_draws - 1).bit_length()))


def sweep(
    mixture: Mixture,
    chains: Chains,
    bandwidth: Float[Array, ""],
    power: Float[Array, ""],
    key: PRNGKeyArray,
    local: bool,
) -> tuple[Chains, Float[Array, ""]]:
    """Propose a new index for every shard in turn, in every chain.

    A quarter of the proposals is uniform over the T draws. The others are uniform over a
    block of 2^m draws that are near one another (:func:`spatial_order`), the chain's own
    among them, with m drawn afresh: also symmetric, since both draws are in that block. The
    paper's are all uniform, which ``local=False`` gives.

    Returns:
        The chains, and the acceptance of uniform proposals of another draw: the share of
        a shard's draws that go with those of the others.
    """
    num_draws, dtype = mixture.points.shape[1], mixture.points.dtype
    sizes = jnp.array(_block_sizes(num_draws) or [0], jnp.uint32)
    local = local and num_draws > 2**_SMALLEST_BLOCK

    def shard(total: Array, inputs: tuple) -> tuple[Array, tuple]:
        number, index, old, (where, how) = inputs
        proposed = (where % num_draws).astype(jnp.int32)
        uniform = (how & 3 == 0) if local else jnp.ones(len(how), bool)
        if local:
            size = sizes[((how >> 2 & 63) * len(sizes)) >> 6]
            within = (where & ((jnp.uint32(1) << size) - 1)).astype(jnp.int32)
            proposed = jnp.where(uniform, proposed, index ^ within)
        # The last block may be a part of one: what is beyond it is refused.
        inside = proposed < num_draws
        proposed = jnp.where(inside, proposed, index)
        # Rows are looked up in the whole table: a shard's part of it would be copied.
        new = mixture.points[number, proposed]
        log_gaussian = mixture.log_gaussian
        log_ratio = mixture.log_ratio(old, new, total, bandwidth, power)
        log_ratio -= power * (log_gaussian[number, proposed] - log_gaussian[number, index])
        chance = ((how >> 8).astype(dtype) + 0.5) * 2.0**-24
        accepted = inside & (jnp.log(chance) < log_ratio)
        counted = uniform & (proposed != index)
        total = total + jnp.where(accepted[:, None], new - old, 0.0)
        moved = (
            jnp.where(accepted, proposed, index),
            jnp.where(accepted[:, None], new, old),
            jnp.array([jnp.sum(accepted & counted), jnp.sum(counted)]),
        )
        return total, moved

    num_shards, num_chains = chains.indices.shape
    bits = jax.random.bits(key, (num_shards, 2, num_chains), jnp.uint32)
    inputs = (jnp.arange(num_shards), *chains, bits)
    _, (indices, points, counts) = jax.lax.scan(shard, jnp.sum(chains.points, axis=0), inputs)
    accepted, counted = jnp.sum(counts, axis=0)
    return Chains(indices, points), accepted / jnp.maximum(counted, 1)


def pick(table: Float[Array, "S T *d"], indices: Int[Array, "S C"]) -> Float[Array, "S C *d"]:
    """Each shard's rows."""
    return jax.vmap(lambda rows, index: rows[index])(table, indices)


def start_uniformly(mixture: Mixture, key: PRNGKeyArray, num_chains: int) -> Chains:
    """Index vectors drawn uniformly."""
    num_shards, num_draws, _ = mixture.points.shape
    indices = jax.random.randint(key, (num_shards, num_chains), 0, num_draws, jnp.int32)
    return Chains(indices, pick(mixture.points, indices))


# ---------------------------------------------------------------- many annealed chains


class Annealed(NamedTuple):
    """Where :func:`anneal` ended.

    Attributes:
        chains: C of them, of equal weight.
        bandwidth: the last.
        acceptance: of uniform proposals at it.
        families: (C,) which first state each chain descends from.
    """

    chains: Chains
    bandwidth: Float[Array, ""]
    acceptance: Float[Array, ""]
    families: Int[Array, " C"]


def anneal(
    mixture: Mixture,
    key: PRNGKeyArray,
    num_chains: int,
    widest: Float[Array, ""],
    end: float,
    sweeps: int,
    full: bool,
) -> Annealed:
    """Independent chains, from uniform index vectors at a wide bandwidth to a narrow one.

    The bandwidth falls geometrically from ``widest`` to ``end``; where ``end`` is 0, to
    0.25 or to where fewer than 5% of uniform proposals are accepted, whichever comes first.
    Sweeps alone lag behind the shrinking density, so that the chains stay where it
    was. Weights make up for it (sequential Monte Carlo; Del Moral, Doucet & Jasra 2006):
    a chain carries the ratio of W at successive bandwidths, and the chains are resampled
    where their weights' ESS falls below half. The last sixth of the sweeps is made at
    the last bandwidth, with equal weights.
    """
    num_last = max(sweeps // _LAST, 1)
    num_anneal = max(sweeps - num_last, 2)
    dtype = mixture.points.dtype
    narrowest = end or _NARROWEST
    factor = ((narrowest / widest) ** (1.0 / (num_anneal - 1))).astype(dtype)

    def power(bandwidth: Array) -> Array:
        # The 1/N of a draw far out in a tail is finite only against kernels narrower than
        # its shard: so the weights are reduced ones to begin with.
        if not full:
            return jnp.zeros((), dtype)
        rise = jnp.log(widest / bandwidth) / jnp.log(widest / max(1.0, narrowest))
        return jnp.clip(rise, 0.0, 1.0).astype(dtype)

    def log_weight(chains: Chains, bandwidth: Array) -> Array:
        log_gaussian = jnp.sum(pick(mixture.log_gaussian, chains.indices), axis=0)
        return mixture.log_weight(chains.points, log_gaussian, bandwidth, power(bandwidth))

    def step(carry: tuple, inputs: tuple) -> tuple:
        chains, families, log_weights, bandwidth, arrived = carry
        number, key = inputs
        key_resample, key_sweep = jax.random.split(key)

        def resample() -> tuple:
            rows = resampled(key_resample, log_weights)
            return (
                Chains(chains.indices[:, rows], chains.points[:, rows]),
                families[rows],
                jnp.zeros_like(log_weights),
            )

        due = (effective_share(log_weights) < 0.5) | (number == num_anneal - 1)
        chains, families, log_weights = jax.lax.cond(
            due, resample, lambda: (chains, families, log_weights)
        )
        chains, acceptance = sweep(
            mixture, chains, bandwidth, power(bandwidth), key_sweep, local=True
        )
        if not end:
            arrived = arrived | (acceptance < _ACCEPTANCE)
        stays = arrived | (number >= num_anneal - 1)
        following = jnp.where(stays, bandwidth, bandwidth * factor)
        log_weights += log_weight(chains, following) - log_weight(chains, bandwidth)
        return (chains, families, log_weights, following, arrived), acceptance

    key_start, key_steps = jax.random.split(key)
    chains = start_uniformly(mixture, key_start, num_chains)
    widest = widest.astype(dtype)
    log_weights = log_weight(chains, widest)
    start = (chains, jnp.arange(num_chains), log_weights, widest, jnp.array(False))
    num_steps = num_anneal + num_last
    inputs = (jnp.arange(num_steps), jax.random.split(key_steps, num_steps))
    acceptance: Array
    last, acceptance = jax.lax.scan(step, start, inputs)
    chains, families, _, bandwidth, _ = last
    return Annealed(chains, bandwidth, jnp.mean(acceptance[num_anneal:]), families)


def effective_size(
    draws: Float[Array, "C d"],
    indices: Int[Array, "S C"],
    families: Int[Array, " C"],
    num_available: int,
    shard_sizes: Float[Array, " S"],
) -> Float[Array, ""]:
    """How many independent draws the merged draws are worth; the worst coordinate's.

    Draws are alike in so far as they descend from one chain or use one draw of a shard.
    Summed over such clusters before they are squared, the draws' deviations give
    the variance of their mean with those covariances; what each of the S + 1 ways of
    clustering adds to that of independent draws is added up (as Cameron, Gelbach & Miller
    2011 do; for families alone it is the estimate of Lee & Whiteley 2018). The part
    of shard s is the sampling error of its kernel estimate: it grows by T over the ESS
    of the shard's draws.
    """
    num = len(draws)
    deviations = draws - jnp.mean(draws, axis=0, keepdims=True)
    independent = jnp.sum(deviations**2, axis=0) / num**2

    def excess(clusters: Int[Array, " C"], count: int) -> tuple[Array, Array]:
        ones_and_sums = jax.ops.segment_sum(
            jnp.column_stack([jnp.ones(num), deviations]), clusters, count
        )
        largest_share = jnp.max(ones_and_sums[:, 0]) / num
        # Deviations from a mean that the clusters themselves make up are too small.
        spared = 1.0 - jnp.sum((ones_and_sums[:, 0] / num) ** 2)
        sums = jnp.sum((ones_and_sums[:, 1:] / num) ** 2, axis=0)
        return sums / jnp.maximum(spared, 1e-9) - independent, largest_share

    of_shards, shares = jax.vmap(lambda index: excess(index, num_available))(indices)
    of_shards = jnp.sum(of_shards * (num_available / shard_sizes)[:, None], axis=0)
    of_families, share = excess(families, num)
    variance = independent + jnp.maximum(of_shards, 0.0) + jnp.maximum(of_families, 0.0)
    size = jnp.minimum(num * jnp.min(independent / variance), jnp.min(shard_sizes))
    # One cluster alone has nothing to be compared with.
    largest = jnp.maximum(jnp.max(shares), share)
    return jnp.where(largest > 0.5, jnp.minimum(size, 1.0 / largest), size)


def num_distinct(indices: Int[Array, "S C"]) -> Int[Array, ""]:
    """Number of different index vectors, by a 64-bit hash."""
    hashed = jnp.zeros(indices.shape[1], jnp.uint64)
    for index in indices:
        hashed = (hashed + index.astype(jnp.uint64) + 1) * jnp.uint64(0x9E3779B97F4A7C15)
        hashed = hashed ^ (hashed >> 29)
    hashed = jnp.sort(hashed)
    return 1 + jnp.sum(hashed[1:] != hashed[:-1])
