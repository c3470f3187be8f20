"""Gaussian processes in place of the shards' log densities (Nemeth & Sherlock)."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.draws import at_most
from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import Whitening, whitening
from dncbench.methods._gp_surrogate import (
    GaussianProcess,
    Hyperparameters,
    Observations,
    condition,
    fit,
    fit_as_published,
)
from dncbench.methods._product_density import sample, whitened_product
from dncbench.registry import register_method

_TARGETS = ("lognormal", "mean")
_TRAININGS = ("full", "published")
_CHECKED_DRAWS = 1000
_MOST_FAR = 0.05  # share of the merged draws
_NEGLIGIBLE = 0.1  # variance of a log density

_EXTRAPOLATES = (
    "gp: more than a twentieth of the merged draws lie beyond the reach of the shard's inducing "
    "draws, where its log density is a quadratic and a guess"
)
_UNCERTAIN = (
    "gp: at most merged draws the summed log density is uncertain by more than 1 (standard "
    "deviation, log_density_sd): the inducing draws are too few for it"
)
_IMPROPER = (
    "gp: far out the variances outweigh the quadratic means, so exp(mean + variance/2) has no "
    "integral and the chains may run off; use gp[target=mean]"
)


class Message(eqx.Module):
    """What a shard sends; the server conditions on it.

    Attributes:
        whitening: the shard's coordinates x.
        observations: log densities at its inducing draws.
        hyperparameters: of its Gaussian process.
    """

    whitening: Whitening
    observations: Observations
    hyperparameters: Hyperparameters


@register_method("gp", version=1, small="inducing=50,subset=50", accurate="inducing=250")
class GaussianProcesses(Method):
    """Sample the sum of Gaussian processes fitted to the shards' log densities.

    Nemeth & Sherlock (2018). Given the log densities at its inducing draws, a shard's log
    density is a Gaussian process with a quadratic mean, of mean μ_s(θ) and variance v_s(θ); the
    product's expectation is exp(Σ_s μ_s + v_s/2). It is sampled by Hamiltonian Monte
    Carlo whose trajectories follow Σ_s μ_s alone, the variances entering where a
    trajectory is accepted or not (section 4 there).

    Beyond the reach of a shard's inducing draws, about a lengthscale, only the quadratic mean is
    left, and v_s/2 raises the density just where it is not known: with few inducing
    draws and a rough log density, chains settle there. Modes far apart are not crossed by
    the chains; ``max_rhat`` tells of both. In tens of dimensions a thousand draws say little beyond
    the quadratic.

    Recorded beside the sampler's own: ``extrapolation``, the share of merged draws whose
    variance v_s is more than half of the prior's, in the worst shard; and
    ``log_density_sd``, the median of (Σ_s v_s)^½.

    Attributes:
        target: "lognormal", exp(Σ_s μ_s + v_s/2); "mean", exp(Σ_s μ_s).
        inducing: n, draws of each shard that are conditioned on, evenly thinned.
        subset: inducing draws that the hyperparameters are fitted to, evenly thinned.
        training: "full", the maximum of the restricted likelihood; "published", what the code
            of Trojan et al. (2024) makes of it: 200 steps of Adam of 1e-3 from
            ones, which fit next to nothing, with an exponential kernel in the parameters'
            own units.
    """

    target: str = "lognormal"
    inducing: int = 1000
    subset: int = 250
    training: str = "full"

    cites: ClassVar = ("nemeth2018",)
    needs: ClassVar = frozenset({"draws", "log_density", "covariance"})
    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        for setting, known in (("target", _TARGETS), ("training", _TRAININGS)):
            value = str(getattr(self, setting))
            if value not in known:
                raise UnknownNameError(
                    f"gp: {setting}={value!r}{nearest(value, known)}; known: {', '.join(known)}"
                )

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """Inducing draws (n, d), their log densities (n,) and the fitted hyperparameters."""
        assert shard.values is not None
        assert shard.log_density is not None
        published = self.training == "published"
        rows = at_most(len(shard.values), self.inducing)
        values, y = shard.values[rows], shard.log_density[rows]
        to_x = whitening(values if published else shard.values)
        y = y - jnp.max(y)
        equal = jnp.all(values[:, None] == values[None], axis=-1)
        distinct = jnp.argmax(equal, axis=1) == jnp.arange(len(values))
        root = to_x.root if published else None
        observations = Observations(to_x.positions(values), y, distinct, root)
        subset = at_most(len(values), self.subset)
        part = Observations(observations.x[subset], y[subset], distinct[subset], root)
        fitted = fit_as_published(part) if published else fit(part)
        return Message(to_x, observations, fitted)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Condition every shard's process, and sample the product."""
        space = whitened_product(messages.whitening)
        maps = jax.vmap(space.into)(messages.whitening)
        # One shard after the other: see _gaussian.inverses.
        processes = jax.lax.map(
            lambda shard: condition(*shard), (messages.hyperparameters, messages.observations)
        )
        judging = (processes, maps)
        # A trajectory may follow any approximation of the mean: what is accepted corrects it.
        guiding = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (_mean_of(processes), maps))
        share = 0.5 if self.target == "lognormal" else 0.0

        def log_density(z: Float[Array, " d"]) -> Float[Array, ""]:
            means, variances = _predictions(judging, z)
            return jnp.sum(means) + share * jnp.sum(variances)

        z, info = sample(
            lambda z: _guide(guiding, z), key, num_draws, len(space.mean), accept=log_density
        )
        checked = z[at_most(num_draws, _CHECKED_DRAWS)]
        _, variances = jax.vmap(lambda z: _predictions(judging, z))(checked)
        prior = processes.hyperparameters.variance[None, :]
        far = jnp.mean((variances > 0.5 * prior) & (variances > _NEGLIGIBLE), axis=0)
        total = jnp.maximum(jnp.sum(variances, axis=1), 0.0)  # rounding may take it below 0
        spread = jnp.median(jnp.sqrt(total))
        return space.original(z), {
            **info,
            "extrapolation": jnp.max(far),
            "log_density_sd": spread,
            "warnings": {
                _EXTRAPOLATES: far > _MOST_FAR,
                _UNCERTAIN: spread > 1.0,
                _IMPROPER: _tail(processes, maps[0], share) <= 0.0,
            },
        }


def _mean_of(processes: GaussianProcess) -> GaussianProcess:
    """Without what only the variance needs."""
    unused = lambda each: (each.inverse_root, each.basis, each.root_a)  # noqa: E731
    return eqx.tree_at(unused, processes, replace=(None, None, None))


def _predictions(
    surrogates: tuple[GaussianProcess, tuple[Array, Array]], z: Float[Array, " d"]
) -> tuple[Float[Array, " S"], Float[Array, " S"]]:
    """Every shard's predictive mean and variance at z, in float64."""

    def one(surrogate: tuple[GaussianProcess, tuple[Array, Array]]) -> tuple[Array, Array]:
        process, (matrix, offset) = surrogate
        x = matrix @ z.astype(matrix.dtype) + offset
        return process.mean(x), process.variance(x)

    return jax.lax.map(one, surrogates)


def _tail(
    processes: GaussianProcess, matrices: Float[Array, "S d d"], share: float
) -> Float[Array, ""]:
    """Least curvature of the target far out, in z: of Σ_s β₂|x_s|² - share h(x_s)ᵀ A_s⁻¹ h(x_s).

    There the kernels have vanished, and the variance of b grows as quickly as the mean falls.
    """

    def one(shard: tuple[GaussianProcess, Array]) -> Array:
        process, matrix = shard
        slopes = solve_triangular(process.root_a, jnp.eye(len(process.root_a))[:, 1:], lower=True)
        curvature = process.hyperparameters.beta2 * jnp.eye(len(matrix)) - share * slopes.T @ slopes
        return matrix.T @ curvature @ matrix

    return jnp.min(jnp.linalg.eigvalsh(jnp.sum(jax.lax.map(one, (processes, matrices)), axis=0)))


def _guide(
    surrogates: tuple[GaussianProcess, tuple[Array, Array]], z: Float[Array, " d"]
) -> Float[Array, ""]:
    """Σ_s μ_s at z.

    One shard after the other, value and gradient together, which keeps what all
    chains have at work within the processor's cache: several times faster than differentiating
    the sum, which stores every kernel value of every shard.
    """

    def one(surrogate: tuple[GaussianProcess, tuple[Array, Array]]) -> tuple[Array, Array]:
        process, (matrix, offset) = surrogate
        return jax.value_and_grad(lambda z: process.mean(matrix @ z + offset))(at)

    at = jax.lax.stop_gradient(z)
    values, scores = jax.lax.map(one, surrogates)
    return jnp.sum(values) + jnp.sum(scores, axis=0) @ (z - at)
