"""Draws: what a sampler hands to the merges, what the truth is, and how stacks are taken apart."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

Arrays = PyTree[np.ndarray | Array]
"""Arrays in any nesting: JAX's, or NumPy's where nothing is compiled."""


@dataclass(frozen=True)
class Draws:
    """Draws of S densities, with what the sampler knew about each.

    Attributes:
        values: (S, T, d) positions η, float64; (S, T) integer codes; whatever the
            problem's space holds.
        log_density: (S, T) unnormalised log densities at them; None where nobody knows.
        score: (S, T, d) gradients of the log density at them; None likewise.
        num_chains: C; T is C equal stretches, chain after chain, in sampling order.
        info: diagnostics and seconds; plain JSON values.
        conditional_score: the scores are gradients in θ of a joint log density p(θ, z) at
            joint draws, z being latent variables of the shard that were drawn as well. By
            Fisher's identity, ∇_θ log p(θ) = E[∇_θ log p(θ, z) given θ], each is an
            unbiased, noisy value of the subposterior's score: least squares stays consistent
            on it, interpolation does not.
    """

    values: Shaped[np.ndarray, "S T ..."]
    log_density: Float[np.ndarray, "S T"] | None = None
    score: Float[np.ndarray, "S T d"] | None = None
    num_chains: int = 1
    info: dict[str, Any] = field(default_factory=dict)
    conditional_score: bool = False

    def by_chain(self, shard: int) -> Shaped[np.ndarray, "C each ..."]:
        """One shard's values with the chains apart."""
        values = self.values[shard]
        return values.reshape(self.num_chains, -1, *values.shape[1:])

    def min_ess(self) -> np.ndarray:
        """(S,), each shard's smallest bulk ESS over the coordinates."""
        return np.array([shard["min_ess_bulk"] for shard in self.info["diagnostics"]])

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, for storage."""
        found = {"values": self.values, "log_density": self.log_density, "score": self.score}
        return {name: array for name, array in found.items() if array is not None}


class Check(NamedTuple):
    """One line of a certificate.

    Attributes:
        name: what was looked at, e.g. "NUTS: R-hat".
        value: what was found.
        limit: what is allowed; None for a figure that is only told.
        where: the coordinate it was found in, or a unit; "" where there is none.
        at_least: the limit is the smallest value allowed, not the largest.
    """

    name: str
    value: float
    limit: float | None = None
    where: str = ""
    at_least: bool = False

    @property
    def failed(self) -> bool:
        """Whether the limit is broken; what is not a number breaks every limit."""
        if self.limit is None:
            return False
        return not (self.value >= self.limit if self.at_least else self.value <= self.limit)

    def sentence(self) -> str:
        """What is wrong, for a check that failed."""
        where = f" ({self.where})" if self.where else ""
        side = "below" if self.at_least else "above"
        return f"{self.name} {self.value:.4g}{where} {side} {self.limit:.4g}"


class Truth(NamedTuple):
    """Draws of the full posterior that a problem knows, and why they can be trusted.

    Attributes:
        pool: (N, ...) draws, in the problem's space.
        independent: how many independent draws the pool is worth; N where it was drawn
            directly.
        log_probs: (K,) log probabilities of all objects of a finite support, exactly; None
            where there is none.
        checks: of the certificate.
        grade: "A", known exactly; "B", certified by samplers that agree; "given", read from
            somebody's file. A check that fails makes it "C".
    """

    pool: Shaped[np.ndarray, "N ..."]
    independent: float
    log_probs: Float[np.ndarray, " K"] | None
    checks: tuple[Check, ...]
    grade: str = "A"


# ---------------------------------------------------------------- taking stacks apart


def alone(stack: Any, place: int) -> Any:
    """One member of a stacked pytree, with a leading axis of one; what is no array stays."""
    return jax.tree.map(lambda leaf: leaf[place : place + 1] if eqx.is_array(leaf) else leaf, stack)


def one(stack: Any, place: int = 0) -> Any:
    """One member of a stacked pytree, without the leading axis."""
    return jax.tree.map(lambda leaf: leaf[place] if eqx.is_array(leaf) else leaf, stack)


def evenly(num_available: int, num_wanted: int) -> np.ndarray:
    """Row numbers that thin ``num_available`` draws to ``num_wanted``, evenly spaced.

    Where fewer are available than wanted, rows repeat as evenly as possible.
    """
    return (np.arange(num_wanted) * num_available) // num_wanted


def at_most(num_available: int, most: int) -> np.ndarray:
    """Row numbers that thin to at most so many draws, evenly spaced; all where there are fewer."""
    return evenly(num_available, min(most, num_available))


def categorical(
    key: PRNGKeyArray, log_probs: Float[Array | np.ndarray, " K"], num_draws: int
) -> Int[Array, " num_draws"]:
    """Independent draws of a law on K objects, by inverting its distribution function.

    ``jax.random.categorical`` needs memory for num_draws K numbers.
    """
    below = jnp.cumsum(jnp.exp(jnp.asarray(log_probs)))
    found = jnp.searchsorted(below, jax.random.uniform(key, (num_draws,)) * below[-1])
    return jnp.minimum(found, len(below) - 1)


def systematic(
    key: PRNGKeyArray, weights: Float[Array, " N"], num_draws: int
) -> Int[Array, " num_draws"]:
    """Row numbers by systematic resampling: each as often as its weight says, to within one.

    Args:
        key: random key.
        weights: that sum to one.
        num_draws: how many rows.
    """
    ticks = (jnp.arange(num_draws) + jax.random.uniform(key)) / num_draws
    return jnp.minimum(jnp.searchsorted(jnp.cumsum(weights), ticks), len(weights) - 1)
