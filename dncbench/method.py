"""The contract of a merge method."""

import abc
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dncbench import precision as precision

NEEDS = {
    "draws": "subposterior draws",
    "log_density": "their log densities",
    "score": "their scores",
    "inflated": "draws of the inflated subposteriors",
    "covariance": "more draws than dimensions, with a non-singular covariance",
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
        ess: () how many independent draws the shard's draws are worth: the
            smallest bulk ESS over coordinates, T where it is not known.
    """

    values: Float[Array, "*S T d"] | None = None
    log_density: Float[Array, "*S T"] | None = None
    score: Float[Array, "*S T d"] | None = None
    inflated: Float[Array, "*S T_inflated d"] | None = None
    ess: Float[Array, "*S"] | None = None


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

    traceable: ClassVar[bool] = True
    """Whether ``fit`` and ``merge`` can be compiled by JAX."""

    @abc.abstractmethod
    def fit(self, shard: ShardDraws, key: PRNGKeyArray) -> PyTree[Array]:
        """Reduce one shard to its message."""

    @abc.abstractmethod
    def merge(
        self, messages: PyTree[Array], key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Merge the S stacked messages into draws.

        Returns:
            ``num_draws`` draws (num_draws, d), and an info dictionary of scalars:
            anything worth recording, and ``ess`` where the merged draws are worth
            fewer independent draws than the scarcest shard's (the default).
        """

    @classmethod
    def track(cls) -> str:
        """What the method was allowed to use, in a few words; ranks are given within a track."""
        if "reference" in cls.needs:
            return "reference"
        used = ["inflated draws" if "inflated" in cls.needs else "draws"]
        used += ["log densities"] * ("log_density" in cls.needs)
        used += ["scores"] * ("score" in cls.needs)
        return " + ".join(used)

    @classmethod
    def contract_violation(cls, subclass: type) -> str | None:
        """What a subclass still misses that abstract methods cannot say, or None."""
        needs = getattr(subclass, "needs", None)
        if not isinstance(needs, frozenset | set) or not needs:
            return "needs must be a frozenset with at least one of " + ", ".join(NEEDS)
        unknown = sorted(set(needs) - set(NEEDS))
        if unknown:
            return f"needs names {', '.join(unknown)}; known: {', '.join(NEEDS)}"
        if not {"draws", "inflated", "reference"} & set(needs):
            return "needs must name draws, inflated or reference: there is nothing to merge"
        return None
