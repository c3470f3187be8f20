"""Bernoulli, Categorical, Binomial and Poisson families.

Probabilities are held as logits: a likelihood has them from a linear predictor, and no rounding
makes a probability of them 0 or 1.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from dncbench.methods.massively_parallel._family import (
    Family,
    expectation,
    inside,
    number,
    positive,
)


class Finite(Family):
    """A family whose values can be listed."""

    @abc.abstractmethod
    def num_values(self) -> int:
        """How many there are; parameters must be known when this is asked."""

    @classmethod
    def support(cls, num: int) -> Shaped[Array, " num"]:
        """The values, of which there are so many."""
        return jnp.arange(num, dtype=float)


class Bernoulli(Finite):
    """0.0 or 1.0, with the log odds of 1."""

    logits: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        heads = jax.random.bernoulli(key, jax.nn.sigmoid(jnp.broadcast_to(self.logits, shape)))
        return heads.astype(self.logits.dtype)

    def log_density(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        return x * self.logits - _softplus(self.logits)

    def statistics(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        return x.astype(self.logits.dtype)

    def mean(self) -> Float[Array, "..."]:
        return jax.nn.sigmoid(self.logits)

    @classmethod
    def from_mean(cls, mean: Float[Array, "..."]) -> "Bernoulli":
        return cls(_log_odds(mean))

    def num_values(self) -> int:
        return 2


class Categorical(Finite):
    """Whole numbers 0 to C - 1, with unnormalised log probabilities (C,)."""

    logits: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Int[Array, "..."]:
        logits = jnp.broadcast_to(self.logits, (*shape, self.logits.shape[-1]))
        return jax.random.categorical(key, logits)

    def log_density(self, x: Int[Array, "..."]) -> Float[Array, "..."]:
        log_probabilities = jnp.broadcast_to(
            jax.nn.log_softmax(self.logits), (*x.shape, self.logits.shape[-1])
        )
        return jnp.take_along_axis(log_probabilities, jnp.expand_dims(x, -1), axis=-1)[..., 0]

    def statistics(self, x: Int[Array, "..."]) -> Float[Array, "... C"]:
        return jax.nn.one_hot(x, self.logits.shape[-1], dtype=self.logits.dtype)

    def mean(self) -> Float[Array, "... C"]:
        return jax.nn.softmax(self.logits)

    @classmethod
    def from_mean(cls, mean: Float[Array, "... C"]) -> "Categorical":
        return cls(jnp.log(positive(mean)))

    def expand(self, shape: tuple[int, ...]) -> "Categorical":
        return type(self)(jnp.broadcast_to(self.logits, (*shape, self.logits.shape[-1])))

    def num_values(self) -> int:
        return self.logits.shape[-1]

    @classmethod
    def support(cls, num: int) -> Int[Array, " num"]:
        return jnp.arange(num)


class BinomialMean(NamedTuple):
    """Mean parameter of a Binomial, and the number of trials, which is no parameter of it.

    Attributes:
        mean: E x.
        total: trials.
    """

    mean: Float[Array, "..."]
    total: Float[Array, "..."]


class Binomial(Finite):
    """Successes, as floats, among a known number of trials, with the log odds of each."""

    total: Float[Array, "..."] = eqx.field(converter=number)
    logits: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        total, logits = jnp.broadcast_to(self.total, shape), jnp.broadcast_to(self.logits, shape)
        return jax.random.binomial(key, total, jax.nn.sigmoid(logits), shape)

    def log_density(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        ways = gammaln(self.total + 1.0) - gammaln(x + 1.0) - gammaln(self.total - x + 1.0)
        return ways + x * self.logits - self.total * _softplus(self.logits)

    def statistics(self, x: Shaped[Array, "..."]) -> BinomialMean:
        return BinomialMean(x.astype(self.logits.dtype), jnp.broadcast_to(self.total, x.shape))

    def moments(self, x: Shaped[Array, "K ..."], weights: Float[Array, "K ..."]) -> BinomialMean:
        # The trials are known: as a weighted sum they would drift by rounding.
        return BinomialMean(expectation(x, weights), self.total)

    def mean(self) -> BinomialMean:
        return BinomialMean(self.total * jax.nn.sigmoid(self.logits), self.total)

    @classmethod
    def from_mean(cls, mean: BinomialMean) -> "Binomial":
        return cls(mean.total, _log_odds(mean.mean / mean.total))

    def num_values(self) -> int:
        return int(jnp.max(self.total)) + 1


class Poisson(Family):
    """Counts, as floats."""

    rate: Float[Array, "..."] = eqx.field(converter=number)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        counts = jax.random.poisson(key, jnp.broadcast_to(self.rate, shape), shape)
        return counts.astype(self.rate.dtype)

    def log_density(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        return x * jnp.log(self.rate) - self.rate - gammaln(x + 1.0)

    def statistics(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        return x.astype(self.rate.dtype)

    def mean(self) -> Float[Array, "..."]:
        return self.rate

    @classmethod
    def from_mean(cls, mean: Float[Array, "..."]) -> "Poisson":
        return cls(positive(mean))


def _log_odds(probability: Float[Array, "..."]) -> Float[Array, "..."]:
    """Finite, also where an average has decayed to 0 or rounded to 1."""
    probability = inside(probability)
    return jnp.log(probability) - jnp.log1p(-probability)


def _softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + exp x), in a form that takes a fifth of the time of ``jax.nn.softplus`` on a CPU."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))
