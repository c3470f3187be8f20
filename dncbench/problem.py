"""The contract of a problem: all that the harness knows of it.

Everything that a problem leaves out is done by the harness: ``None`` is how a problem says so.
A model given by a log prior and the log likelihood of one observation is a
:class:`dncbench.Posterior`, which leaves out nearly everything; objects that can be
enumerated, hierarchical models whose latent variables stay on their shard, and networks
subclass :class:`Problem` itself.
"""

import abc
import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from dncbench import precision as precision
from dncbench.draws import Arrays, Draws, Truth
from dncbench.errors import DataError, NotApplicableError, UnknownNameError
from dncbench.space import Space
from dncbench.splits import assign, parse_scheme

KINDS_OF_DENSITY = ("full", "plain", "inflated")
"""The full posterior; a subposterior p(θ)^(1/S) p(Y_s given θ); an inflated one, its power S."""


class Data(NamedTuple):
    """What a problem is about.

    Attributes:
        train: pytree of arrays with a leading axis of n observations; None where there are none.
        held_out: the same for observations that no shard sees; None where there are none.
    """

    train: Arrays = None
    held_out: Arrays = None

    @property
    def num_observations(self) -> int:
        """n; 0 where there are no observations."""
        leaves = jax.tree.leaves(self.train)
        return int(leaves[0].shape[0]) if leaves else 0


class Split(NamedTuple):
    """Which shard holds which observation.

    Attributes:
        shard_of: (n,) integers in [0, S); -1 for an observation that no shard holds.
        num_shards: S.
        unit: what was dealt out: "rows", or whole "groups", "clients" or "files".
    """

    shard_of: Int[np.ndarray, " n"]
    num_shards: int
    unit: str = "rows"

    def rows(self, shard: int) -> Int[np.ndarray, " n_s"]:
        """A shard's observations."""
        return np.flatnonzero(self.shard_of == shard)

    @property
    def sizes(self) -> list[int]:
        """How many observations each shard holds."""
        held = self.shard_of[self.shard_of >= 0]
        return np.bincount(held, minlength=self.num_shards).tolist()


class Problem(eqx.Module):
    """What is merged and what is true; subclass and register it.

    Settings are dataclass fields with defaults. Required: ``num_shards`` and ``space``; and
    of ``density``, ``draws`` and ``truth`` what lets the harness have draws of the shards
    and of the whole. For a model of independent observations subclass
    :class:`dncbench.Posterior`, which has them all.
    """

    num_shards: eqx.AbstractVar[int]
    """S."""

    headline: ClassVar[tuple[str, ...]] = ("mah", "iad", "skew")
    """Names of the metrics that a board shows first and ranks by."""

    finite_moments: ClassVar[float] = math.inf
    """Order up to which all moments of the posterior are finite: 0 for a Cauchy.

    Metrics that need more are not applicable: mah, iad and other figures of means, sds or
    covariances need 2, skew 3. iad-rank needs none.
    """

    source: ClassVar[str] = ""
    """Where the model and its data come from; shown by ``dncbench show``."""

    cites: ClassVar[tuple[str, ...]] = ()
    """What to cite: keys of ``dncbench/citations.bib``, or whole BibTeX entries."""

    unit: ClassVar[str] = "rows"
    """What a split deals out, for messages: "rows", "groups", "clients" or "files"."""

    def __check_init__(self) -> None:
        if not self.num_shards >= 1:
            raise UnknownNameError(
                f"{type(self).__name__}: num_shards is {self.num_shards}; data lie on at least one"
            )

    @property
    @abc.abstractmethod
    def space(self) -> Space:
        """What draws of this problem are."""

    def space_for(self, asked: str) -> Space:
        """The space that merging happens in.

        Args:
            asked: "unconstrained" or "natural"; means something to continuous problems alone.
        """
        return self.space

    @property
    def dim(self) -> int:
        """p, the number of coordinates that mah, iad and skew are read on."""
        return len(self.space.names)

    @classmethod
    def is_constrained(cls) -> bool:
        """Whether there are natural parameters beside the coordinates that are drawn."""
        return False

    @property
    def permutations(self) -> Int[np.ndarray, "G dim"] | None:
        """Permutations of the coordinates that leave the posterior as it is, or None."""
        return None

    # ------------------------------------------------------------ data and splits

    def data(self, key: PRNGKeyArray) -> Data | Arrays:
        """The data: a pytree of observations, or :class:`Data` where some are held out.

        Synthetic problems draw them from ``key``, which depends on the problem's
        name alone; real data sets ignore it. By default there are none.
        """
        return Data()

    def labels(self, observations: Arrays) -> np.ndarray | None:
        """Class of each observation, for label-dependent splits; None where there is none."""
        return None

    def groups(self, observations: Arrays) -> np.ndarray | None:
        """(n,) group of each observation, where groups are dealt out whole; None for rows."""
        return None

    def split(self, data: Data, scheme: str, key: PRNGKeyArray) -> Split:
        """Deal the observations out to the shards.

        Where there are none, each shard holds what ``draws`` and ``density`` say it holds.

        Args:
            data: as loaded.
            scheme: see :mod:`dncbench.splits`.
            key: of the split.

        Raises:
            NotApplicableError: the scheme does not go with these data.
        """
        if data.num_observations == 0:
            if parse_scheme(scheme)[0] not in ("random", "in-order"):
                raise NotApplicableError(f"split scheme {scheme!r}: there is nothing to deal out")
            return Split(np.empty(0, dtype=int), self.num_shards, self.unit)
        labels, groups = self.labels(data.train), self.groups(data.train)
        if groups is None:
            shard_of = assign(
                scheme, key, data.num_observations, self.num_shards, labels, self.unit
            )
            return Split(shard_of, self.num_shards, self.unit)
        names, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
        of_groups = None if labels is None else np.asarray(labels)[first]
        unit = self.unit if self.unit != "rows" else "groups"
        shard_of = assign(scheme, key, len(names), self.num_shards, of_groups, unit)
        return Split(shard_of[group_of.ravel()], self.num_shards, unit)

    def whole(self, data: Data) -> Split:
        """The split into one shard that the full posterior is."""
        return Split(np.zeros(data.num_observations, dtype=int), 1, self.unit)

    def shard_data(self, data: Data, split: Split) -> tuple[Arrays, Float[Array, "S n"]]:
        """What each shard holds, stacked along a leading axis of S, and a mask.

        Shards of unequal size are padded by repeating rows, with a mask of zero there.
        """
        return padded(data.train, split)

    # ------------------------------------------------------------ what the harness may leave to it

    def density(self, data: Data, split: Split, kind: str, space: Space) -> Any | None:
        """Unnormalised log densities, stacked over the split's shards, or None.

        Args:
            data: as loaded.
            split: whose shards; :meth:`whole` for the full posterior.
            kind: one of :data:`KINDS_OF_DENSITY`.
            space: of the draws that they are evaluated at.

        Returns:
            An Equinox module, callable at one draw, its arrays stacked along a leading axis.
        """
        return None

    def draws(
        self, data: Data, split: Split, kind: str, key: PRNGKeyArray, num_draws: int
    ) -> Draws | None:
        """Draws of the shards' subposteriors, made by the problem itself; None for NUTS.

        Args:
            data: as loaded.
            split: whose shards.
            kind: "plain" or "inflated".
            key: random key.
            num_draws: T, of each shard.

        Raises:
            NotApplicableError: it has no draws of this kind.
        """
        return None

    def truth(self, data: Data, key: PRNGKeyArray, num_draws: int) -> Truth | None:
        """The full posterior, where the problem knows it; None for samplers that must agree.

        Args:
            data: as loaded.
            key: random key.
            num_draws: how many draws the pool needs at least.
        """
        return None

    def predict(
        self, draws: Shaped[np.ndarray, "N ..."], held_out: Arrays
    ) -> Float[np.ndarray, "N m"] | None:
        """Log density of each held-out observation under each draw; None where there is none.

        Args:
            draws: in the problem's space (natural parameters, for continuous problems).
            held_out: m observations.
        """
        return None

    @classmethod
    def contract_violation(cls, subclass: type) -> str | None:
        """What a subclass still misses that abstract methods cannot say, or None."""
        if not isinstance(getattr(subclass, "num_shards", None), int):
            return "num_shards must be a field with a whole number as its default"
        headline = subclass.__dict__.get("headline", ("mah",))
        if not (isinstance(headline, tuple) and headline and all(map(_is_text, headline))):
            return "headline must be a tuple of metric names"
        moments = subclass.__dict__.get("finite_moments", math.inf)
        if not (isinstance(moments, int | float) and moments >= 0):
            return "finite_moments must be a number from 0, the order of the highest finite moment"
        return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def padded(
    observations: Arrays, split: Split, multiple_above: tuple[int, int] | None = None
) -> tuple[Arrays, Float[Array, "S n"]]:
    """Every shard's observations, stacked, padded to equal length and masked.

    Args:
        observations: pytree with a leading axis of n.
        split: whose shards.
        multiple_above: (limit, block): longer shards are padded to a multiple of the block.
    """
    rows = [split.rows(shard) for shard in range(split.num_shards)]
    size = max(len(row) for row in rows)
    if multiple_above is not None and size > multiple_above[0]:
        block = multiple_above[1]
        size = -(-size // block) * block
    # Padding repeats a real observation, so that a masked term is finite and its
    # gradient is zero rather than NaN.
    index = np.stack([np.resize(row, size) if len(row) else np.zeros(size, int) for row in rows])
    mask = np.stack([np.arange(size) < len(row) for row in rows]).astype(float)
    return jax.tree.map(lambda leaf: leaf[index], observations), jnp.asarray(mask)


def load_data(problem: Problem, key: PRNGKeyArray) -> Data:
    """The problem's data as arrays of their own dtypes, checked.

    Raises:
        DataError: axes that disagree, non-finite values, no observations where an axis is.
    """
    given = problem.data(key)
    data = given if isinstance(given, Data) else Data(given)
    parts = [_checked(part, type(problem).__name__) for part in data]
    return Data(*parts)


def _checked(part: Arrays, name: str) -> Arrays:
    if part is None:
        return None
    part = jax.tree.map(jnp.asarray, part)
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(part)}
    if len(lengths) != 1 or lengths == {0}:
        raise DataError(
            f"{name}.data() must return arrays with one common leading observation axis; "
            f"found lengths {sorted(lengths)}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(part):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
        if len(bad):
            where = jax.tree_util.keystr(path)
            raise DataError(f"{name}.data(){where} is not finite at index {tuple(bad[0].tolist())}")
    return part
