"""Posteriors: models given by a log prior and the log likelihood of one observation.

A posterior states these two. Only this module sums over observations, scales the
prior and adds the log-Jacobian, so that no problem can forget to.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench import precision as precision
from dncbench.draws import Arrays
from dncbench.errors import DataError
from dncbench.problem import Data, Problem, Split, padded
from dncbench.space import Real, Space

UNBLOCKED = 16_384
"""Most observations of a density that are summed at once; more are summed in blocks."""

BLOCK = 1_024
"""Observations in a block."""

SPACES = ("unconstrained", "natural")
"""Where merging of continuous parameters happens: in η, or in θ as the papers do."""


class Posterior(Problem):
    """A Bayesian model with its data; subclass and register it.

    Settings (a prior variance, the number of shards) are dataclass fields with
    defaults. Required: ``num_shards``, ``dim``, ``data``, ``log_prior``,
    ``log_likelihood``. θ are the natural parameters, which metrics are read on;
    η the unconstrained coordinates, in which sampling and merging happen. Where
    the two differ, override ``constrain``.

    Example:
        >>> @register_problem("coin")
        ... class Coin(Posterior):
        ...     \"\"\"Beta(2, 2) prior on a coin's log odds.\"\"\"
        ...     num_shards: int = 3
        ...     dim = 1
        ...     def data(self, key): return jax.random.bernoulli(key, 0.3, (90,))
        ...     def log_prior(self, theta): return ...
        ...     def log_likelihood(self, theta, flip): return ...
    """

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """d, the number of parameters."""

    @abc.abstractmethod
    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of the prior of θ, up to a constant."""

    @abc.abstractmethod
    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log likelihood of one observation (one row of ``data``), up to a constant in θ.

        Where observations are held out, with its constant: it is what predicts them.
        """

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One name for each of the d natural parameters."""
        return tuple(f"theta[{i}]" for i in range(self.dim))

    def constrain(self, eta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Map unconstrained η to natural θ, one to one and smooth; the identity by default."""
        return eta

    @classmethod
    def is_constrained(cls) -> bool:
        """Whether η and θ differ."""
        return cls.constrain is not Posterior.constrain

    @property
    def start(self) -> Float[np.ndarray, " dim"]:
        """η where the search for the mode begins; zero by default.

        Where the data lie many prior sds from the prior, a place near them: points that look
        for other modes, and the second sampler of a reference, start from a base as wide as
        the prior and this place.
        """
        return np.zeros(self.dim)

    def exact_draws(
        self, data: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"] | None:
        """Independent draws η of the full posterior, without MCMC; None where nobody can.

        From a closed form or by quadrature: they make a reference of grade A. It is
        certified by NUTS on the model agreeing with them. Exchangeable labels
        (``permutations``) make as many modes, which no sampler visits in proportion: such
        a problem must give exact draws; the framework samples one sorted copy of the
        posterior and deals the draws, with their scores, out over the permutations at random.
        """
        return None

    # ------------------------------------------------------------ what the harness asks

    @property
    def space(self) -> Space:
        """η."""
        constrain = self.constrain if self.is_constrained() else None
        return Real(self.parameter_names, SPACES[0], constrain)

    def space_for(self, asked: str) -> Space:
        """η, or θ where "natural" was asked for and is something else."""
        if asked == SPACES[1] and self.is_constrained():
            return Real(self.parameter_names, SPACES[1])
        return self.space

    def density(self, data: Data, split: Split, kind: str, space: Space) -> "Density":
        """The full posterior, or a split's (inflated) subposteriors; see :class:`Density`."""
        return densities(self, data.train, split, kind, space.name)

    def predict(
        self, draws: Float[np.ndarray, "N dim"], held_out: Arrays
    ) -> Float[np.ndarray, "N m"] | None:
        """Log likelihood of each held-out observation at each θ."""
        return (
            None
            if held_out is None
            else np.asarray(_predictive(self, jnp.asarray(draws), held_out))
        )


@eqx.filter_jit
def _predictive(
    problem: Posterior, draws: Float[Array, "N dim"], held_out: PyTree[Array]
) -> Float[Array, "N m"]:
    each = jax.vmap(problem.log_likelihood, (None, 0))
    return jax.lax.map(lambda theta: each(theta, held_out), draws, batch_size=64)


class Density(eqx.Module):
    """Unnormalised log density of η for some of the observations.

    log p(η) = prior_weight · log prior(θ) + jacobian_weight · log |∂θ/∂η|
               + likelihood_weight · Σ_i mask_i · log likelihood(θ, y_i),   θ = constrain(η).

    Where η is merged, the log-Jacobian belongs to the prior and carries its weight;
    otherwise the product of S subposteriors would be off by |J|^(S-1). Where θ is merged,
    it is whole: the draws, mapped back, are those of prior(θ)^prior_weight · likelihood as
    a density in θ, which is what :meth:`in_theta` evaluates. Stacked along a leading axis
    of S it is a whole split; a call evaluates one.

    Attributes:
        problem: the model.
        observations: pytree with a leading axis of n (padded) observations.
        mask: (n,), 1 for an observation, 0 for padding.
        prior_weight: 1 for the full posterior, 1/S for a subposterior.
        likelihood_weight: 1, or S for an inflated subposterior.
        jacobian_weight: ``prior_weight`` in the unconstrained space; 1 in the natural one.
        natural: whether a call takes θ instead of η, and knows no Jacobian.
    """

    problem: Posterior
    observations: PyTree[Array]
    mask: Float[Array, "*S n"]
    prior_weight: Float[Array, "*S"]
    likelihood_weight: Float[Array, "*S"]
    jacobian_weight: Float[Array, "*S"]
    natural: bool = eqx.field(static=True, default=False)

    def __call__(self, eta: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log density at η (at θ where ``natural``), shape ()."""
        theta = eta if self.natural else self.problem.constrain(eta)
        prior = self.log_prior(eta)
        summed = _in_blocks if self.mask.shape[-1] > UNBLOCKED else _at_once
        likelihood = summed(theta, self.problem, self.observations, self.mask)
        total = prior + self.likelihood_weight * likelihood
        if self.natural and self.problem.is_constrained():
            # θ may leave the support, where logarithms have no value and the density is zero.
            return jnp.where(jnp.isnan(total), -jnp.inf, total)
        return total

    def log_prior(self, eta: Float[Array, " dim"]) -> Float[Array, ""]:
        """What the prior and the Jacobian add to the log density, shape ()."""
        theta = eta if self.natural else self.problem.constrain(eta)
        prior = self.prior_weight * self.problem.log_prior(theta)
        if not self.natural and self.problem.is_constrained():
            prior += self.jacobian_weight * log_jacobian(self.problem, eta)
        return prior

    def in_theta(self) -> "Density":
        """The same posterior as a density of natural parameters θ."""
        return dataclasses.replace(self, natural=True)


def _at_once(
    theta: Float[Array, " dim"], problem: Posterior, observations: PyTree[Array], mask: Array
) -> Float[Array, ""]:
    """Σ_i mask_i · log likelihood(θ, y_i)."""
    each = jax.vmap(problem.log_likelihood, (None, 0))(theta, observations)
    return jnp.sum(mask * each)


@eqx.filter_custom_jvp
def _in_blocks(
    theta: Float[Array, " dim"], problem: Posterior, observations: PyTree[Array], mask: Array
) -> Float[Array, ""]:
    """The same sum, block by block; its gradient is summed on the way.

    What is in between stays in the processor's cache, for all chains at once: at a million
    observations and 16 chains it would be 128 MB for each intermediate, and the memory's
    speed, not the arithmetic, would set the pace (five times slower).
    """
    return _scanned(lambda block: _at_once(theta, problem, *block), observations, mask)


@_in_blocks.def_jvp
def _in_blocks_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    theta, problem, observations, mask = primals
    both = jax.value_and_grad(_at_once)
    value, gradient = _scanned(lambda block: both(theta, problem, *block), observations, mask)
    return value, gradient @ tangents[0]


def _scanned(of_block: Callable, observations: PyTree[Array], mask: Array) -> Any:
    """Sum a function of (observations, mask) over blocks of their rows.

    Blocks are cut out one at a time: scanning over an axis of blocks would, mapped over
    shards, first copy all observations into another order, at every evaluation.
    """
    if mask.shape[-1] % BLOCK:
        # What is left over would be counted by no block.
        raise DataError(
            f"{mask.shape[-1]} rows are not a whole number of blocks of {BLOCK}; pad them, with "
            "a mask of zero, as subposteriors() and full_posterior() do"
        )

    def block(start: Array | int) -> Any:
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, BLOCK), (observations, mask)
        )

    def add(number: Array, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, of_block(block(number * BLOCK)))

    shapes = jax.eval_shape(lambda: of_block(block(0)))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.fori_loop(0, mask.shape[-1] // BLOCK, add, nothing)


def log_jacobian(problem: Posterior, eta: Float[Array, " dim"]) -> Float[Array, ""] | float:
    """log |∂θ/∂η| at η; zero for a problem without constraints."""
    if not problem.is_constrained():
        return 0.0
    return jnp.linalg.slogdet(jax.jacfwd(problem.constrain)(eta))[1]


def densities(
    problem: Posterior,
    observations: Arrays,
    split: Split,
    kind: str,
    space: str = SPACES[0],
) -> Density:
    """The densities of a split's shards, stacked along a leading axis of S.

    Args:
        problem: the model.
        observations: n of them.
        split: which shard holds which.
        kind: "full" for p(θ) p(Y_s given θ); "plain" for p_s ∝ p(θ)^(1/S) p(Y_s given θ);
            "inflated" for the p(θ) p(Y_s given θ)^S that SwISS is defined on (Vyner et
            al. 2023).
        space: "natural" to sample them as densities in θ: the log-Jacobian is then whole.

    Returns:
        A Density every array of which has a leading axis of S. Shards of unequal
        size are padded and masked, never truncated.
    """
    num_shards = split.num_shards
    stacked, mask = padded(observations, split, (UNBLOCKED, BLOCK))
    prior, likelihood, jacobian = weights(kind, num_shards, space)
    found = Density(
        problem=problem,
        observations=stacked,
        mask=mask,
        prior_weight=jnp.full(num_shards, prior),
        likelihood_weight=jnp.full(num_shards, likelihood),
        jacobian_weight=jnp.full(num_shards, jacobian),
    )
    return found


def weights(kind: str, num_shards: int, space: str) -> tuple[float, float, float]:
    """Exponents of the prior, the likelihood and |∂θ/∂η| in one of S densities of a kind."""
    prior = 1.0 / num_shards if kind == "plain" else 1.0
    likelihood = float(num_shards) if kind == "inflated" else 1.0
    return prior, likelihood, 1.0 if space == SPACES[1] else prior


def full_posterior(problem: Posterior, data: Data) -> Density:
    """The full posterior, with a leading axis of one, like a single shard."""
    return densities(problem, data.train, problem.whole(data), "full")


def subposteriors(
    problem: Posterior,
    data: Data,
    split: Split,
    *,
    inflated: bool = False,
    space: str = SPACES[0],
) -> Density:
    """All S subposteriors of a split; see :func:`densities`."""
    return densities(problem, data.train, split, "inflated" if inflated else "plain", space)


def sort_labels(problem: Posterior, values: Float[Array, " dim"]) -> Float[Array, " dim"]:
    """The copy of a point, under the problem's permutations, that comes first in dictionary order.

    The identity for a problem without permutations.
    """
    if problem.permutations is None:
        return values
    copies = values[problem.permutations]
    return copies[jnp.lexsort(copies.T[::-1])[0]]


def deal_labels(
    problem: Posterior, key: PRNGKeyArray, *arrays: Float[np.ndarray | Array, "*N dim"]
) -> tuple[Float[np.ndarray | Array, "*N dim"], ...]:
    """Give every draw, and its score, one of the problem's permutations, at random and the same."""
    if problem.permutations is None:
        return arrays
    permutations = jnp.asarray(problem.permutations)
    chosen = jax.random.randint(key, arrays[0].shape[:-1], 0, len(permutations))
    return tuple(jnp.take_along_axis(array, permutations[chosen], axis=-1) for array in arrays)


@eqx.filter_jit
def values_and_scores(
    densities: Density, points: Float[Array, "S T d"]
) -> tuple[Float[Array, "S T"], Float[Array, "S T d"]]:
    """Log densities and scores of a stack of densities, each at T points of its own."""

    def of_one(density: Density, points: Array) -> tuple[Array, Array]:
        return jax.lax.map(jax.value_and_grad(density), points, batch_size=64)

    return eqx.filter_vmap(of_one, in_axes=(eqx.if_array(0), 0))(densities, points)
