"""The contract of a merge method."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from dncbench import precision as precision
from dncbench.draws import Arrays
from dncbench.space import KINDS
from dncbench.storage.identity import REFERENCE_TRACK

NEEDS = {
    "draws": "subposterior draws",
    "log_density": "their log densities",
    "score": "their scores",
    "inflated": "draws of the inflated subposteriors",
    "covariance": "more draws than dimensions, with a non-singular covariance",
    "model": "evaluations of its own log density, at points of the method's choice",
    "data": "the shard's observations, and the problem",
    "problem": "what everybody knows of the problem, e.g. how its objects are built; no data",
    "reference": "draws of the full posterior itself",
}
"""What a method may ask for in ``needs``; the framework provides it or says why it cannot."""

STEPS = ("begin", "answer", "aggregate", "finish")
"""What a method is asked to do: the first two on every shard, the others where messages meet."""


class Shard(eqx.Module):
    """What one shard holds when a method runs on it.

    Only what the method's ``needs`` name is there; the rest is None. The framework
    holds all shards in one, stacked along a leading axis of S; a method sees no such axis.

    Attributes:
        values: (T, d) subposterior draws; (T,) codes where the problem's space says so.
        log_density: (T,) unnormalised log densities at them.
        score: (T, d) gradients of the log density at them. Where ``conditional_score``,
            each is an unbiased, noisy value of it (see :class:`dncbench.draws.Draws`).
        inflated: (T, d) draws of the inflated subposterior p(θ) p(Y_s given θ)^S.
        density: the shard's own log density, a function of η (d,) that JAX can
            differentiate; an Equinox module whose arrays are stacked like all others.
        ess: () how many independent draws the shard's draws are worth: the
            smallest bulk ESS over coordinates, T where it is not known.
        data: the shard's observations, pytree with a leading axis of n, padded.
        mask: (n,) 1 for an observation, 0 for padding.
        problem: what the observations or draws are of.
        num_shards: S.
        conditional_score: see ``score``.
    """

    values: Shaped[Array, "*draws"] | None = None
    log_density: Float[Array, "*S T"] | None = None
    score: Float[Array, "*S T d"] | None = None
    inflated: Float[Array, "*S T_inflated d"] | None = None
    density: Callable[[Float[Array, " d"]], Float[Array, ""]] | None = None
    ess: Float[Array, "*S"] | None = None
    data: Arrays = None
    mask: Float[Array, "*S n"] | None = None
    problem: Any = None
    num_shards: int | None = eqx.field(static=True, default=None)
    conditional_score: bool = eqx.field(static=True, default=False)


class Method(eqx.Module):
    """A way of merging subposteriors; subclass and register it.

    Hyperparameters are dataclass fields with defaults, settable from the command
    line (``--method "consensus[weights=shard]"``). ``fit`` sees one shard and
    returns its message, any pytree of arrays; a message is all that crosses the
    network, and its bytes are counted. ``merge`` sees the messages stacked along a
    leading axis of S and nothing else. Both are compiled by the framework, ``fit``
    mapped over the shards, so they must be JAX-traceable. What cannot be is named in
    ``untraced``: such a step is called with NumPy arrays, shard by shard where it runs on
    shards, and what they answer comes as a list.

    A method of more than one round (``num_rounds``) defines these instead::

        begin(shard, key)                            -> state, message     first round
        aggregate(server, messages, key)             -> server, broadcast  after each but the last
        answer(shard, state, broadcast, key)         -> state, message     every further round
        finish(server, messages, key, num_draws)     -> draws, info        after the last

    A state stays on its shard. Server, broadcast, state and message keep their shapes from
    one round to the next (the server starts as ``initial_server(messages)`` says), so
    that any number of rounds compiles equally many programs. Bytes are counted both ways.

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

    spaces: ClassVar[frozenset[str]] = frozenset({"real"})
    """Kinds of spaces (:data:`dncbench.space.KINDS`) whose draws it can merge."""

    exact_for_gaussians: ClassVar[bool] = False
    """Whether Gaussian subposteriors merge to the noise floor; held to it by the tests."""

    cites: ClassVar[tuple[str, ...]] = ()
    """What to cite: keys of ``dncbench/citations.bib``, or whole BibTeX entries."""

    untraced: ClassVar[frozenset[str]] = frozenset()
    """Which of :data:`STEPS` JAX cannot compile."""

    num_rounds: ClassVar[int] = 1
    """How many times the shards are asked."""

    finishes_any_round: ClassVar[bool] = False
    """Whether ``finish`` may be asked after any round, as the framework then does to record
    how far each round is from the truth."""

    @property
    def shared_fit(self) -> Hashable | None:
        """What tells this method's fit apart, where other methods have the same; None by default.

        Methods of one round whose ``shared_fit`` is equal merge the same messages of a split. They
        must have the same ``needs``, and their ``fit`` must give the same for the same key.
        """
        return None

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Arrays:
        """Reduce one shard to its message."""
        raise NotImplementedError

    def merge(
        self, messages: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Shaped[np.ndarray | Array, "num_draws ..."], dict[str, Any]]:
        """Merge the S stacked messages into draws.

        Returns:
            ``num_draws`` draws (num_draws, d), and an info dictionary of scalars or short
            vectors: anything worth recording. Known to the framework are ``ess``, where
            the merged draws are worth fewer independent draws than the scarcest shard's
            (the default); ``max_rhat`` of any inner MCMC (above 1.05, or with an ``ess``
            below 100, the cell is marked unreliable), and of many short chains
            ``persistence`` (up to 0.2, a large ``max_rhat`` is no alarm); ``learning_curve``,
            (K,) losses in the course of training, which the report draws; ``warnings``, a
            dictionary of sentences to flags (arrays of booleans), of which the raised ones are
            shown; and ``log_density``, (num_draws,), the unnormalised log density
            that the draws were drawn from, which is not recorded but lets the harness
            see how far it is from the posterior's (Pareto k-hat); ``log_probs``, (K,), the
            exact law of the draws over all objects of a finite support, and for the report
            ``client_log_probs``, (S, K), that of what each client learned, and ``laws``,
            (P, K), probabilities at even steps of the merge's training; ``unreliable``, as
            ``warnings``, but what is raised marks the cell unreliable; and ``importance``, the
            k-hat and effective share of importance ratios that the method computed itself.
        """
        raise NotImplementedError

    def centre(self, messages: Arrays) -> Float[Array, " d"]:
        """The mean that the merge of these messages aims at, where it has a closed form.

        A method of one round that defines it has its merged draws' worth estimated
        (:mod:`dncbench.merging.jackknife`); of others, the shards' and their own sampler's is told.
        """
        raise NotImplementedError

    # ------------------------------------------------------------ rounds

    def begin(self, shard: Shard, key: PRNGKeyArray) -> tuple[Arrays, Arrays]:
        """The first round: what the shard keeps (None for nothing), and its message."""
        return None, self.fit(shard, key)

    def initial_server(self, messages: Arrays) -> Arrays:
        """What the server holds before it first aggregates, shaped as afterwards; None by default.

        Args:
            messages: of the first round, stacked, for their shapes.
        """
        return None

    def aggregate(
        self, server: Arrays, messages: Arrays, key: PRNGKeyArray
    ) -> tuple[Arrays, Arrays]:
        """After a round: what the server keeps, and what it sends to every shard."""
        raise NotImplementedError

    def aggregate_last(
        self, server: Arrays, messages: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Arrays, Arrays]:
        """As :meth:`aggregate`, before the last round, for a method to which that is special."""
        return self.aggregate(server, messages, key)

    def answer(
        self, shard: Shard, state: Arrays, broadcast: Arrays, key: PRNGKeyArray
    ) -> tuple[Arrays, Arrays]:
        """A further round: what the shard keeps, and its answer to a broadcast."""
        raise NotImplementedError

    def finish(
        self, server: Arrays, messages: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Shaped[np.ndarray | Array, "num_draws ..."], dict[str, Any]]:
        """Draws from the last round's messages; returns what :meth:`merge` does."""
        return self.merge(messages, key, num_draws)

    # ------------------------------------------------------------ what is said of it

    def track(self) -> str:
        """What the method was allowed to use, in a few words; ranks are given within a track."""
        if "reference" in self.needs:
            return REFERENCE_TRACK
        used = ["inflated draws"] * ("inflated" in self.needs)
        used += ["draws"] * ("inflated" not in self.needs and bool(_DRAWS & self.needs))
        used += ["log densities"] * ("log_density" in self.needs)
        used += ["scores"] * ("score" in self.needs)
        used += ["data"] * ("data" in self.needs)
        if self.num_rounds > 1:
            used += [f"{self.num_rounds} rounds"]
        elif "model" in self.needs:
            used += ["the model"]
        return " + ".join(used)

    @classmethod
    def contract_violation(cls, subclass: type) -> str | None:
        """What a subclass still misses that abstract methods cannot say, or None."""
        needs = _declared(subclass, "needs", frozenset(NEEDS))
        if not isinstance(needs, frozenset | set) or not needs:
            return "needs must be a frozenset with at least one of " + ", ".join(NEEDS)
        for what, given, known in (
            ("needs", needs, NEEDS),
            ("spaces", _declared(subclass, "spaces"), KINDS),
            ("untraced", _declared(subclass, "untraced"), STEPS),
        ):
            unknown = sorted(set(given) - set(known))
            if unknown:
                return f"{what} names {', '.join(unknown)}; known: {', '.join(known)}"
        if not _SOURCES & set(needs):
            return (
                f"needs must name one of {', '.join(sorted(_SOURCES))}: there is nothing to merge"
            )
        rounds = getattr(subclass, "num_rounds", 1)
        several = isinstance(rounds, property) or rounds > 1
        required: dict[str, list[tuple[str, ...]]] = {
            "it": [("fit", "begin"), ("merge", "finish")],
            "num_rounds may exceed 1, so it": [("aggregate",), ("answer",)] if several else [],
        }
        for who, steps in required.items():
            missing = [
                " or ".join(names)
                for names in steps
                if all(getattr(subclass, name) is getattr(Method, name) for name in names)
            ]
            if missing:
                return f"{who} must define {', and '.join(missing)}"
        return None


_DRAWS = frozenset({"draws", "log_density", "score", "covariance"})
_SOURCES = frozenset({"draws", "inflated", "reference", "model", "data"})


def _declared(subclass: type, what: str, unknown: frozenset[str] = frozenset()) -> Any:
    """What a class says of itself; what a property says depends on the fields: of the defaults.

    ``unknown`` where some field has none, as the merge that a correction corrects.
    """
    said = getattr(subclass, what, None)
    if not isinstance(said, property):
        return said
    whole = all(
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        for field in dataclasses.fields(subclass)
        if field.init
    )
    return getattr(subclass(), what) if whole else unknown
