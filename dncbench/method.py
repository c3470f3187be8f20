"""The contract of a merge method."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench import precision as precision

NEEDS = {
    "draws": "subposterior draws",
    "log_density": "their log densities",
    "score": "their scores",
    "inflated": "draws of the inflated subposteriors",
    "covariance": "more draws than dimensions, with a non-singular covariance",
    "model": "evaluations of its own log density, at points of the method's choice",
    "reference": "draws of the full posterior itself",
}
"""What a method may ask for in ``needs``; the framework provides it or says why it cannot."""


class ShardDraws(eqx.Module):
    """What one shard holds when ``fit`` runs on it.

    Only what the method's ``needs`` name is there; the rest is None. The framework
    holds all shards in one, stacked along a leading axis of S; ``fit`` sees no such axis.

    Attributes:
        values: (T, d) subposterior draws.
        log_density: (T,) unnormalised log densities at them.
        score: (T, d) gradients of the log density at them.
        inflated: (T, d) draws of the inflated subposterior p(θ) p(Y_s given θ)^S.
        density: the shard's own log density, a function of η (d,) that JAX can
            differentiate; an Equinox module whose arrays are stacked like all others.
        ess: () how many independent draws the shard's draws are worth: the
            smallest bulk ESS over coordinates, T where it is not known.
    """

    values: Float[Array, "*S T d"] | None = None
    log_density: Float[Array, "*S T"] | None = None
    score: Float[Array, "*S T d"] | None = None
    inflated: Float[Array, "*S T_inflated d"] | None = None
    density: Callable[[Float[Array, " d"]], Float[Array, ""]] | None = None
    ess: Float[Array, "*S"] | None = None


class Round(NamedTuple):
    """One round of communication, as the server remembers it.

    Attributes:
        broadcast: what :meth:`Method.aggregate` sent to every shard; None in the first round.
        messages: what came back, stacked along a leading axis of S.
    """

    broadcast: PyTree[Array]
    messages: PyTree[Array]


class Method(eqx.Module):
    """A way of merging subposterior draws; subclass and register it.

    Hyperparameters are dataclass fields with defaults, settable from the command
    line (``--method "consensus[weights=shard]"``). ``fit`` sees one shard and
    returns its message, any pytree of arrays; a message is all that crosses the
    network, and its bytes are counted. ``merge`` sees the messages stacked along a
    leading axis of S and nothing else. Both are compiled by the framework, ``fit``
    mapped over the shards, so they must be JAX-traceable; a method that cannot be
    sets ``traceable = False``, is called with NumPy arrays, shard by shard, and
    gets a list of messages.

    A method of more than one round (``num_rounds``) also gives ``aggregate``, what the
    server sends to the shards after a round, and ``refit``, what a shard answers; its
    ``merge`` is handed all rounds, a tuple of :class:`Round`. Bytes are counted both ways.

    ``needs`` and ``num_rounds`` may be properties, where they depend on the settings.

    Example:
        >>> @register_method("median")
        ... class Median(Method):
        ...     \"\"\"Coordinate-wise median over shards of independently shuffled draws.\"\"\"
        ...     def fit(self, shard, key):
        ...         return jax.random.permutation(key, shard.values)
        ...     def merge(self, messages, key, num_draws):
        ...         rows = evenly(messages.shape[1], num_draws)
        ...         return jnp.median(messages[:, rows], axis=0), {}
    """

    needs: ClassVar[frozenset[str]] = frozenset({"draws"})
    """What the method uses; keys of :data:`NEEDS`."""

    exact_for_gaussians: ClassVar[bool] = False
    """Whether Gaussian subposteriors merge to the noise floor; held to it by the tests."""

    cites: ClassVar[tuple[str, ...]] = ()
    """What to cite: keys of ``dncbench/citations.bib``, or whole BibTeX entries."""

    traceable: ClassVar[bool] = True
    """Whether ``fit`` and ``merge`` can be compiled by JAX."""

    num_rounds: ClassVar[int] = 1
    """How many times the shards are asked."""

    @abc.abstractmethod
    def fit(self, shard: ShardDraws, key: PRNGKeyArray) -> PyTree[Array]:
        """Reduce one shard to its message."""

    @abc.abstractmethod
    def merge(
        self, messages: PyTree[Array], key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Merge the S stacked messages into draws.

        Returns:
            ``num_draws`` draws (num_draws, d), and an info dictionary of scalars or short
            vectors: anything worth recording. Known to the framework are ``ess``, where
            the merged draws are worth fewer independent draws than the scarcest shard's
            (the default); ``max_rhat`` of any inner MCMC (above 1.05, or with an ``ess``
            below 100, the cell is marked unreliable); ``learning_curve``, (K,) losses in
            the course of training, which the report draws; ``warnings``, a dictionary of
            sentences to flags (arrays of booleans), of which the raised ones are
            shown; and ``log_density``, (num_draws,), the unnormalised log density
            that the draws were drawn from, which is not recorded but lets the harness
            see how far it is from the posterior's (Pareto k-hat).
        """

    def aggregate(self, rounds: tuple[Round, ...], key: PRNGKeyArray) -> PyTree[Array]:
        """What the server sends to every shard after the rounds so far."""
        raise NotImplementedError

    def refit(
        self, shard: ShardDraws, broadcast: PyTree[Array], key: PRNGKeyArray
    ) -> PyTree[Array]:
        """A shard's answer to a broadcast: its message of the next round."""
        raise NotImplementedError

    def track(self) -> str:
        """What the method was allowed to use, in a few words; ranks are given within a track."""
        if "reference" in self.needs:
            return "reference"
        used = ["inflated draws" if "inflated" in self.needs else "draws"]
        used += ["log densities"] * ("log_density" in self.needs)
        used += ["scores"] * ("score" in self.needs)
        if self.num_rounds > 1:
            used += [f"{self.num_rounds} rounds"]
        elif "model" in self.needs:
            used += ["the model"]
        return " + ".join(used)

    @classmethod
    def contract_violation(cls, subclass: type) -> str | None:
        """What a subclass still misses that abstract methods cannot say, or None."""
        needs = getattr(subclass, "needs", None)
        if isinstance(needs, property):
            needs = subclass().needs
        if not isinstance(needs, frozenset | set) or not needs:
            return "needs must be a frozenset with at least one of " + ", ".join(NEEDS)
        unknown = sorted(set(needs) - set(NEEDS))
        if unknown:
            return f"needs names {', '.join(unknown)}; known: {', '.join(NEEDS)}"
        if not {"draws", "inflated", "reference"} & set(needs):
            return "needs must name draws, inflated or reference: there is nothing to merge"
        rounds = getattr(subclass, "num_rounds", 1)
        several = isinstance(rounds, property) or rounds > 1
        for name in ("aggregate", "refit"):
            if several and getattr(subclass, name) is getattr(Method, name):
                return f"num_rounds may exceed 1, so it must define {name}"
        return None
