"""What earlier runs left in the cache for one problem under one set of terms.

Read, never made: nothing here samples, and no data set is loaded unless merged draws show
that a run took place with this cache. Whatever is missing is None.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import log_softmax

from dncbench.budget import Budget
from dncbench.budget import get as get_budget
from dncbench.configure import configure
from dncbench.errors import DataError, UnknownNameError
from dncbench.precision import derive_key
from dncbench.problem import Data, load_data
from dncbench.running.cache_keys import (
    data_key,
    described_kind,
    draws_key,
    merged_key,
    problem_key,
    shard_settings,
)
from dncbench.running.cells import client_laws, kept_draws
from dncbench.space import Codes
from dncbench.storage.cache import Cache
from dncbench.storage.identity import identity_of
from dncbench.storage.records import contradicts
from dncbench.truth import certified
from dncbench.truth.certified import Reference


class Cached:
    """A problem's draws and reference, from the cache.

    Args:
        record: of any cell of the problem under these terms.
        cache: where draws are kept.

    Attributes:
        problem: configured as in the record.
        space: that merging happened in.
        missing: why there are no draws, once something was asked for; empty where there are.

    Raises:
        UnknownNameError: the problem is not registered here.
    """

    def __init__(self, record: dict[str, Any], cache: Cache) -> None:
        self._record, self._cache = record, cache
        self._terms = identity_of(record).terms
        self._entry, self.problem = configure("problem", self._terms.problem)
        self.space = self.problem.space_for(self._terms.space)
        self.missing = ""
        self._budget = _present(self._terms.budget, record["budget"])

    def merged(self, record: dict[str, Any]) -> Float[np.ndarray, "N p"] | None:
        """Merged draws of a cell as the points that metrics are read on."""
        found = kept_draws(record, self.space, self._cache)
        return None if found is None else self.space.embed(found[0])

    def law(self, record: dict[str, Any]) -> tuple[Float[np.ndarray, " K"], bool] | None:
        """Probabilities of all objects under a cell's merge, and whether it said them itself.

        Of a merge that says none they are the shares of its draws.
        """
        found = kept_draws(record, self.space, self._cache)
        if found is None:
            return None
        codes, log_probs = found
        if log_probs is not None and log_probs.shape == (self.num_objects,):
            return np.exp(log_probs), True
        return np.bincount(codes, minlength=self.num_objects) / len(codes), False

    def client_laws(self, record: dict[str, Any]) -> Float[np.ndarray, "S K"] | None:
        """Probabilities of all objects under the laws that a cell's clients learned."""
        found = client_laws(record, self._cache)
        shape = (self.problem.num_shards, self.num_objects)
        return None if found is None or found.shape != shape else np.exp(found.astype(float))

    def true_client_laws(self, split: int) -> Float[np.ndarray, "S K"] | None:
        """Probabilities of all objects under the densities of a split's shards."""
        if self._data is None:
            return None
        scheme = self._terms.scheme
        key = derive_key(self._terms.seed, self._entry.name, f"{scheme}-{split}")
        held = self.problem.split(self._data, scheme, key)
        density = self.problem.density(self._data, held, "plain", self.space)
        if density is None:
            return None
        everywhere = eqx.filter_vmap(
            lambda one, codes: jax.lax.map(one, codes, batch_size=1024),
            in_axes=(eqx.if_array(0), None),
        )
        logs = np.asarray(everywhere(density, jnp.arange(self.num_objects)), np.float64)
        return np.exp(log_softmax(logs, axis=1))

    @property
    def num_objects(self) -> int:
        """K, of a space of counted objects."""
        assert isinstance(self.space, Codes)
        assert self.space.size is not None
        return self.space.size

    def has_merged(self, record: dict[str, Any]) -> bool:
        """Whether the cache has merged draws of a cell."""
        return self._cache.has("merged", merged_key(record))

    @functools.cached_property
    def reference(self) -> Reference | None:
        """The certified reference."""
        if self._budget is None:
            self.missing = "the records' budget is not of this version"
            return None
        if self._key is None or self._data is None:
            return None
        found = certified.recall(self.problem, self._key, self._data, self._budget, self._cache)
        if found is None:
            self.missing = "the cache has no reference of this problem under this budget"
        return found

    def subposteriors(self, split: int) -> Shaped[np.ndarray, "S T ..."] | None:
        """Draws of a split's subposteriors, in the space of merging."""
        if self._budget is None or self._key is None:
            return None
        key = draws_key(
            self._key,
            f"{self._terms.scheme}-{split}",
            described_kind("plain", self._terms.space),
            shard_settings(self._budget),
        )
        found = self._cache.get("draws", key, lambda arrays, info: self._require_draws(arrays))
        return None if found is None else found[0]["values"]

    def _require_draws(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise where these are no draws of every shard: the file may be anybody's."""
        values = arrays["values"]
        if len(values) != self.problem.num_shards:
            raise ValueError(f"it has {len(values)} shards, not {self.problem.num_shards}")
        for shard in values:
            self.space.check(shard, len(shard), "the cache")

    @property
    def num_observations(self) -> int | None:
        """n; None where the data could not be had, or there are none."""
        return None if self._data is None else self._data.num_observations or None

    @functools.cached_property
    def _data(self) -> Data | None:
        try:
            return load_data(self.problem, data_key(self._entry.name))
        except DataError as error:
            self.missing = str(error).split("\n")[0]
            return None

    @functools.cached_property
    def _key(self) -> dict[str, Any] | None:
        if self._data is None:
            return None
        settings = self._record["settings"]["problem"]
        return problem_key(self._entry.id, settings, self._data, self._terms.seed)


def _present(name: str, recorded: dict[str, Any]) -> Budget | None:
    """The budget of that name, where it still stands for the recorded numbers."""
    try:
        found = get_budget(name)
    except UnknownNameError:
        return None
    return None if contradicts(recorded, found.contents()) else found
