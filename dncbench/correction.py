"""A correction that any merge can take: one more round, and importance resampling.

The server broadcasts the merged draws θ_i; every shard answers with its log density at
each; Σ_s log p_s(θ_i) is the log density of the full posterior, exactly. With the log
density q(θ_i) that the draws were drawn from, Pareto-smoothed importance resampling
(Vehtari et al. 2024) moves them to the posterior, as far as they reach: a k-hat above 0.7
says that they do not, and the cell is marked unreliable.

A merge that does not know the density of its draws (consensus, SwISS) is replaced by a
multivariate Student t with five degrees of freedom, of the draws' mean and covariance,
and the draws by draws of it: only their location and spread then matter.
"""

import time
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import DrawsError
from dncbench.importance import smooth
from dncbench.merging import MergeResult
from dncbench.problem import Density
from dncbench.timing import Program

_DEGREES = 5.0


def psis(
    result: MergeResult, densities: Density, key: PRNGKeyArray
) -> tuple[MergeResult, dict[str, Any]]:
    """Correct merged draws by one more round.

    Args:
        result: of the merge.
        densities: the shards' log densities, stacked over S, in the merge's coordinates.
        key: random key.

    Returns:
        The corrected draws, with seconds and bytes of the further round added and
        ``info["k_hat"]``; and k-hat with the weights' effective share, as
        :func:`dncbench.importance.importance` gives them.

    Raises:
        DrawsError: a shard's log density is not finite at a draw.
    """
    key_proposal, key_resample = jax.random.split(key)
    num_draws, dim = result.draws.shape
    draws, log_proposal, ess = result.draws, result.log_density, result.info["ess"]
    if log_proposal is None:
        draws, log_proposal = _student(result.draws, key_proposal)
        ess = float(num_draws)
    answers = _answer(densities, jnp.asarray(draws))
    first = jax.tree.map(lambda leaf: leaf[:1] if eqx.is_array(leaf) else leaf, densities)
    alone = _answer(first, jnp.asarray(draws))

    start = time.perf_counter()
    log_posterior = np.asarray(answers.value).sum(0)
    weights, figures = smooth(log_posterior - log_proposal)
    if weights is None:
        raise DrawsError(
            "the merged draws cannot be reweighted: a shard's log density is not finite at "
            "one of them, or one outweighs all others; the merge misses the posterior's support"
        )
    chosen = _systematic(weights, key_resample)
    merge = time.perf_counter() - start

    num_shards = len(answers.value)
    info = result.info | {
        "ess": max(1.0, ess * figures["ess_share"]),
        "k_hat": figures["k_hat"],
        "ess_share": figures["ess_share"],
        "proposal": "Student t" if result.log_density is None else "the merge's own density",
    }
    seconds = result.seconds | {
        "compile": result.seconds["compile"] + answers.compile + alone.compile,
        "fit_total": result.seconds["fit_total"] + answers.run,
        "fit_slowest_shard": result.seconds["fit_slowest_shard"] + alone.run,
        "merge": result.seconds["merge"] + merge,
    }
    crossed = 8 * num_shards * num_draws * (dim + 1)  # the draws out, one number each back
    corrected = replace(
        result,
        draws=draws[chosen],
        info=info,
        seconds=seconds,
        bytes_communicated=result.bytes_communicated + crossed,
        log_density=None,
    )
    return corrected, figures


def _at_points(densities: Density, points: Float[Array, "N d"]) -> Float[Array, "S N"]:
    def of_one(density: Density, points: Array) -> Array:
        return jax.lax.map(density, points, batch_size=64)

    return eqx.filter_vmap(of_one, in_axes=(eqx.if_array(0), None))(densities, points)


_answer = Program(_at_points)


def _student(
    draws: Float[np.ndarray, "N d"], key: PRNGKeyArray
) -> tuple[Float[np.ndarray, "N d"], Float[np.ndarray, " N"]]:
    """As many draws of a Student t of the draws' moments, and its log density at them."""
    mean, spread = draws.mean(0), draws.std(0)
    correlation = np.cov(((draws - mean) / spread).T).reshape(len(mean), -1)
    # The t's covariance is ν / (ν - 2) of its scale's.
    factor = np.linalg.cholesky(correlation) * np.sqrt((_DEGREES - 2) / _DEGREES)
    key_normal, key_scale = jax.random.split(key)
    normal = np.asarray(jax.random.normal(key_normal, draws.shape))
    scale = np.asarray(jax.random.gamma(key_scale, _DEGREES / 2, (len(draws),))) * 2 / _DEGREES
    unit = normal / np.sqrt(scale)[:, None]
    log_density = -0.5 * (_DEGREES + len(mean)) * np.log1p(np.sum(unit**2, 1) / _DEGREES)
    return mean + unit @ factor.T * spread, log_density


def _systematic(weights: Float[np.ndarray, " N"], key: PRNGKeyArray) -> np.ndarray:
    """Row numbers by systematic resampling: a row's count is within one of N times its weight."""
    offset = float(jax.random.uniform(key))
    positions = (np.arange(len(weights)) + offset) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights), positions), len(weights) - 1)
