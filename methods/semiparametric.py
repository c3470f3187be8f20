"""Products of kernel density estimates, drawn from by chains over which draws are multiplied."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import (
    inverse,
    inverses,
    mean_and_covariance,
    product,
    whitening,
)
from dncbench.methods._index_gibbs import (
    WIDEST,
    Chains,
    Mixture,
    anneal,
    effective_size,
    num_distinct,
    spatial_order,
    start_uniformly,
    sweep,
)
from dncbench.methods._product_density import convergence
from dncbench.registry import register_method

_BANDWIDTHS = ("annealed", "unit")
_WEIGHTS = ("full", "reduced")
_STUCK = 0.002  # acceptance below which chains hardly move
_MIN_CHAINS = 2000

_WARNINGS = (
    "the index chains accept fewer than 1 in 500 uniform proposals at the last bandwidth: "
    "too few draws of the shards lie near one another",
    "fewer than half of the draws have an index vector of their own: the product has "
    "collapsed on a few combinations of draws",
    "the bandwidth stopped above 1 sd of the product of Gaussians, because too few draws "
    "overlap: shape finer than that is smoothed away",
)

Message = tuple[
    Float[Array, "*S T d"], Float[Array, "*S d"], Float[Array, "*S d d"], Float[Array, "*S"]
]


class _KernelProduct(Method):
    """What the two methods share."""

    cites: ClassVar = ("neiswanger2014",)
    needs: ClassVar = frozenset({"draws", "covariance"})

    end: float = 0.0
    sweeps: int = 250

    full: ClassVar[bool] = False

    def __check_init__(self) -> None:
        if self.end < 0 or self.sweeps < 3:
            raise UnknownNameError(
                f"{type(self).__name__.lower()}: end={self.end}, sweeps={self.sweeps}: "
                "end is a bandwidth in posterior sds, or 0 to have it chosen; sweeps is at least 3"
            )

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """The draws (T, d) in spatial order, mean (d,), covariance (d, d), and ESS ()."""
        assert shard.values is not None
        assert shard.ess is not None
        order = spatial_order(whitening(shard.values).positions(shard.values))
        return (shard.values[order], *mean_and_covariance(shard.values), shard.ess)

    @abc.abstractmethod
    def component(
        self,
        average: Float[Array, "N d"],
        bandwidth: Float[Array, ""] | Float[Array, "N 1"],
        variance: Float[Array, "1 d"],
        num_shards: int,
    ) -> tuple[Float[Array, "N d"], Float[Array, "#N d"]]:
        """Mean and variance of the components with z̄ = ``average``."""

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """One draw of every chain's component."""
        draws, means, covariances, sizes = messages
        num_shards, num_available, dim = draws.shape
        num_chains = max(num_draws, _MIN_CHAINS)
        centre, root, mixture = _mixture(draws, means, covariances)
        spread = jnp.sqrt(jnp.max(jnp.mean(jnp.var(mixture.points, axis=1), axis=1)))
        key_chains, key_draw = jax.random.split(key)
        # Whitened, float32 is enough: what is compared are differences of order h.
        fast = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mixture)
        annealed = anneal(
            fast, key_chains, num_chains, WIDEST * spread, self.end, self.sweeps, self.full
        )
        chains, bandwidth = annealed.chains, annealed.bandwidth.astype(float)
        average = jnp.mean(chains.points.astype(float), axis=0)
        mean, variance = self.component(average, bandwidth, mixture.variance[None, :], num_shards)
        z = mean + jnp.sqrt(variance) * jax.random.normal(key_draw, (num_chains, dim))
        ess = effective_size(z, chains.indices, annealed.families, num_available, sizes)
        rows = (jnp.arange(num_draws) * num_chains) // num_draws
        distinct = num_distinct(chains.indices)
        raised = (
            annealed.acceptance < _STUCK,
            distinct < num_chains / 2,
            bandwidth > 1.0,
        )
        return (centre[None, :] + z @ root.T)[rows], {
            "ess": ess,
            "bandwidth": bandwidth,
            "index_acceptance": annealed.acceptance,
            "distinct_index_vectors": distinct,
            "chains": num_chains,
            "warnings": dict(zip(_WARNINGS, raised, strict=True)),
        }


def _mixture(
    draws: Float[Array, "S T d"], means: Float[Array, "S d"], covariances: Float[Array, "S d d"]
) -> tuple[Float[Array, " d"], Float[Array, "d d"], Mixture]:
    """Centre, root and mixture in the coordinates that whiten the product of Gaussians."""
    centre, precision = product(means, inverses(covariances))
    root = jnp.linalg.cholesky(inverse(precision))
    points = jax.lax.map(
        lambda rows: solve_triangular(root, (rows - centre[None, :]).T, lower=True).T, draws
    )
    return (
        centre,
        root,
        Mixture(points, _log_gaussian(draws, means, covariances), jnp.ones(len(centre))),
    )


def _log_gaussian(draws: Array, means: Array, covariances: Array) -> Float[Array, "S T"]:
    """log N(draw given its own shard's mean and covariance), up to a constant."""

    def shard(inputs: tuple[Array, Array, Array]) -> Array:
        rows, mean, covariance = inputs
        factor = jnp.linalg.cholesky(covariance)
        centred = rows - mean[None, :]
        return -0.5 * jnp.sum(solve_triangular(factor, centred.T, lower=True) ** 2, axis=0)

    return jax.lax.map(shard, (draws, means, covariances))


@register_method("nonparametric", version=1, small="sweeps=10")
class Nonparametric(_KernelProduct):
    """Product of kernel density estimates, sampled by chains over which draws to multiply.

    Kernels of one bandwidth h in coordinates in which the product of Gaussians is N(0, I);
    many annealed chains (:func:`anneal`). Neiswanger et al. (2014), section 3.2. Any
    shape, modes included, but each shard is widened by h² and a product of T draws each
    needs them to overlap: useful up to about five dimensions.

    Attributes:
        end: bandwidth to end with, in sds of the product of Gaussians; 0: chosen by how
            many proposals are accepted.
        sweeps: proposals for each index.
    """

    def component(
        self,
        average: Float[Array, "N d"],
        bandwidth: Float[Array, ""] | Float[Array, "N 1"],
        variance: Float[Array, "1 d"],
        num_shards: int,
    ) -> tuple[Float[Array, "N d"], Float[Array, "#N d"]]:
        """N(z̄, h²/S I)."""
        return average, jnp.full((1, average.shape[1]), bandwidth**2 / num_shards)


@register_method("semiparametric", version=1, small="sweeps=10")
class Semiparametric(_KernelProduct):
    """Product of Gaussians times kernel-estimated corrections, by chains over indices.

    Each shard is N(μ_s, C_s) times a kernel estimate of what that leaves out, so Gaussian
    subposteriors are exact at any bandwidth. Neiswanger et al. (2014), section 3.3, in
    coordinates in which the product of Gaussians is N(0, I), with many annealed
    chains (:func:`anneal`). Needs draws of all shards near one another: useful up to
    about five dimensions, fewer where shards are many or far apart; ``ess`` tells.

    Attributes:
        bandwidth: "annealed", as above; "unit", as the R package parallelMCMCcombine does by
            default and as in published tables: one chain of uniform proposals in the
            parameters' own units, sweep i at h = i^(-1/(4 + d)) and giving draw i.
        weights: "full", W of the paper; "reduced", its w, without Gaussian densities.
        end: bandwidth to end with, in sds of the product of Gaussians; 0: chosen by how
            many proposals are accepted. Only for "annealed".
        sweeps: proposals for each index. Only for "annealed".
    """

    bandwidth: str = "annealed"
    weights: str = "full"

    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        for name, known in (("bandwidth", _BANDWIDTHS), ("weights", _WEIGHTS)):
            value = getattr(self, name)
            if value not in known:
                raise UnknownNameError(
                    f"semiparametric: {name}={value!r}{nearest(str(value), known)}; "
                    f"known: {', '.join(known)}"
                )
        if self.bandwidth == "unit" and self.end:
            raise UnknownNameError(
                "semiparametric: end has no meaning where bandwidth=unit fixes all bandwidths"
            )

    @property
    def full(self) -> bool:  # type: ignore[override]
        """Whether the weights have their Gaussian densities."""
        return self.weights == "full"

    def component(
        self,
        average: Float[Array, "N d"],
        bandwidth: Float[Array, ""] | Float[Array, "N 1"],
        variance: Float[Array, "1 d"],
        num_shards: int,
    ) -> tuple[Float[Array, "N d"], Float[Array, "#N d"]]:
        """N with precision S/h² I + V⁻¹ and mean that, inverted, times S/h² z̄."""
        kernel = num_shards / bandwidth**2
        return average * kernel / (kernel + 1.0 / variance), 1.0 / (kernel + 1.0 / variance)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """One draw of every chain's component; of every sweep's in a single one if "unit"."""
        if self.bandwidth == "annealed":
            return super().merge(messages, key, num_draws)
        return self._one_chain(messages, key, num_draws)

    def _one_chain(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        draws, means, covariances, _ = messages
        num_shards, _, dim = draws.shape
        centre, precision = product(means, inverses(covariances))
        # A rotation leaves the kernels as they are and makes the product's covariance diagonal.
        variance, rotation = jnp.linalg.eigh(inverse(precision))
        points = (draws - centre[None, None, :]) @ rotation
        mixture = Mixture(points, _log_gaussian(draws, means, covariances), variance)
        power = jnp.asarray(float(self.full))

        def step(chains: Chains, inputs: tuple) -> tuple:
            bandwidth, key = inputs
            chains, acceptance = sweep(mixture, chains, bandwidth, power, key, local=False)
            return chains, (chains.indices[:, 0], jnp.mean(chains.points, axis=0), acceptance)

        key_start, key_steps, key_draw = jax.random.split(key, 3)
        bandwidth = jnp.arange(1.0, num_draws + 1.0) ** (-1.0 / (4 + dim))
        inputs = (bandwidth, jax.random.split(key_steps, num_draws))
        chain = start_uniformly(mixture, key_start, 1)
        path: tuple[Array, Array, Array] = jax.lax.scan(step, chain, inputs)[1]
        indices, averages, acceptance = path
        mean, variance = self.component(
            averages[:, 0], bandwidth[:, None], variance[None, :], num_shards
        )
        z = mean + jnp.sqrt(variance) * jax.random.normal(key_draw, (num_draws, dim))
        # Quarters of a chain that has not converged differ, and R-hat says so.
        quarter = num_draws // 4
        mixing = convergence(z[: 4 * quarter].reshape(4, quarter, dim)) if quarter > 9 else {}
        accepted = jnp.mean(acceptance[-max(num_draws // 10, 1) :])
        distinct = num_distinct(indices.T)
        raised = (accepted < _STUCK, distinct < num_draws / 2)
        return centre[None, :] + z @ rotation.T, {
            **mixing,
            "bandwidth": bandwidth[-1],
            "index_acceptance": accepted,
            "distinct_index_vectors": distinct,
            "chains": 1,
            "warnings": dict(zip(_WARNINGS[:2], raised, strict=True)),
        }
