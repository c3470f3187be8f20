"""Sampling from a product of fitted densities exp(Σ_s f_s(θ)), for the methods that fit any.

All of it happens in product-whitened coordinates z: θ = mean + root z, in which the
product of the shards' Gaussian approximations is N(0, I), so that one step size serves
every problem. Many chains run at once in one compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.draws import evenly, systematic
from dncbench.methods._gaussian import Whitening, inverse, inverses, product
from dncbench.precision import third_party

LogDensity = Callable[[Float[Array, " d"]], Float[Array, ""]]


class Space(eqx.Module):
    """Product-whitened coordinates z: θ = mean + root z.

    Attributes:
        mean: (d,) mean of the product of Gaussians.
        root: (d, d) lower Cholesky factor of its covariance.
    """

    mean: Float[Array, " d"]
    root: Float[Array, "d d"]

    def original(self, z: Float[Array, "*N d"]) -> Float[Array, "*N d"]:
        """Back from z to θ, in float64."""
        return jnp.broadcast_to(self.mean, z.shape) + z.astype(self.root.dtype) @ self.root.T

    def whitened(self, values: Float[Array, "*N d"]) -> Float[Array, "*N d"]:
        """From θ to z."""
        centred = values - jnp.broadcast_to(self.mean, values.shape)
        return solve_triangular(self.root, centred.T, lower=True).T

    def into(self, shard: Whitening) -> tuple[Float[Array, "d d"], Float[Array, " d"]]:
        """(B, b) with x = B z + b, the shard-whitened coordinates of a point z.

        Both maps are composed once, in float64: a surrogate evaluated in x then loses
        no digits to a mean far from zero even where it computes in float32.
        """
        return shard.inverse_root @ self.root, shard.positions(self.mean)


def product_space(means: Float[Array, "S d"], covariances: Float[Array, "S d d"]) -> Space:
    """The coordinates that whiten Π_s N(means[s], covariances[s])."""
    mean, precision = product(means, inverses(covariances))
    return Space(mean, jnp.linalg.cholesky(inverse(precision)))


def whitened_product(shards: Whitening) -> Space:
    """:func:`product_space` of S stacked whitenings."""
    return product_space(shards.mean, jax.vmap(lambda root: root @ root)(shards.root))


_NUM_CHAINS = 500
_ADAPTED_AT = (120, 200)  # steps after which the chains' covariance is the mass matrix
_BURN_IN = 240
_KEPT, _THIN = 20, 3
_TARGET_ACCEPTANCE = 0.8
_PATH_LENGTH = 1.5  # nearly a quarter turn: the next point of a Gaussian is independent
_MAX_LEAPFROGS = 24
_SHORT = 100  # draws of a chain, below which its own mean says little
_MANY = 100  # chains that tell a correlation over them


def sample(
    log_density: LogDensity,
    key: PRNGKeyArray,
    num_draws: int,
    dim: int,
    *,
    accept: LogDensity | None = None,
    dtype: Any = jnp.float32,
) -> tuple[Float[Array, "num_draws d"], dict[str, Array]]:
    """Draws from exp(log_density) by 500 chains of Hamiltonian Monte Carlo in step.

    One step size for all chains, by dual averaging of their mean acceptance; twice the
    covariance of the chains becomes the inverse mass matrix. A trajectory's length is about
    π/2 in whitened units, after which a Gaussian's next point is independent of the last.
    Chains start from N(0, I). They do not cross between separate modes, and
    ``max_rhat`` says so; :func:`sample_annealed` keeps the modes' weights.

    Args:
        log_density: of one point z (d,), product-whitened.
        key: random key.
        num_draws: draws wanted.
        dim: d.
        accept: where given, the log density that is sampled; ``log_density`` then only
            guides the trajectories (surrogate-gradient HMC: exact for ``accept``, which
            is evaluated once for each trajectory).
        dtype: precision of z.

    Returns:
        z (num_draws, d), and info: ``ess`` (smallest bulk ESS over coordinates),
        ``max_rhat``, ``acceptance``, ``furthest`` (largest distance from the centre, in
        whitened units), and ``log_density`` (num_draws,) at the draws.
    """
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    begin, update, _ = dual_averaging_adaptation(_TARGET_ACCEPTANCE)
    key_start, key_steps = jax.random.split(key)
    slopes = jax.vmap(jax.value_and_grad(lambda z: log_density(z).astype(dtype)))
    judge = None if accept is None else jax.vmap(accept)
    boundaries = jnp.array(_ADAPTED_AT)

    def step(carry: tuple, inputs: tuple) -> tuple:
        chains, factor, averaging, moments = carry
        number, key = inputs
        adapting = number < _BURN_IN
        log_step_size = jnp.where(adapting, averaging.log_step_size, averaging.log_step_size_avg)
        chains, acceptance = _hmc(chains, key, jnp.exp(log_step_size), factor, slopes, judge)
        averaging = jax.tree.map(
            lambda new, old: jnp.where(adapting, new, old), update(averaging, acceptance), averaging
        )
        moments = _forgetting(moments, chains.z)
        factor, averaging = jax.lax.cond(
            jnp.any(number + 1 == boundaries),
            lambda: (_factor(moments, factor), begin(jnp.exp(averaging.log_step_size_avg))),
            lambda: (factor, averaging),
        )
        return (chains, factor, averaging, moments), (chains.z, chains.judged, acceptance)

    num_steps = _BURN_IN + _KEPT * _THIN
    z = jax.random.normal(key_start, (_NUM_CHAINS, dim), dtype)
    start = (
        _chains(z, slopes, judge),
        jnp.eye(dim, dtype=dtype),
        begin(jnp.asarray(0.5 * dim**-0.25)),
        (jnp.zeros(dim, dtype), jnp.eye(dim, dtype=dtype)),
    )
    inputs = (jnp.arange(num_steps), jax.random.split(key_steps, num_steps))
    trace: tuple
    _, trace = jax.lax.scan(step, start, inputs)
    path, values, acceptance = trace
    path, values = path[_BURN_IN + _THIN - 1 :: _THIN], values[_BURN_IN + _THIN - 1 :: _THIN]
    rows = evenly(path.shape[0] * path.shape[1], num_draws)
    return path.reshape(-1, dim)[rows], {
        **convergence(jnp.swapaxes(path, 0, 1).astype(float)),
        "acceptance": jnp.mean(acceptance[_BURN_IN:]),
        "furthest": jnp.max(jnp.linalg.norm(path, axis=-1)),
        "log_density": values.reshape(-1)[rows].astype(float),
    }


def convergence(by_chain: Float[Array, "C T d"]) -> dict[str, Array]:
    """``ess``, the smallest bulk ESS of a coordinate, and ``max_rhat``, the largest split R-hat.

    Of many short chains R-hat is large however well they mix: at rest, with an autocorrelation
    of 0.5, 500 chains of 20 draws read 1.11. Beside it stands then ``persistence``: how far a
    chain's place in its last third follows from that in its first, as the largest correlation
    over the coordinates of the chains' mean ranks; 0 where chains move about, 1 where they stay.
    """
    from blackjax.diagnostics import ess_bulk, rhat

    with third_party():
        found = {"ess": jnp.min(ess_bulk(by_chain)), "max_rhat": jnp.max(rhat(by_chain))}
    if by_chain.shape[1] < _SHORT and len(by_chain) >= _MANY:
        found["persistence"] = _persistence(by_chain)
    return found


def _persistence(by_chain: Float[Array, "C T d"]) -> Float[Array, ""]:
    flat = by_chain.reshape(-1, by_chain.shape[2])
    ranks = jnp.argsort(jnp.argsort(flat, axis=0), axis=0).reshape(by_chain.shape).astype(float)
    third = by_chain.shape[1] // 3
    first, last = jnp.mean(ranks[:, :third], axis=1), jnp.mean(ranks[:, -third:], axis=1)
    centred = [each - jnp.mean(each, axis=0, keepdims=True) for each in (first, last)]
    sizes = [jnp.sqrt(jnp.sum(each**2, axis=0)) for each in centred]
    return jnp.max(jnp.sum(centred[0] * centred[1], axis=0) / (sizes[0] * sizes[1]))


# ---------------------------------------------------------------- one step


class _Chains(NamedTuple):
    """Positions of all chains with what is known there; ``judged`` is what is sampled."""

    z: Float[Array, "C d"]
    value: Float[Array, " C"]
    score: Float[Array, "C d"]
    judged: Float[Array, " C"]


def _chains(z: Float[Array, "C d"], slopes: Callable, judge: Callable | None) -> _Chains:
    value, score = slopes(z)
    return _Chains(z, value, score, value if judge is None else judge(z))


def _hmc(
    chains: _Chains,
    key: PRNGKeyArray,
    step_size: Float[Array, ""],
    factor: Float[Array, "d d"],
    slopes: Callable,
    judge: Callable | None,
    max_leapfrogs: int = _MAX_LEAPFROGS,
) -> tuple[_Chains, Float[Array, ""]]:
    """One Hamiltonian trajectory of every chain, and their mean acceptance.

    The inverse mass matrix is factor factorᵀ: positions move along factor @ momentum. All
    chains take equally many leapfrogs; each has a step size of its own within a fifth
    of the common one, so that no period of the target is met exactly.
    """
    dtype = chains.z.dtype
    key_momentum, key_jitter, key_accept = jax.random.split(key, 3)
    momentum = jax.random.normal(key_momentum, chains.z.shape, dtype)
    jitter = jax.random.uniform(key_jitter, (len(momentum), 1), dtype, 0.8, 1.2)
    steps = jnp.clip(jnp.ceil(_PATH_LENGTH / step_size), 1, max_leapfrogs).astype(int)
    # A step as large as it may be overshoots the quarter turn in few leapfrogs.
    size = jnp.minimum(step_size, _PATH_LENGTH / steps).astype(dtype) * jitter

    def leapfrog(_: Array, state: tuple) -> tuple:
        z, momentum, _value, score = state
        momentum = momentum + 0.5 * size * (score @ factor)
        z = z + size * (momentum @ factor.T)
        value, score = slopes(z)
        return z, momentum + 0.5 * size * (score @ factor), value, score

    state = (chains.z, momentum, chains.value, chains.score)
    z, last, value, score = jax.lax.fori_loop(0, steps, leapfrog, state)
    judged = value if judge is None else judge(z)
    kinetic = 0.5 * jnp.sum(momentum**2 - last**2, axis=1)
    log_ratio = judged - chains.judged + kinetic
    log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
    accepted = jnp.log(jax.random.uniform(key_accept, log_ratio.shape, dtype)) < log_ratio
    proposed = _Chains(z, value, score, judged)
    moved = jax.tree.map(
        lambda new, old: jnp.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old),
        proposed,
        chains,
    )
    return moved, jnp.mean(jnp.minimum(1.0, jnp.exp(log_ratio.astype(float))))


_MEMORY = 0.95  # of the running moments: about the last twenty steps of all chains


def _forgetting(moments: tuple[Array, Array], z: Float[Array, "C d"]) -> tuple[Array, Array]:
    """Running mean and second moment of the chains about it, the past forgotten."""
    mean, covariance = moments
    mean = _MEMORY * mean + (1 - _MEMORY) * jnp.mean(z, axis=0)
    centred = z - mean[None, :]
    return mean, _MEMORY * covariance + (1 - _MEMORY) * centred.T @ centred / len(z)


def _factor(moments: tuple[Array, Array], factor: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Cholesky factor of the running covariance; the old one where that is not positive."""
    proposed = jnp.linalg.cholesky(moments[1])
    return jnp.where(jnp.all(jnp.isfinite(proposed)), proposed, factor)


# ---------------------------------------------------------------- annealing


class Schedule(NamedTuple):
    """How an annealing goes from t = 1 to its end.

    Attributes:
        levels: intervals of t, all of one length.
        moves: Hamiltonian steps at each level, three leapfrogs each.
        last_moves: more of them at the end.
        step_size: of all moves; None to have it adapted to their acceptance.
        scale: (d, d) coordinates in which the moves' mass is the identity, as
            ``scale @ z``; None for z itself.
    """

    levels: int = 100
    moves: int = 2
    last_moves: int = 20
    step_size: float | None = None
    scale: Float[Array, "d d"] | None = None


def sample_annealed(
    path: Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, ""]],
    key: PRNGKeyArray,
    num_draws: int,
    dim: int,
    *,
    reweight: bool = True,
    schedule: Schedule = Schedule(),  # noqa: B008
    dtype: Any = jnp.float32,
) -> tuple[Float[Array, "num_draws d"], dict[str, Array]]:
    """Draws from a multimodal density by way of a sequence from N(0, I) to it.

    Algorithm 2 of Trojan et al. (2024), whose particles move by Hamiltonian Monte Carlo at each
    density of the sequence, with the weights of sequential Monte Carlo (Del Moral,
    Doucet & Jasra 2006): a particle carries path(z, t_k+1) - path(z, t_k), and the
    particles are resampled when their weights' ESS falls below half. Moves alone
    cannot carry mass between separated modes; the weights can.

    Without the weights it is Algorithm 2 to the letter: the modes keep the weights that
    they had when the moves ceased to reach from one to the other. That is wrong for
    the density at t = 0, and right where its modes' heights cannot be trusted but those of
    the smoother densities before it can.

    Args:
        path: unnormalised log density of z (d,) at t: exp(path(z, 0)) is the target.
            At t = 1 it need not be N(0, I), which the particles start from, but near it.
        key: random key.
        num_draws: particles.
        dim: d.
        reweight: whether particles carry weights.
        schedule: levels and moves.
        dtype: precision of z.

    Returns:
        z (num_draws, d), and info: ``ess``, by the numbers of offspring of the first
        generation (N² / Σ offspring²), which is what the modes' weights are worth;
        ``min_weight_ess``, the smallest share that a step's weights left; ``acceptance``,
        ``furthest``, ``log_density`` as in :func:`sample`.
    """
    key_start, key_levels, key_last, key_final = jax.random.split(key, 4)
    z = jax.random.normal(key_start, (num_draws, dim), dtype)
    times = jnp.linspace(1.0, 0.0, schedule.levels + 1).astype(dtype)
    at = lambda t: jax.vmap(lambda z: path(z, t).astype(dtype))  # noqa: E731
    slopes = lambda t: jax.vmap(  # noqa: E731
        jax.value_and_grad(lambda z: path(z, t).astype(dtype))
    )
    factor = jnp.eye(dim) if schedule.scale is None else jnp.linalg.inv(schedule.scale)
    factor = factor.astype(dtype)

    def move(t: Array) -> Callable:
        def step(carry: tuple, key: PRNGKeyArray) -> tuple:
            z, log_step_size = carry
            chains = _chains(z, slopes(t), None)
            step_size = jnp.exp(log_step_size)
            chains, acceptance = _hmc(chains, key, step_size, factor, slopes(t), None, 3)
            # The densities change slowly, and so does the step size that suits them.
            if schedule.step_size is None:
                log_step_size = log_step_size + 0.3 * (acceptance - _TARGET_ACCEPTANCE)
            return (chains.z, log_step_size.astype(dtype)), acceptance

        return step

    def level(carry: tuple, inputs: tuple) -> tuple:
        z, log_weights, ancestors, log_step_size, before = carry
        t, key = inputs
        key_resample, key_moves = jax.random.split(key)
        if reweight:
            log_weights = log_weights + at(t)(z) - before
        share = effective_share(log_weights)
        rows = resampled(key_resample, log_weights)
        thin = share < 0.5
        z = jnp.where(thin, z[rows], z)
        ancestors = jnp.where(thin, ancestors[rows], ancestors)
        log_weights = jnp.where(thin, 0.0, log_weights)
        keys = jax.random.split(key_moves, schedule.moves)
        (z, log_step_size), acceptance = jax.lax.scan(move(t), (z, log_step_size), keys)
        return (z, log_weights, ancestors, log_step_size, at(t)(z)), (share, acceptance)

    normal = -0.5 * jnp.sum(z**2, axis=1)
    first_step_size = schedule.step_size or 0.7 * dim**-0.25
    log_step_size = jnp.log(jnp.asarray(first_step_size, dtype))
    start = (z, jnp.zeros(num_draws, dtype), jnp.arange(num_draws), log_step_size, normal)
    inputs = (times, jax.random.split(key_levels, schedule.levels + 1))
    trace: tuple
    (z, log_weights, ancestors, log_step_size, _), trace = jax.lax.scan(level, start, inputs)
    shares, acceptance = trace
    if reweight:
        rows = resampled(key_final, log_weights)
        z, ancestors = z[rows], ancestors[rows]
    keys = jax.random.split(key_last, schedule.last_moves)
    (z, _), _ = jax.lax.scan(move(times[-1]), (z, log_step_size), keys)
    offspring = jnp.zeros(num_draws).at[ancestors].add(1.0)
    return z, {
        "ess": num_draws**2 / jnp.sum(offspring**2),
        "min_weight_ess": jnp.min(shares),
        "acceptance": jnp.mean(acceptance),
        "furthest": jnp.max(jnp.linalg.norm(z, axis=-1)),
        "log_density": at(times[-1])(z).astype(float),
    }


def effective_share(log_weights: Float[Array, " N"]) -> Float[Array, ""]:
    """ESS of weights as a share of their number: (Σ w)² / (N Σ w²)."""
    weights = jax.nn.softmax(log_weights)
    return 1.0 / (len(weights) * jnp.sum(weights**2))


def resampled(key: PRNGKeyArray, log_weights: Float[Array, " N"]) -> Array:
    """As many row numbers, by systematic resampling."""
    return systematic(key, jax.nn.softmax(log_weights.astype(float)), len(log_weights))
