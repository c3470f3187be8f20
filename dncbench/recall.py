"""What earlier runs left in the cache for one problem under one set of terms.

Read, never made: nothing here samples, and no data set is loaded unless merged draws show
that a run took place with this cache. Whatever is missing is None.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dncbench import reference
from dncbench.budget import Budget
from dncbench.configure import configure
from dncbench.errors import DataError
from dncbench.identity import data_key, described_kind, draws_key, problem_identity, shard_settings
from dncbench.problem import load_data, num_observations
from dncbench.reference import Reference
from dncbench.store import Cache

_MAPPED_AT_ONCE = 1000


class Recall:
    """A problem's draws and reference, from the cache.

    Args:
        identity: of any cell of the problem under these terms, as its record has it.
        cache: where draws are kept.

    Attributes:
        problem: configured as in the identity.
        missing: why there are no draws, once something was asked for; empty where there are.

    Raises:
        UnknownNameError: the problem is not registered here.
    """

    def __init__(self, identity: dict[str, Any], cache: Cache) -> None:
        self._identity, self._cache = identity, cache
        self._entry, self.problem = configure("problem", identity["problem"]["label"])
        fields = {field.name for field in dataclasses.fields(Budget)}
        known = identity["budget"].keys() == fields
        self._budget = Budget(**identity["budget"]) if known else None
        self._natural = identity["space"] == "natural"
        self.missing = ""

    def merged(self, identity: dict[str, Any]) -> Float[np.ndarray, "N d"] | None:
        """Merged draws of a cell as natural parameters θ."""
        found = self._cache.get("merged", identity)
        if found is None:
            return None
        draws = found[0]["eta"].astype(float)
        if self._natural or not self.problem.is_constrained():
            return draws
        return np.asarray(
            jax.lax.map(self.problem.constrain, jnp.asarray(draws), batch_size=_MAPPED_AT_ONCE)
        )

    def has_merged(self, identity: dict[str, Any]) -> bool:
        """Whether the cache has merged draws of a cell."""
        return self._cache.path("merged", identity).is_file()

    @functools.cached_property
    def reference(self) -> Reference | None:
        """The certified reference."""
        if self._budget is None:
            self.missing = "the records' budget is not of this version"
            return None
        described = self._described
        if described is None:
            return None
        found = reference.recall(self.problem, described, self._budget, self._cache)
        if found is None:
            self.missing = "the cache has no reference of this problem under this budget"
        return found

    def subposteriors(self, split: int) -> Float[np.ndarray, "S T d"] | None:
        """Draws of a split's subposteriors, in the space of merging."""
        if self._budget is None or self._described is None:
            return None
        key = draws_key(
            self._described,
            f"{self._identity['split']['scheme']}-{split}",
            described_kind("plain", self._natural),
            shard_settings(self._budget),
        )
        found = self._cache.get("draws", key)
        return None if found is None else found[0]["values"]

    @property
    def num_observations(self) -> int | None:
        """n; None where the data could not be had."""
        return None if self._data is None else num_observations(self._data)

    @functools.cached_property
    def _data(self) -> Any:
        try:
            return load_data(self.problem, data_key(self._entry.name))
        except DataError as error:
            self.missing = str(error).split("\n")[0]
            return None

    @functools.cached_property
    def _described(self) -> dict[str, Any] | None:
        if self._data is None:
            return None
        return problem_identity(self._identity["problem"], self._data, self._identity["seed"])
