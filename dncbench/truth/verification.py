"""Recomputing what is stored: log densities and scores, straight from the model.

The published code of this field stores gradients that belong to other positions and
priors with the wrong exponent; both are caught here before any method sees the draws.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from dncbench.draws import Arrays, Draws, evenly, one
from dncbench.posterior import Density, Posterior, log_jacobian, values_and_scores
from dncbench.problem import Data, Split

CHECKED_POINTS = 32
TOLERANCE = 1e-8
"""Largest relative error; float64 sums of thousands of terms in another order reach 1e-12."""


def check_stored(
    problem: Posterior,
    data: Data,
    split: Split,
    shard: int,
    draws: Draws,
    key: PRNGKeyArray,
    weights: tuple[float, float, float],
) -> float:
    """Recompute log densities and scores of a random subset of draws from the model.

    A wrong prior exponent or a stale gradient is caught here.

    Args:
        problem: the model.
        data: as loaded.
        split: that the draws are of.
        shard: whose draws are looked at.
        draws: with log densities and scores.
        key: picks the subset.
        weights: exponents of the prior, of the likelihood and of |∂θ/∂η|.

    Returns:
        The largest error: of log densities relative to their size, of scores relative
        to the root mean square of the score in that coordinate.
    """
    assert draws.log_density is not None
    assert draws.score is not None
    values, log_density, score = (
        array[shard] for array in (draws.values, draws.log_density, draws.score)
    )
    picked = np.asarray(jax.random.choice(key, len(values), (CHECKED_POINTS,), replace=False))
    true_value, true_score = recompute(
        problem, data.train, split.rows(shard), values[picked], *weights
    )
    return _largest_error(log_density[picked], true_value, score[picked], true_score)


def _largest_error(
    log_density: np.ndarray, true_value: np.ndarray, score: np.ndarray, true_score: np.ndarray
) -> float:
    of_value = np.abs(log_density - true_value) / np.maximum(1.0, np.abs(true_value))
    size = np.sqrt(np.mean(true_score**2, axis=0)) + 1e-300
    of_score = np.abs(score - true_score) / size
    return float(max(of_value.max(), of_score.max()))


def check_given(density: Any, shard: int, draws: Draws, key: PRNGKeyArray) -> float:
    """Recompute log densities that a problem's own draws brought, from its own density.

    Args:
        density: stacked over shards, callable at one draw.
        shard: whose draws are looked at.
        draws: with log densities.
        key: picks the subset.

    Returns:
        The largest error, relative to the size of a log density.
    """
    assert draws.log_density is not None
    number = min(CHECKED_POINTS, draws.values.shape[1])
    picked = np.asarray(jax.random.choice(key, draws.values.shape[1], (number,), replace=False))
    true = np.asarray(jax.lax.map(one(density, shard), jnp.asarray(draws.values[shard][picked])))
    gap = np.abs(draws.log_density[shard][picked] - true)
    return float(np.max(gap / np.maximum(1.0, np.abs(true))))


def check_cached(densities: Density, draws: Draws) -> float:
    """Recompute log densities and scores of draws from a cache, from the present model.

    Args:
        densities: stacked over shards, of what was drawn.
        draws: with log densities and scores.

    Returns:
        The largest error over evenly spread draws of all shards; see :func:`check_stored`.
    """
    assert draws.log_density is not None
    assert draws.score is not None
    rows = evenly(draws.values.shape[1], CHECKED_POINTS)
    true = values_and_scores(densities, jnp.asarray(draws.values[:, rows]))
    return max(
        _largest_error(draws.log_density[s][rows], value, draws.score[s][rows], score)
        for s, (value, score) in enumerate(zip(*map(np.asarray, true), strict=True))
    )


def log_densities_at(density: Any, points: Shaped[np.ndarray, "N ..."]) -> np.ndarray:
    """Log densities (N,) of a density with a leading axis of one."""
    return np.asarray(jax.lax.map(one(density), jnp.asarray(points)), dtype=np.float64)


def recompute(
    problem: Posterior,
    observations: Arrays,
    rows: np.ndarray,
    eta: Float[np.ndarray | Array, "points dim"],
    prior_weight: float,
    likelihood_weight: float,
    jacobian_weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Log density and score straight from the model: no padding, no mask, no stacking.

    The independent path that stored draws are checked against.

    Args:
        problem: the model.
        observations: all n.
        rows: those that count.
        eta: where to evaluate.
        prior_weight: exponent of the prior.
        likelihood_weight: exponent of the likelihood.
        jacobian_weight: exponent of |∂θ/∂η|.

    Returns:
        Log densities (points,) and scores (points, dim).
    """
    values, scores = _values_and_scores(
        problem,
        jax.tree.map(lambda leaf: leaf[rows], observations),
        jnp.asarray(eta),
        jnp.array([prior_weight, likelihood_weight, jacobian_weight]),
    )
    return np.asarray(values), np.asarray(scores)


@eqx.filter_jit
def _values_and_scores(
    problem: Posterior,
    observations: PyTree[Array],
    eta: Float[Array, "points dim"],
    weights: Float[Array, " 3"],
) -> tuple[Float[Array, " points"], Float[Array, "points dim"]]:
    def log_density(point: Array) -> Array:
        theta = problem.constrain(point)
        terms = jax.lax.map(lambda one: problem.log_likelihood(theta, one), observations)
        parts = problem.log_prior(theta), jnp.sum(terms), log_jacobian(problem, point)
        return sum(weight * part for weight, part in zip(weights, parts, strict=True))

    return jax.vmap(jax.value_and_grad(log_density))(eta)
