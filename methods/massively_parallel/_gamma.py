"""Gamma, Exponential, Beta and Dirichlet families.

The Gamma's and the Dirichlet's M-steps have no closed form; both are by Newton's method, with the
fixed numbers of steps that a traced program needs (Minka, "Beyond Newton's method", 2002, and
"Estimating a Dirichlet distribution", 2000).
"""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, digamma, gammaln, polygamma
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.methods.massively_parallel._family import Family, inside, number, positive

_GAMMA_STEPS = 6
_FIXED_POINT_STEPS = 5
_DIRICHLET_STEPS = 8  # six leave errors of 1e-4 where concentrations are 1e-3 and 1e3 at once
_INVERSE_STEPS = 6


class GammaMean(NamedTuple):
    """Mean parameters of a Gamma.

    Attributes:
        log: E log x.
        mean: E x.
    """

    log: Float[Array, "..."]
    mean: Float[Array, "..."]


class Gamma(Family):
    """Positive numbers, with density proportional to x^(concentration - 1) exp(-rate x)."""

    concentration: Float[Array, "..."] = eqx.field(converter=number)
    rate: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        standard = jax.random.gamma(key, jnp.broadcast_to(self.concentration, shape), shape)
        return positive(standard / jnp.broadcast_to(self.rate, shape))

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        a, b = self.concentration, self.rate
        return a * jnp.log(b) - gammaln(a) + (a - 1.0) * jnp.log(x) - b * x

    def statistics(self, x: Float[Array, "..."]) -> GammaMean:
        return GammaMean(jnp.log(x), x)

    def mean(self) -> GammaMean:
        a, b = self.concentration, self.rate
        return GammaMean(digamma(a) - jnp.log(b), a / b)

    @classmethod
    def from_mean(cls, mean: GammaMean) -> "Gamma":
        # Of Jensen's inequality: positive, and hardly ever as small as its rounding.
        gap = _resolved(jnp.log(mean.mean) - mean.log)

        def newton(_: Array, a: Array) -> Array:
            slope = a**2 * (1.0 / a - polygamma(1, a))
            return 1.0 / (1.0 / a + (jnp.log(a) - digamma(a) - gap) / slope)

        a = jax.lax.fori_loop(0, _GAMMA_STEPS, newton, 0.5 / gap)
        return cls(a, a / mean.mean)


class Exponential(Family):
    """Positive numbers with a constant hazard."""

    rate: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jax.random.exponential(key, shape) / jnp.broadcast_to(self.rate, shape)

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(x >= 0, jnp.log(self.rate) - self.rate * x, -jnp.inf)

    def statistics(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return x

    def mean(self) -> Float[Array, "..."]:
        return 1.0 / self.rate

    @classmethod
    def from_mean(cls, mean: Float[Array, "..."]) -> "Exponential":
        return cls(1.0 / mean)


class Beta(Family):
    """Numbers between 0 and 1, with density proportional to x^(a - 1) (1 - x)^(b - 1)."""

    a: Float[Array, "..."] = eqx.field(converter=number)
    b: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        a, b = jnp.broadcast_to(self.a, shape), jnp.broadcast_to(self.b, shape)
        return inside(jax.random.beta(key, a, b, shape))

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        powers = (self.a - 1.0) * jnp.log(x) + (self.b - 1.0) * jnp.log1p(-x)
        return powers - betaln(self.a, self.b)

    def statistics(self, x: Float[Array, "..."]) -> Float[Array, "... 2"]:
        return jnp.stack([jnp.log(x), jnp.log1p(-x)], axis=-1)

    def mean(self) -> Float[Array, "... 2"]:
        return Dirichlet(jnp.stack([self.a, self.b], axis=-1)).mean()

    @classmethod
    def from_mean(cls, mean: Float[Array, "... 2"]) -> "Beta":
        both = Dirichlet.from_mean(mean).concentration
        return cls(both[..., 0], both[..., 1])


class Dirichlet(Family):
    """Vectors (d,) of positive numbers that sum to 1."""

    core: ClassVar[int] = 1
    concentration: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        concentration = jnp.broadcast_to(self.concentration, shape)
        return positive(jax.random.dirichlet(key, concentration, shape[:-1]))

    def log_density(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        a = jnp.broadcast_to(self.concentration, x.shape)
        volume = jnp.sum(gammaln(a), axis=-1) - gammaln(jnp.sum(a, axis=-1))
        return jnp.sum((a - 1.0) * jnp.log(x), axis=-1) - volume

    def statistics(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.log(x)

    def mean(self) -> Float[Array, "..."]:
        a = self.concentration
        return digamma(a) - digamma(jnp.sum(a, axis=-1, keepdims=True))

    @classmethod
    def from_mean(cls, mean: Float[Array, "..."]) -> "Dirichlet":
        def fixed_point(_: Array, a: Array) -> Array:
            return _inverse_digamma(digamma(_total(a)) + mean)

        def newton(_: Array, a: Array) -> Array:
            gradient = digamma(_total(a)) - digamma(a) + mean
            diagonal = -polygamma(1, a)
            shared = _total(gradient / diagonal) / (
                1.0 / polygamma(1, _total(a)) + _total(1.0 / diagonal)
            )
            # A long step could leave the positive numbers.
            return jnp.maximum(a - (gradient - shared) / diagonal, 0.25 * a)

        # For large concentrations 1 - Σ exp E log x_i is (d - 1) / (2 Σ a); from the same start
        # for all, the steps here would not come near those.
        likeliest = jnp.exp(mean)
        share = _total(likeliest)
        a = likeliest / share * (mean.shape[-1] - 1) / (2.0 * _resolved(1.0 - share))
        a = jax.lax.fori_loop(0, _FIXED_POINT_STEPS, fixed_point, a)
        return cls(jax.lax.fori_loop(0, _DIRICHLET_STEPS, newton, a))


def _resolved(difference: Float[Array, "..."]) -> Float[Array, "..."]:
    """A positive difference of numbers of order 1, no smaller than they resolve."""
    return jnp.maximum(difference, jnp.finfo(difference.dtype).eps)


def _total(a: Float[Array, "..."]) -> Float[Array, "... 1"]:
    return jnp.sum(a, axis=-1, keepdims=True)


def _inverse_digamma(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """The x with digamma(x) = y; Minka (2000), appendix C."""
    near_zero = -1.0 / (y - digamma(1.0))
    x = jnp.where(y > -2.22, jnp.exp(y) + 0.5, near_zero)
    for _ in range(_INVERSE_STEPS):
        x = x - (digamma(x) - y) / polygamma(1, x)
    return x
