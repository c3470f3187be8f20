"""Recomputing what is stored: log densities and scores, straight from the model.

The published code of this field stores gradients that belong to other positions and
priors with the wrong exponent; both are caught here before any method sees the draws.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench.problem import Problem, log_jacobian

CHECKED_POINTS = 32
TOLERANCE = 1e-8
"""Largest relative error; float64 sums of thousands of terms in another order reach 1e-12."""


def check_stored(
    problem: Problem,
    data: PyTree[Array],
    rows: np.ndarray,
    values: Float[np.ndarray, "T d"],
    log_density: Float[np.ndarray, " T"],
    score: Float[np.ndarray, "T d"],
    key: PRNGKeyArray,
    weights: tuple[float, float, float],
) -> float:
    """Recompute log densities and scores of a random subset of draws from the model.

    A wrong prior exponent or a stale gradient is caught here.

    Args:
        problem: the model.
        data: its observations.
        rows: those of the shard.
        values: stored draws, with their
        log_density: log densities and
        score: scores.
        key: picks the subset.
        weights: exponents of the prior, of the likelihood and of |∂θ/∂η|.

    Returns:
        The largest error: of log densities relative to their size, of scores relative
        to the root mean square of the score in that coordinate.
    """
    picked = np.asarray(jax.random.choice(key, len(values), (CHECKED_POINTS,), replace=False))
    true_value, true_score = recompute(problem, data, rows, values[picked], *weights)
    of_value = np.abs(log_density[picked] - true_value) / np.maximum(1.0, np.abs(true_value))
    size = np.sqrt(np.mean(true_score**2, axis=0)) + 1e-300
    of_score = np.abs(score[picked] - true_score) / size
    return float(max(of_value.max(), of_score.max()))


def recompute(
    problem: Problem,
    data: PyTree[Array],
    rows: np.ndarray,
    eta: Float[Array, "points dim"],
    prior_weight: float,
    likelihood_weight: float,
    jacobian_weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Log density and score straight from the model: no padding, no mask, no stacking.

    The independent path that stored draws are checked against.

    Args:
        problem: the model.
        data: its observations.
        rows: the observations that count.
        eta: where to evaluate.
        prior_weight: exponent of the prior.
        likelihood_weight: exponent of the likelihood.
        jacobian_weight: exponent of |∂θ/∂η|.

    Returns:
        Log densities (points,) and scores (points, dim).
    """
    observations = jax.tree.map(lambda leaf: leaf[rows], data)
    values, scores = _values_and_scores(
        problem,
        observations,
        jnp.asarray(eta),
        jnp.array([prior_weight, likelihood_weight, jacobian_weight]),
    )
    return np.asarray(values), np.asarray(scores)


@eqx.filter_jit
def _values_and_scores(
    problem: Problem,
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
