"""What an exponential family is to QEM: draws, densities, moments of weighted draws, an M-step.

A family is a class; an instance holds conventional parameters, of one distribution or of many at
once. Mean parameters are a tree of arrays: expectations of the sufficient statistics, or, for
Gaussians, mean and central second moment, which say the same and do not cancel.
"""

import abc
from typing import Any, ClassVar, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

Mean = Any
"""Mean parameters: a tree of arrays, whose layout is the family's own affair."""


class Law(Protocol):
    """What a prior or a likelihood has to be; every family is one."""

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Shaped[Array, "..."]:
        """Draws of a shape, to which the parameters are broadcast."""
        ...

    def log_prob(self, x: Shaped[Array, "..."]) -> Float[Array, ""]:
        """Log density of all of x, whose entries are independent."""
        ...


class Family(eqx.Module):
    """An exponential family; its fields are its conventional parameters.

    Parameters are scalars or arrays. Of many distributions at once they have the shape of the
    values, ``(*plates, *event)``; parameters that are vectors or matrices themselves (the scale of
    a multivariate Normal, probabilities of categories) have further axes at the end.

    Attributes:
        core: how many trailing axes of a value belong together: 1 for vectors, 0 for numbers.
    """

    core: ClassVar[int] = 0

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Shaped[Array, "..."]:
        """Draws of a shape, to which the parameters are broadcast."""

    @abc.abstractmethod
    def log_density(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """Log density of each value of x; parameters are scalars or as many as the values."""

    @abc.abstractmethod
    def statistics(self, x: Shaped[Array, "..."]) -> PyTree[Float[Array, "..."]]:
        """Sufficient statistics of each value of x."""

    @abc.abstractmethod
    def mean(self) -> Mean:
        """Mean parameters."""

    @classmethod
    @abc.abstractmethod
    def from_mean(cls, mean: Mean) -> "Family":
        """The M-step: the member of the family that has these mean parameters."""

    def log_prob(self, x: Shaped[Array, "..."]) -> Float[Array, ""]:
        """Log density of all of x, whose entries are independent."""
        return jnp.sum(self.log_density(x))

    def moments(self, x: Shaped[Array, "K ..."], weights: Float[Array, "K ..."]) -> Mean:
        """Mean parameters of weighted draws.

        Args:
            x: (K, *plates, *event).
            weights: (K, *plates); they sum to 1 over K.
        """
        return jax.tree.map(lambda leaf: expectation(leaf, weights), self.statistics(x))

    @classmethod
    def blend(cls, old: Mean, new: Mean, step: Float[Array, ""] | float) -> Mean:
        """Mean parameters of the mixture (1 - step) old + step new."""
        return jax.tree.map(lambda a, b: a + step * (b - a), old, new)

    def draw(
        self, key: PRNGKeyArray, num: int, plates: tuple[int, ...], event: tuple[int, ...]
    ) -> tuple[Shaped[Array, "K ..."], Float[Array, "K ..."]]:
        """K independent draws of each of many distributions, and the log density of each.

        Args:
            key: random key.
            num: K.
            plates: sizes of the plates; parameters are ``(*plates, *event)``, as
                :meth:`expand` makes them.
            event: shape of one draw.

        Returns:
            Draws (K, *plates, *event) and their log densities (K, *plates).
        """
        x = self.sample(key, (num, *plates, *event))
        return x, sum_event(jax.vmap(self.log_density)(x), len(event) - self.core)

    def expand(self, shape: tuple[int, ...]) -> "Family":
        """Parameters of as many distributions as make values of a shape, ``(*plates, *event)``."""
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape), self)


def number(value: Shaped[Array | np.ndarray, "..."] | float) -> Float[Array, "..."]:
    """A parameter as an array of floats."""
    return jnp.asarray(value, jnp.result_type(float, value))


def positive(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """At least the smallest normal number, of which there is a logarithm and an inverse."""
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def inside(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Strictly between 0 and 1."""
    limits = jnp.finfo(x.dtype)
    return jnp.clip(x, limits.tiny, 1.0 - limits.epsneg)


def expectation(values: Shaped[Array, "K ..."], weights: Float[Array, "K ..."]) -> Array:
    """Σ_k w_k values_k; weights (K, *plates) are those of all trailing axes of the values."""
    trailing = tuple(range(weights.ndim, values.ndim))
    return jnp.sum(jnp.expand_dims(weights, trailing) * values, axis=0)


def sum_event(values: Float[Array, "..."], num: int) -> Float[Array, "..."]:
    """Sum over so many trailing axes."""
    return jnp.sum(values, axis=tuple(range(values.ndim - num, values.ndim))) if num else values
