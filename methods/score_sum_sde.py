"""A negative control: the shards' noised scores, added up and put into a reverse SDE."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._diffusion_model import (
    EARLIEST,
    SHORTENED,
    TRAININGS,
    Energy,
    bounded_scores,
    noise,
    signal,
    time_of,
    train,
)
from dncbench.methods._gaussian import inverse, mean_and_covariance, product
from dncbench.methods._learning import learning_curve
from dncbench.registry import register_method


class NoisedShard(eqx.Module):
    """A shard noised in the parameters' own coordinates: θ_t = m(t) θ + s(t) ε.

    Its network sees x = Uᵀ (θ_t - m mean) / sqrt(m² variances + s²), which has mean 0 and
    covariance I at all t, so that parameters of any scale can be learnt from.

    Attributes:
        energy: the network, of x and s(t).
        mean: of the draws.
        basis: U, eigenvectors of their covariance, in columns.
        variances: its eigenvalues.
        shortened: share of the scores that :func:`bounded_scores` shortened.
        losses: in the course of training.
    """

    energy: Energy
    mean: Float[Array, "*S d"]
    basis: Float[Array, "*S d d"]
    variances: Float[Array, "*S d"]
    shortened: Float[Array, "*S"]
    losses: Float[Array, "*S points"]

    def score(self, theta: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, " d"]:
        """∇ log p_t of one shard, in float64 around a network in float32."""
        scale = jnp.sqrt(signal(t) ** 2 * self.variances + noise(t) ** 2)
        x = (theta - signal(t) * self.mean) @ self.basis / scale
        score = self.energy.score(x.astype(jnp.float32), noise(t).astype(jnp.float32))
        return self.basis @ (score / scale)


def summed_score(
    shards: NoisedShard, theta: Float[Array, " d"], t: Float[Array, ""]
) -> Float[Array, " d"]:
    """Σ_s ∇ log p_t^(s), the score of p̃_t of equation 16, of S stacked shards."""
    return jnp.sum(jax.vmap(lambda shard: shard.score(theta, t))(shards), axis=0)


def reverse_sde(
    score: Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, " d"]],
    start: Float[Array, "N d"],
    key: PRNGKeyArray,
    num_steps: int,
) -> Float[Array, "N d"]:
    """Solve dθ = -β (θ/2 + score(θ, t)) dt + sqrt(β) dW from t = 1 back to 1e-5.

    Trojan et al. (2024), equation 4, by Euler-Maruyama with the linear drift solved
    exactly, so that a mean of p_t moves to that of the next p_t whatever the step. Steps
    are equal in log s²/m²: they shrink with the noise, as the scores' slope grows to S/s².

    Args:
        score: of one point θ (d,), at time t.
        start: points at t = 1.
        key: random key.
        num_steps: steps.
    """
    ends = logit(noise(jnp.array([1.0, EARLIEST])) ** 2)
    integrated = jax.nn.softplus(jnp.linspace(ends[0], ends[1], num_steps + 1))

    def step(theta: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, None]:
        now, then, key = inputs
        growth = jnp.exp(0.5 * (now - then))  # of θ/2 over ∫ β dt
        variance = -jnp.expm1(then - now)
        pull = variance * jax.vmap(score, (0, None))(theta, time_of(now))
        shock = jnp.sqrt(variance) * jax.random.normal(key, theta.shape)
        return growth * (theta + pull) + shock, None

    keys = jax.random.split(key, num_steps)
    return jax.lax.scan(step, start, (integrated[:-1], integrated[1:], keys))[0]


@register_method("score-sum-sde", version=1, control=True, small="training=brief,num_steps=20")
class ScoreSumSde(Method):
    """Negative control: a reverse diffusion driven by the sum of the shards' noised scores.

    The obvious way to compose diffusion models, and wrong: noising does not commute with
    multiplying, so the sum is not the score of the noised product unless t = 0. Trojan et
    al. (2024), appendix D. For Gaussian shards the sum is that of equation 20, whose
    variance is too small at every t > 0: S equal shards N(0, I) end at variance
    1/(2S - 1), not 1/S. Right for one shard.

    All shards are noised by one SDE, in the parameters' own coordinates, as there; with
    an SDE for each, whitened by its shard as in ``diffusion``, the sum would be right for
    Gaussians, and wrong for all else. Parameters on a scale below 0.01 are not resolved.

    Attributes:
        training: as for ``diffusion``.
        num_steps: of the Euler-Maruyama scheme, at least 24 for each shard.
    """

    training: str = "fast"
    num_steps: int = 500

    cites: ClassVar = ("trojan2024",)
    needs: ClassVar = frozenset({"draws", "score", "covariance"})

    def __check_init__(self) -> None:
        if self.training not in TRAININGS:
            raise UnknownNameError(
                f"score-sum-sde: training={self.training!r}"
                f"{nearest(str(self.training), TRAININGS)}; known: {', '.join(TRAININGS)}"
            )

    def fit(self, shard: Shard, key: PRNGKeyArray) -> NoisedShard:
        """Train the shard's network."""
        assert shard.values is not None
        assert shard.score is not None
        mean, covariance = mean_and_covariance(shard.values)
        variances, basis = jnp.linalg.eigh(covariance)
        scale = jnp.sqrt(variances)[None, :]
        score, shortened = bounded_scores(shard.score @ basis * scale)
        energy, losses = train(
            (shard.values - mean[None, :]) @ basis / scale,
            score,
            key,
            TRAININGS[self.training],
            variances=variances.astype(jnp.float32),
        )
        return NoisedShard(energy, mean, basis, variances, shortened, losses)

    def merge(
        self, messages: NoisedShard, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Start from the noised product of Gaussians (equation 18 at t = 1), which is right."""
        key_start, key_path = jax.random.split(key)
        num_shards, dim = messages.mean.shape
        precisions = jnp.einsum(
            "sij,sj,skj->sik", messages.basis, 1 / messages.variances, messages.basis
        )
        mean, precision = product(messages.mean, precisions)
        m, s = signal(jnp.array(1.0)), noise(jnp.array(1.0))
        covariance = m**2 * inverse(precision) + s**2 * jnp.eye(dim)
        start = (m * mean)[None, :] + jax.random.normal(key_start, (num_draws, dim)) @ (
            jnp.linalg.cholesky(covariance).T
        )
        # log s²/m² falls by 24; a step times the number of shards must stay below 2.
        num_steps = max(self.num_steps, 24 * num_shards)
        score = lambda theta, t: summed_score(messages, theta, t)  # noqa: E731
        draws = reverse_sde(score, start, key_path, num_steps)
        return draws, {
            "learning_curve": learning_curve(messages.losses),
            "warnings": {SHORTENED: messages.shortened > 0},
        }
