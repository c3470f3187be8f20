"""What problems of enumerable objects share: clients' rewards as tables, and an exact truth."""

import abc
import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import log_softmax

from dncbench.draws import Arrays, Check, Draws, Truth, categorical
from dncbench.problem import Data, Problem, Split
from dncbench.space import Codes, Space
from dncbench.stategraph.environment import Environment
from dncbench.stategraph.graph import StateGraph, tabulate
from dncbench.stategraph.sites import Sites

_INDEPENDENT = 1e-8  # share of a coordinate's variance that others must leave unexplained


class LogRewards(eqx.Module):
    """A log density of objects: a table in which their codes are looked up.

    Attributes:
        table: (K,) log rewards; stacked over shards, (S, K).
    """

    table: Float[Array, "*S K"]

    def __call__(self, code: Int[Array, ""]) -> Float[Array, ""]:
        """Log reward of one object."""
        return self.table[code]


class Enumerated(Problem):
    """Shards with a reward R_n(x) > 0 for each of K objects; the truth is Π_n R_n, normalised.

    Objects are built step by step (``environment``), and coded by their places in the state
    graph (``graph``). Each observation adds its own part to an object's log reward
    (``log_terms``); the prior (``log_prior``), flat by default, is shared out to the shards.
    """

    headline = ("tv",)
    unit: ClassVar = "clients"

    @property
    @abc.abstractmethod
    def environment(self) -> Environment:
        """How objects are built; a value that can be hashed."""

    @abc.abstractmethod
    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "n K"]:
        """What each observation adds to the log reward of each object."""

    def log_prior(self) -> Float[np.ndarray, " K"]:
        """Log prior of each object, up to a constant."""
        return np.zeros(self.graph.num_objects)

    @abc.abstractmethod
    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """Numbers that describe an object, with their names."""

    def told(self, data: Data) -> tuple[Check, ...]:
        """Further lines of the certificate: what else should be known of the problem."""
        return ()

    @property
    def sites(self) -> Sites | None:
        """The objects as values at places; None where they are not made of such."""
        return None

    @property
    def graph(self) -> StateGraph:
        """The tabulated state graph."""
        return tabulated(self.environment)

    @property
    def space(self) -> Space:
        """Codes, embedded by coordinates of which none is an affine function of others."""
        names, table = _embedding(self)
        return Codes(names, "codes", self.graph.num_objects, lambda codes: table[codes])

    def log_rewards(self, data: Data, split: Split) -> Float[np.ndarray, "S K"]:
        """Every shard's log rewards, each with its share 1/S of the log prior."""
        holds = split.shard_of[None] == np.arange(split.num_shards)[:, None]
        terms = holds.astype(float) @ self.log_terms(data.train)
        return terms + self.log_prior()[None] / split.num_shards

    def density(self, data: Data, split: Split, kind: str, space: Space) -> LogRewards:
        """Tables of log rewards; inflating p(θ)^(1/S) p(Y_s given θ) is a power."""
        power = split.num_shards if kind == "inflated" else 1
        return LogRewards(jnp.asarray(power * self.log_rewards(data, split)))

    def draws(
        self, data: Data, split: Split, kind: str, key: PRNGKeyArray, num_draws: int
    ) -> Draws:
        """Independent draws of every shard's enumerated law."""
        table = np.asarray(self.density(data, split, kind, self.space).table)
        keys = jax.random.split(key, split.num_shards)
        codes = [
            categorical(k, log_softmax(row), num_draws) for row, k in zip(table, keys, strict=True)
        ]
        values = np.stack(codes)
        return Draws(values, np.take_along_axis(table, values, axis=1))

    def truth(self, data: Data, key: PRNGKeyArray, num_draws: int) -> Truth:
        """The enumerated law, and independent draws of it."""
        log_probs = log_softmax(self.log_rewards(data, self.whole(data))[0])
        checks = (
            Check("objects enumerated", self.graph.num_objects),
            Check("entropy", entropy(log_probs), where="nats"),
            Check("entropy of the flat law", float(np.log(len(log_probs))), where="nats"),
            *self.told(data),
        )
        return Truth(
            np.asarray(categorical(key, log_probs, num_draws)), num_draws, log_probs, checks
        )


def entropy(log_probs: Float[np.ndarray, " K"]) -> float:
    """In nats."""
    return float(-np.sum(np.exp(log_probs) * log_probs))


@functools.lru_cache(maxsize=16)
def tabulated(environment: Environment) -> StateGraph:
    """The state graph, kept."""
    return tabulate(environment)


@functools.lru_cache(maxsize=16)
def _embedding(problem: Enumerated) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and table (K, p) without coordinates that others determine.

    They would make every covariance singular. In order: the last of several that sum to a
    constant is left out.
    """
    names, table = problem.coordinates()
    centred = table - table.mean(0)
    kept: list[int] = []
    basis = np.zeros((len(table), 0))
    for column, values in enumerate(centred.T):
        rest = values - basis @ (basis.T @ values)
        rest = rest - basis @ (basis.T @ rest)  # twice is enough
        if rest @ rest > _INDEPENDENT * max(values @ values, 1e-300):
            kept.append(column)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return tuple(names[column] for column in kept), table[:, kept]
