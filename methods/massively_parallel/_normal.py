"""Normal, multivariate Normal and half-Normal families.

Moments of Gaussians are kept about their mean: E x² - (E x)² cancels where a posterior is tight
and far from zero, the variance of weighted draws about their own mean does not.
"""

import abc
import math
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dncbench.methods.massively_parallel._family import (
    Family,
    expectation,
    number,
    positive,
    sum_event,
)

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Centred(NamedTuple):
    """Mean parameters of a Gaussian, about the mean.

    Attributes:
        mean: E x.
        spread: variance, or covariance matrix, with divisor 1.
    """

    mean: Float[Array, "..."]
    spread: Float[Array, "..."]


class Gaussian(Family):
    """A family whose draws are linear in standard Normal noise, of as many numbers."""

    @abc.abstractmethod
    def move(
        self, noise: Float[Array, "K ..."], event: tuple[int, ...]
    ) -> tuple[Float[Array, "K ..."], Float[Array, "K ..."]]:
        """Draws from noise (K, *plates, *event), and their log densities (K, *plates).

        The densities are those of the noise: (x - loc) / scale would lose digits where the scale
        is small. Parameters are ``(*plates, *event)``, as :meth:`expand` makes them.
        """

    def draw(
        self, key: PRNGKeyArray, num: int, plates: tuple[int, ...], event: tuple[int, ...]
    ) -> tuple[Float[Array, "K ..."], Float[Array, "K ..."]]:
        return self.move(jax.random.normal(key, (num, *plates, *event)), event)


class Normal(Gaussian):
    """Independent Normals; an event of many numbers has one for each."""

    loc: Float[Array, "..."] = eqx.field(converter=number)
    scale: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        noise = jax.random.normal(key, shape)
        return jnp.broadcast_to(self.loc, shape) + jnp.broadcast_to(self.scale, shape) * noise

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        z = (x - self.loc) / self.scale
        return -0.5 * z * z - jnp.log(self.scale) - _HALF_LOG_TWO_PI

    def move(
        self, noise: Float[Array, "K ..."], event: tuple[int, ...]
    ) -> tuple[Float[Array, "K ..."], Float[Array, "K ..."]]:
        log_q = -0.5 * noise * noise - jnp.log(self.scale)[None] - _HALF_LOG_TWO_PI
        return self.loc[None] + self.scale[None] * noise, sum_event(log_q, len(event))

    def statistics(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return x, x * x

    def moments(self, x: Float[Array, "K ..."], weights: Float[Array, "K ..."]) -> Centred:
        mean = expectation(x, weights)
        return Centred(mean, expectation((x - mean[None]) ** 2, weights))

    @classmethod
    def blend(cls, old: Centred, new: Centred, step: Float[Array, ""] | float) -> Centred:
        moved = new.mean - old.mean
        within = old.spread + step * (new.spread - old.spread)
        return Centred(old.mean + step * moved, within + step * (1.0 - step) * moved**2)

    def mean(self) -> Centred:
        return Centred(self.loc, self.scale**2)

    @classmethod
    def from_mean(cls, mean: Centred) -> "Normal":
        return cls(mean.mean, jnp.sqrt(positive(mean.spread)))


class MultivariateNormal(Gaussian):
    """A Normal vector with any covariance, given by its lower Cholesky factor.

    One distribution has loc (d,) and scale_tril (d, d).
    """

    core: ClassVar[int] = 1
    loc: Float[Array, "..."] = eqx.field(converter=number)
    scale_tril: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        noise = jax.random.normal(key, shape)
        loc = jnp.broadcast_to(self.loc, shape)
        return loc + jnp.einsum("...ij,...j->...i", self._many(shape), noise)

    def _many(self, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jnp.broadcast_to(self.scale_tril, (*shape, shape[-1]))

    def _log_volume(self) -> Float[Array, "..."]:
        """Log determinant of the factor, and the constant."""
        diagonal = jnp.diagonal(self.scale_tril, axis1=-2, axis2=-1)
        return jnp.sum(jnp.log(diagonal), axis=-1) + diagonal.shape[-1] * _HALF_LOG_TWO_PI

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        offset = jnp.expand_dims(x - jnp.broadcast_to(self.loc, x.shape), -1)
        z = solve_triangular(self._many(x.shape), offset, lower=True)
        return -0.5 * jnp.sum(z * z, axis=(-2, -1)) - self._log_volume()

    def move(
        self, noise: Float[Array, "K ..."], event: tuple[int, ...]
    ) -> tuple[Float[Array, "K ..."], Float[Array, "K ..."]]:
        x = self.loc[None] + jnp.einsum("...ij,k...j->k...i", self.scale_tril, noise)
        return x, -0.5 * jnp.sum(noise * noise, axis=-1) - self._log_volume()[None]

    def statistics(self, x: Float[Array, "..."]) -> tuple[Array, Array]:
        return x, _outer(x)

    def moments(self, x: Float[Array, "K ..."], weights: Float[Array, "K ..."]) -> Centred:
        mean = expectation(x, weights)
        offset = x - mean[None]
        weighted = jnp.expand_dims(weights, -1) * offset
        return Centred(mean, jnp.einsum("k...i,k...j->...ij", weighted, offset))

    @classmethod
    def blend(cls, old: Centred, new: Centred, step: Float[Array, ""] | float) -> Centred:
        moved = new.mean - old.mean
        within = old.spread + step * (new.spread - old.spread)
        return Centred(old.mean + step * moved, within + step * (1.0 - step) * _outer(moved))

    def mean(self) -> Centred:
        factor = self.scale_tril
        return Centred(self.loc, jnp.einsum("...ij,...kj->...ik", factor, factor))

    @classmethod
    def from_mean(cls, mean: Centred) -> "MultivariateNormal":
        shape = mean.spread.shape
        if mean.spread.ndim == 2:
            return cls(mean.mean, jnp.linalg.cholesky(mean.spread))
        # One after the other: a factorisation of many matrices at once has been seen to wait for
        # ever on the CPU, as dncbench.methods._gaussian says.
        flat = mean.spread.reshape(-1, *shape[-2:])
        return cls(mean.mean, jax.lax.map(jnp.linalg.cholesky, flat).reshape(shape))

    def expand(self, shape: tuple[int, ...]) -> "MultivariateNormal":
        return type(self)(jnp.broadcast_to(self.loc, shape), self._many(shape))


class HalfNormal(Family):
    """The absolute value of a Normal about zero."""

    scale: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jnp.broadcast_to(self.scale, shape) * jnp.abs(jax.random.normal(key, shape))

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        inside = -0.5 * (x / self.scale) ** 2 - jnp.log(self.scale) - _HALF_LOG_TWO_PI
        return jnp.where(x >= 0, inside + math.log(2.0), -jnp.inf)

    def statistics(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return x * x

    def mean(self) -> Float[Array, "..."]:
        return self.scale**2

    @classmethod
    def from_mean(cls, mean: Float[Array, "..."]) -> "HalfNormal":
        return cls(jnp.sqrt(positive(mean)))


def _outer(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    return jnp.expand_dims(x, -1) * jnp.expand_dims(x, -2)
