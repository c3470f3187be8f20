"""Window adaptation of NUTS in the manner of Stan, pooled over chains.

Two changes matter for a stack of densities run in lockstep. The windows' moments and the
step size are pooled over the chains of a density, so that 16 chains of 75 steps estimate
what one chain would need 1200 for. And the first L comes from the curvature at the mode
(a Laplace approximation), so that coordinates whose scales differ by 1e4 need no
adaptation of their own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from dncbench.posterior import Density, Posterior, sort_labels
from dncbench.sampling.modes import find_mode
from dncbench.sampling.settings import SamplerSettings

LARGEST_DENSE_DIM = 200
_START_SPREAD = 1.5  # dispersed starts: this many Laplace standard deviations
_MOST_HALVINGS = 60
_SHRINKAGE_DRAWS = 5.0  # Stan's regularisation of a window's covariance


class Geometry(NamedTuple):
    """One density's affine coordinates η = mean + factor z and NUTS step size in z."""

    mean: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]
    step_size: Float[Array, ""]


def whitened(density: Density, geometry: Geometry) -> Callable[[Array], Array]:
    """The density as a function of the affine coordinates z."""
    return lambda z: density(geometry.mean + geometry.factor @ z)


def sorted_state(density: Density, geometry: Geometry, state: Any) -> Any:
    """A NUTS state with exchangeable labels sorted; as it is where there are none."""
    from blackjax.mcmc import nuts

    if density.problem.permutations is None:
        return state
    eta = sort_labels(density.problem, geometry.mean + geometry.factor @ state.position)
    # Anew, gradient and all: a gradient left behind belongs to another position.
    return nuts.init(to_z(geometry, eta), whitened(density, geometry))


def to_z(geometry: Geometry, eta: Float[Array, "*C dim"]) -> Float[Array, "*C dim"]:
    """Points in the affine coordinates."""
    centred = eta - jnp.broadcast_to(geometry.mean, eta.shape)
    return jax.scipy.linalg.solve_triangular(geometry.factor, centred.T, lower=True).T


class Starts(NamedTuple):
    """Around what the chains of one density start, where that is not its first mode alone."""

    centre: Float[Array, "chains dim"]
    factor: Float[Array, "chains dim dim"]


def _adapt_one(
    density: Density,
    key: PRNGKeyArray,
    dim: int,
    settings: SamplerSettings,
    starts: Starts | None,
) -> tuple[Geometry, Float[Array, "chains dim"], tuple[Array, Array]]:
    """Geometry, the chains' last positions, and log density and score at the mode."""
    from blackjax.adaptation.step_size import dual_averaging_adaptation
    from blackjax.mcmc import nuts

    kernel = nuts.build_kernel()
    start, update, finish = dual_averaging_adaptation(settings.target_acceptance)
    key_start, key_windows = jax.random.split(key)
    if starts is None:
        mode, laplace, _ = find_mode(density, jnp.asarray(density.problem.start))
    else:
        mode, laplace = starts.centre[0], starts.factor[0]
    dense = dim <= LARGEST_DENSE_DIM
    if density.problem.permutations is not None:
        laplace = jnp.linalg.cholesky(_alike(density.problem, laplace @ laplace.T))
    if not dense:
        laplace = jnp.diag(jnp.sqrt(jnp.sum(laplace**2, axis=1)))
    spread = _START_SPREAD * jax.random.normal(key_start, (settings.num_chains, dim))

    def window(carry: tuple, inputs: tuple) -> tuple:
        geometry, eta, moments = carry
        number, key = inputs
        target = whitened(density, geometry)
        z = to_z(geometry, eta)

        def step(carry: tuple, key: PRNGKeyArray) -> tuple:
            states, averaging = carry
            keys = jax.random.split(key, settings.num_chains)
            move = lambda key, state, averaging: kernel(  # noqa: E731
                key,
                state,
                target,
                jnp.exp(averaging.log_step_size),
                jnp.ones(dim),
                # A badly scaled early window must not build trees of 1023 leapfrogs, nor one
                # chain with a tiny step hold up all others.
                max_num_doublings=5,
            )
            states, info = jax.vmap(move)(keys, states, averaging)
            states = jax.vmap(lambda state: sorted_state(density, geometry, state))(states)
            # A step size for each chain, so that one started in a stiff region shrinks
            # its own and escapes; one for all in the last window, as in sampling.
            acceptance = jnp.where(last, jnp.mean(info.acceptance_rate), info.acceptance_rate)
            return (states, jax.vmap(update)(averaging, acceptance)), states.position

        last = number == settings.num_windows - 1
        states = jax.vmap(lambda z: nuts.init(z, target))(z)
        averaging = jax.vmap(start)(jnp.full(settings.num_chains, geometry.step_size))
        path: Array
        (states, averaging), path = jax.lax.scan(
            step, (states, averaging), jax.random.split(key, settings.window_steps)
        )
        centre = geometry.mean[None, :]
        eta = centre + states.position @ geometry.factor.T
        late = path[settings.window_steps // 5 :].reshape(-1, dim)
        visited = centre + late @ geometry.factor.T
        moments = _record(moments, number, visited)
        tuned = geometry._replace(step_size=jnp.median(jax.vmap(finish)(averaging)))
        pooled = _pool(density.problem, moments, number, tuned, dense)
        return (
            jax.tree.map(lambda a, b: jnp.where(last, a, b), tuned, pooled),
            eta,
            moments,
        ), None

    geometry = Geometry(mode, laplace, jnp.array(0.5))
    moments = (jnp.zeros((settings.num_windows, dim)), jnp.zeros((settings.num_windows, dim, dim)))
    windows = (
        jnp.arange(settings.num_windows),
        jax.random.split(key_windows, settings.num_windows),
    )
    if starts is None:
        dispersed = _drawn_back(density, mode, mode[None, :] + spread @ laplace.T)
    else:
        around = jnp.einsum("cij,cj->ci", starts.factor, spread)
        dispersed = _drawn_back(density, starts.centre, starts.centre + around)
    eta = jax.vmap(lambda eta: sort_labels(density.problem, eta))(dispersed)
    (geometry, eta, _), _ = jax.lax.scan(window, (geometry, eta, moments), windows)
    return geometry, eta, jax.value_and_grad(density)(mode)


def _drawn_back(
    density: Density, mode: Float[Array, "*chains dim"], points: Float[Array, "chains dim"]
) -> Float[Array, "chains dim"]:
    """The points, halved towards their mode where log density or score is not finite.

    NUTS never leaves such a point, and builds trees of full depth there all the while.
    """
    both = jax.vmap(jax.value_and_grad(density))
    mode = jnp.broadcast_to(mode, points.shape)

    def usable(points: Array) -> Array:
        values, scores = both(points)
        return jnp.isfinite(values) & jnp.all(jnp.isfinite(scores), axis=1)

    def unfinished(state: tuple) -> Array:
        number, _, there = state
        return (number < _MOST_HALVINGS) & ~jnp.all(there)

    def halve(state: tuple) -> tuple:
        number, points, there = state
        points = jnp.where(there[:, None], points, 0.5 * (points + mode))
        return number + 1, points, usable(points)

    _, points, there = jax.lax.while_loop(unfinished, halve, (jnp.array(0), points, usable(points)))
    return jnp.where(there[:, None], points, mode)


def _record(moments: tuple, number: Array, visited: Array) -> tuple:
    means, covariances = moments
    return (
        means.at[number].set(jnp.mean(visited, 0)),
        covariances.at[number].set(jnp.cov(visited.T).reshape(covariances.shape[1:])),
    )


def _alike(problem: Posterior, covariance: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The covariance averaged over the problem's permutations; as it is where there are none."""
    if problem.permutations is None:
        return covariance
    return jnp.mean(
        jnp.stack([covariance[jnp.ix_(order, order)] for order in problem.permutations]), axis=0
    )


def _pool(
    problem: Posterior, moments: tuple, number: Array, geometry: Geometry, dense: bool
) -> Geometry:
    """Mean and covariance over the later half of the windows so far, as coordinates."""
    means, covariances = moments
    index = jnp.arange(len(means))
    weight = (index <= number) & (index >= (number + 1) // 2)
    weight = weight / jnp.sum(weight)
    mean = weight @ means
    offset = means - mean[None, :]
    covariance = jnp.einsum("w,wij->ij", weight, covariances) + jnp.einsum(
        "w,wi,wj->ij", weight, offset, offset
    )
    # Shrink towards the present geometry, the best guess there is.
    dim = len(mean)
    share = _SHRINKAGE_DRAWS / (_SHRINKAGE_DRAWS + 5.0 * dim)
    covariance = (1 - share) * covariance + share * geometry.factor @ geometry.factor.T
    covariance = _alike(problem, covariance)
    if not dense:
        return geometry._replace(mean=mean, factor=jnp.diag(jnp.sqrt(jnp.diag(covariance))))
    root = jnp.sqrt(jnp.diag(covariance))
    factor = root[:, None] * jnp.linalg.cholesky(covariance / root[:, None] / root[None, :])
    usable = jnp.all(jnp.isfinite(factor))
    return geometry._replace(mean=mean, factor=jnp.where(usable, factor, geometry.factor))


def adapt_all(
    densities: Density,
    keys: Key[Array, " S"],
    dim: int,
    settings: SamplerSettings,
    starts: Starts | None = None,
) -> tuple[Geometry, Float[Array, "S chains dim"], tuple[Array, Array]]:
    """Adapt every density of a stack.

    Args:
        densities: arrays with a leading axis of S densities.
        keys: one for each.
        dim: d.
        settings: see :class:`SamplerSettings`.
        starts: stacked over S; None where every density's chains start around the mode that
            is found from the problem's ``start``.

    Returns:
        The geometries; the chains' last positions; log density and score at each mode.
    """
    return eqx.filter_vmap(_adapt_one, in_axes=(eqx.if_array(0), 0, None, None, 0))(
        densities, keys, dim, settings, starts
    )
