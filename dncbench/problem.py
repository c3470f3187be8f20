"""Problems, shards, and the one place where densities are put together.

A problem states the log prior and the log likelihood of ONE observation. Only
this module sums over observations, scales the prior and adds the log-Jacobian,
so that no problem can forget to.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dncbench import precision as precision
from dncbench.errors import DataError

UNBLOCKED = 16_384
"""Most observations of a density that are summed at once; more are summed in blocks."""

BLOCK = 1_024
"""Observations in a block."""


class Problem(eqx.Module):
    """A Bayesian model with its data; subclass and register it.

    Settings (a prior variance, the number of shards) are dataclass fields with
    defaults. Required: ``num_shards``, ``dim``, ``data``, ``log_prior``,
    ``log_likelihood``. θ are the natural parameters, which metrics are read on;
    η the unconstrained coordinates, in which sampling and merging happen. Where
    the two differ, override ``constrain``.

    Example:
        >>> @register_problem("coin")
        ... class Coin(Problem):
        ...     \"\"\"Beta(2, 2) prior on a coin's log odds.\"\"\"
        ...     num_shards: int = 3
        ...     dim = 1
        ...     def data(self, key): return jax.random.bernoulli(key, 0.3, (90,))
        ...     def log_prior(self, theta): return ...
        ...     def log_likelihood(self, theta, flip): return ...
    """

    num_shards: eqx.AbstractVar[int]
    source: ClassVar[str] = ""
    """Where the model and its data come from; shown by ``dncbench show``."""

    cites: ClassVar[tuple[str, ...]] = ()
    """What to cite: keys of ``dncbench/citations.bib``, or whole BibTeX entries."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """d, the number of parameters."""

    @abc.abstractmethod
    def data(self, key: PRNGKeyArray) -> PyTree[Array]:
        """All n observations: a pytree of arrays with a leading observation axis.

        Synthetic problems draw them from ``key``, which depends on the problem's
        name alone; real data sets ignore it.
        """

    @abc.abstractmethod
    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of the prior of θ, up to a constant."""

    @abc.abstractmethod
    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log likelihood of one observation (one row of ``data``), up to a constant in θ."""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One name for each of the d natural parameters."""
        return tuple(f"theta[{i}]" for i in range(self.dim))

    def labels(self, data: PyTree[Array]) -> np.ndarray | None:
        """Class of each observation, for label-dependent splits; None where there is none."""
        return None

    def constrain(self, eta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Map unconstrained η to natural θ, one to one and smooth; the identity by default."""
        return eta

    @classmethod
    def is_constrained(cls) -> bool:
        """Whether η and θ differ."""
        return cls.constrain is not Problem.constrain

    @property
    def start(self) -> Float[np.ndarray, " dim"]:
        """η where the search for the mode begins; zero by default."""
        return np.zeros(self.dim)

    @property
    def permutations(self) -> Int[np.ndarray, "G dim"] | None:
        """Permutations of the coordinates that leave the posterior as it is, or None.

        Exchangeable labels make as many modes, which no sampler visits in proportion.
        The framework therefore samples one sorted copy of the posterior and deals the
        draws, with their scores, out over the permutations at random.
        """
        return None

    def counted(self, rows: np.ndarray) -> np.ndarray:
        """Which of a shard's rows (of all rows, for the full posterior) its density counts.

        All of them, in every honest problem; overridden only to show what a published
        program that forgets some computes.
        """
        return rows

    def exact_draws(
        self, data: PyTree[Array], key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"] | None:
        """Independent draws η of the full posterior, without MCMC; None where nobody can.

        From a closed form or by quadrature: they make a reference of grade A. It is
        certified by NUTS on the model agreeing with them.
        """
        return None

    @classmethod
    def contract_violation(cls, subclass: type) -> str | None:
        """What a subclass still misses that abstract methods cannot say, or None."""
        if not isinstance(getattr(subclass, "num_shards", None), int):
            return "num_shards must be a field with a whole number as its default"
        return None


SPACES = ("unconstrained", "natural")
"""Where merging happens: in η, or in θ as the papers do."""


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

    problem: Problem
    observations: PyTree[Array]
    mask: Float[Array, "*S n"]
    prior_weight: Float[Array, "*S"]
    likelihood_weight: Float[Array, "*S"]
    jacobian_weight: Float[Array, "*S"]
    natural: bool = eqx.field(static=True, default=False)

    def __call__(self, eta: Float[Array, " dim"]) -> Float[Array, ""]:
        """The log density at η (at θ where ``natural``), shape ()."""
        theta = eta if self.natural else self.problem.constrain(eta)
        prior = self.prior_weight * self.problem.log_prior(theta)
        if not self.natural and self.problem.is_constrained():
            prior += self.jacobian_weight * log_jacobian(self.problem, eta)
        summed = _in_blocks if self.mask.shape[-1] > UNBLOCKED else _at_once
        likelihood = summed(theta, self.problem, self.observations, self.mask)
        total = prior + self.likelihood_weight * likelihood
        if self.natural and self.problem.is_constrained():
            # θ may leave the support, where logarithms have no value and the density is zero.
            return jnp.where(jnp.isnan(total), -jnp.inf, total)
        return total

    def in_theta(self) -> "Density":
        """The same posterior as a density of natural parameters θ."""
        return dataclasses.replace(self, natural=True)


def _at_once(
    theta: Float[Array, " dim"], problem: Problem, observations: PyTree[Array], mask: Array
) -> Float[Array, ""]:
    """Σ_i mask_i · log likelihood(θ, y_i)."""
    each = jax.vmap(problem.log_likelihood, (None, 0))(theta, observations)
    return jnp.sum(mask * each)


@eqx.filter_custom_jvp
def _in_blocks(
    theta: Float[Array, " dim"], problem: Problem, observations: PyTree[Array], mask: Array
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


def log_jacobian(problem: Problem, eta: Float[Array, " dim"]) -> Float[Array, ""] | float:
    """log |∂θ/∂η| at η; zero for a problem without constraints."""
    if not problem.is_constrained():
        return 0.0
    return jnp.linalg.slogdet(jax.jacfwd(problem.constrain)(eta))[1]


def load_data(problem: Problem, key: PRNGKeyArray) -> PyTree[Array]:
    """The problem's observations as float64 arrays, checked.

    Raises:
        DataError: no data, axes that disagree, non-finite values.
    """
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), problem.data(key))
    name = type(problem).__name__
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths == {0}:
        raise DataError(
            f"{name}.data() must return arrays with one common leading observation axis; "
            f"found lengths {sorted(lengths)}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
        if len(bad):
            where = jax.tree_util.keystr(path)
            raise DataError(f"{name}.data(){where} is not finite at index {tuple(bad[0].tolist())}")
    return data


def num_observations(data: PyTree[Array]) -> int:
    """n, the length of the leading axis."""
    return int(jax.tree.leaves(data)[0].shape[0])


def full_posterior(problem: Problem, data: PyTree[Array]) -> Density:
    """The full posterior, with a leading axis of one, like a single shard."""
    everything = np.zeros(num_observations(data), dtype=int)
    return _stack(problem, data, everything, 1, 1.0, 1.0, 1.0)


def subposteriors(
    problem: Problem,
    data: PyTree[Array],
    shard_of: np.ndarray,
    *,
    inflated: bool = False,
    space: str = "unconstrained",
) -> Density:
    """All S subposteriors of a split, stacked along a leading shard axis.

    Args:
        problem: the model.
        data: its n observations.
        shard_of: (n,) integers in [0, S), the shard of each observation.
        inflated: False for p_s ∝ p(θ)^(1/S) p(Y_s given θ); True for the inflated
            p(θ) p(Y_s given θ)^S that SwISS is defined on (Vyner et al. 2023).
        space: one of :data:`SPACES`, in which these are densities.

    Returns:
        A Density every array of which has a leading axis of S. Shards of unequal
        size are padded and masked, never truncated.
    """
    num_shards = problem.num_shards
    prior_weight = 1.0 if inflated else 1.0 / num_shards
    return _stack(
        problem,
        data,
        shard_of,
        num_shards,
        prior_weight=prior_weight,
        likelihood_weight=float(num_shards) if inflated else 1.0,
        jacobian_weight=1.0 if space == "natural" else prior_weight,
    )


def _stack(
    problem: Problem,
    data: PyTree[Array],
    shard_of: np.ndarray,
    num_shards: int,
    prior_weight: float,
    likelihood_weight: float,
    jacobian_weight: float,
) -> Density:
    rows = [problem.counted(np.flatnonzero(shard_of == s)) for s in range(num_shards)]
    size = max(len(row) for row in rows)
    if size > UNBLOCKED:
        size = -(-size // BLOCK) * BLOCK
    # Padding repeats a real observation, so that a masked term is finite and its
    # gradient is zero rather than NaN.
    index = np.stack([np.resize(row, size) if len(row) else np.zeros(size, int) for row in rows])
    mask = np.stack([np.arange(size) < len(row) for row in rows]).astype(float)
    return Density(
        problem=problem,
        observations=jax.tree.map(lambda leaf: leaf[index], data),
        mask=jnp.asarray(mask),
        prior_weight=jnp.full(num_shards, prior_weight),
        likelihood_weight=jnp.full(num_shards, likelihood_weight),
        jacobian_weight=jnp.full(num_shards, jacobian_weight),
    )


def sort_labels(problem: Problem, values: Float[Array, " dim"]) -> Float[Array, " dim"]:
    """The copy of a point, under the problem's permutations, that comes first in dictionary order.

    The identity for a problem without permutations.
    """
    if problem.permutations is None:
        return values
    copies = values[problem.permutations]
    return copies[jnp.lexsort(copies.T[::-1])[0]]


def deal_labels(
    problem: Problem, key: PRNGKeyArray, *arrays: Float[Array, "*N dim"]
) -> tuple[Float[Array, "*N dim"], ...]:
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
