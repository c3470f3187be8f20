"""A problem made ready for its cells: data, truth, scorer, and the draws of a split's shards."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from dncbench.budget import Budget
from dncbench.configure import settings_of
from dncbench.draws import Draws
from dncbench.entry import Entry
from dncbench.errors import ContractError, DrawsError, NotApplicableError
from dncbench.merging.shared_fits import SharedFits
from dncbench.method import Method, Shard
from dncbench.posterior import Density, Posterior, values_and_scores, weights
from dncbench.precision import derive_key
from dncbench.problem import Data, Problem, Split, load_data
from dncbench.running.cache_keys import (
    data_key,
    described_kind,
    draws_key,
    problem_key,
    shard_settings,
)
from dncbench.running.environment import OtherLoad
from dncbench.running.progress import Progress
from dncbench.running.scoring import Scorer
from dncbench.running.status import complaints
from dncbench.sampling import diagnostics
from dncbench.sampling.nuts import sample
from dncbench.space import Codes, Space
from dncbench.storage.cache import Cache
from dncbench.storage.identity import Terms
from dncbench.truth.certified import Reference, reference
from dncbench.truth.verification import TOLERANCE, check_cached, check_given, check_stored

# Rough costs in units of one merge, for the time that is left.
REFERENCE_UNITS, SAMPLING_UNITS = 20.0, 12.0


@dataclass
class Prepared:
    """Everything that the cells of one problem under one set of terms share.

    Attributes:
        entry, problem: from the registry, and configured.
        terms: what the cells have in common.
        budget: what they spend.
        space: that merging happens in.
        data: as loaded.
        key: what determines the problem's draws, for the cache.
        reference: the certified truth.
        scorer: the metrics, ready to be read.
        cache, progress: where draws are kept, and who is told.
    """

    entry: Entry
    problem: Problem
    terms: Terms
    budget: Budget
    space: Space
    data: Data
    key: dict[str, Any]
    reference: Reference
    scorer: Scorer
    cache: Cache
    progress: Progress
    _draws: dict[tuple[int, str], Draws] = field(default_factory=dict)
    _refused: dict[tuple[int, str], Exception] = field(default_factory=dict)
    _fits: dict[int, SharedFits] = field(default_factory=dict)

    # ------------------------------------------------------------ what a method is handed

    def shards(self, method: Method, split: int) -> tuple[Shard, dict[str, Draws]]:
        """What the shards hold of what a method needs, and the draws that were sampled for it.

        Raises:
            NotApplicableError: the problem has no draws of this kind.
            DrawsError: sampling failed, or its draws do not belong to the model.
        """
        if "reference" in method.needs:
            place = self.reference.fresh(split)
            natural = self.space.name == "natural"
            blocks = self.reference.embedded if natural else self.reference.blocks
            fresh = jnp.asarray(blocks[place])[None]
            return Shard(values=fresh, ess=jnp.array([self.reference.ess]), num_shards=1), {}
        sampled = {kind: self.sampled(split, kind) for kind in sorted(kinds_of_draws(method))}
        plain, inflated = sampled.get("plain"), sampled.get("inflated")
        data, mask = None, None
        if "data" in method.needs:
            data, mask = self.problem.shard_data(self.data, self.split(split))
        return Shard(
            values=_array(plain, "values"),
            log_density=_array(plain, "log_density"),
            score=_array(plain, "score"),
            inflated=_array(inflated, "values"),
            density=self.densities(split) if "model" in method.needs else None,
            ess=self._worth(sampled),
            data=data,
            mask=mask,
            problem=None if method.needs.isdisjoint({"data", "problem"}) else self.problem,
            num_shards=self.problem.num_shards,
            conditional_score=plain is not None and plain.conditional_score,
        ), sampled

    def _worth(self, sampled: dict[str, Draws]) -> jax.Array | None:
        if not sampled:
            return None
        ess = np.min([draws.min_ess() for draws in sampled.values()], axis=0)
        return jnp.minimum(jnp.asarray(ess), self.budget.draws_per_shard)

    def densities(self, split: int) -> Any | None:
        """The subposteriors' log densities as functions of what is merged, or None."""
        return self._as_merged(
            self.problem.density(self.data, self.split(split), "plain", self.space)
        )

    def posterior(self) -> Any | None:
        """The full posterior as a function of what is merged, with a leading axis of one."""
        whole = self.problem.whole(self.data)
        return self._as_merged(self.problem.density(self.data, whole, "full", self.space))

    def _as_merged(self, densities: Any | None) -> Any | None:
        if self.space.name == "natural" and isinstance(densities, Density):
            return densities.in_theta()
        return densities

    def fits(self, split: int) -> SharedFits:
        """Fits that several methods start from; one split's are in memory at a time."""
        if split not in self._fits:
            name = self._name_of(split)
            seed, problem = self.terms.seed, self.entry.name
            self._fits = {
                split: SharedFits(
                    lambda fit: derive_key(seed, problem, name, f"fit of {fit!r}"), OtherLoad
                )
            }
        return self._fits[split]

    # ------------------------------------------------------------ draws of a split

    def split(self, number: int) -> Split:
        """Which shard holds what."""
        key = derive_key(self.terms.seed, self.entry.name, self._name_of(number))
        return self.problem.split(self.data, self.terms.scheme, key)

    def _name_of(self, split: int) -> str:
        return f"{self.terms.scheme}-{split}"

    def sampled(self, split: int, kind: str) -> Draws:
        """Draws of a split's "plain" or "inflated" subposteriors, from the cache or made now."""
        if (split, kind) in self._refused:
            # What cannot be sampled for one method cannot be for the next.
            raise self._refused[split, kind]
        if (split, kind) not in self._draws:
            # One split's draws are in memory at a time.
            self._draws = {key: draws for key, draws in self._draws.items() if key[0] == split}
            try:
                self._draws[split, kind] = self._cached_or_made(split, kind)
            except Exception as error:
                self._refused[split, kind] = error
                raise
            finally:
                self.progress.advance(SAMPLING_UNITS)
        return self._draws[split, kind]

    def _cached_or_made(self, number: int, kind: str) -> Draws:
        described = described_kind(kind, self.space.name)
        settings = shard_settings(self.budget)
        cache_key = draws_key(self.key, self._name_of(number), described, settings)
        split = self.split(number)
        found = self.cache.get(
            "draws", cache_key, lambda *kept: self._hold_to_model(_unpacked(*kept), split, kind)
        )
        if found is not None:
            return _unpacked(*found)
        with OtherLoad() as other:
            draws = self._own(number, split, kind) or self._nuts(number, split, kind)
        info = draws.info | {
            "sizes": split.sizes,
            "other_load": other.cores,
            "warnings": complaints(draws, kind, settings.min_ess),
        }
        draws = replace(draws, info=info)
        arrays = draws.arrays()
        kept = {"num_chains": draws.num_chains, "conditional_score": draws.conditional_score}
        self.cache.put("draws", cache_key, arrays, kept | {"info": info, "arrays": sorted(arrays)})
        return draws

    def _hold_to_model(self, draws: Draws, split: Split, kind: str) -> None:
        """Compute some log densities and scores of cached draws again, from the present model.

        Raises:
            DrawsError: they are not what they were, or these are no draws of this split.
        """
        num_draws = self.budget.draws_per_shard
        if len(draws.values) != split.num_shards:
            raise DrawsError(f"it has {len(draws.values)} shards, not {split.num_shards}")
        for shard in draws.values:
            self.space.check(shard, num_draws, "an earlier run")
        for name, array in draws.arrays().items():
            wanted = draws.values.shape[: 2 if name == "log_density" else None]
            if array.shape != wanted or not np.isfinite(array).all():
                raise DrawsError(f"its {name} has shape {array.shape}, or holds what is no number")
        draws.min_ess()
        density = self._as_merged(self.problem.density(self.data, split, kind, self.space))
        if density is None or draws.log_density is None:
            return
        if isinstance(density, Density) and draws.score is not None:
            error = check_cached(density, draws)
        else:
            key = derive_key(self.terms.seed, self.entry.name, "held to the model")
            error = max(check_given(density, s, draws, key) for s in range(split.num_shards))
        if not error <= TOLERANCE:
            raise DrawsError(
                "its draws had other log densities or scores when they were made: they differ "
                f"by {error:.1e} from those of the present model"
            )

    def _nuts(self, number: int, split: Split, kind: str) -> Draws:
        densities = self.problem.density(self.data, split, kind, self.space)
        if not isinstance(densities, Density):
            what = "no log density" if densities is None else f"a {type(densities).__name__}"
            raise NotApplicableError(
                f"{self.entry.name} gives {what} for its {kind} subposteriors and no draws of "
                "its own: there is nothing that NUTS could sample"
            )
        name, described = self._name_of(number), described_kind(kind, self.space.name)
        prefix = f"{self.entry.name}, split {number}, {described} subposteriors"
        seed = self.terms.seed
        draws = sample(
            densities,
            derive_key(seed, self.entry.name, name, described),
            shard_settings(self.budget),
            densities.problem.parameter_names,
            lambda what: self.progress.say(f"{prefix}: {what}"),
        )
        self._verify(draws, split, kind, derive_key(seed, self.entry.name, name, "check"))
        return _in_theta(draws, densities) if self.space.name == "natural" else draws

    def _verify(self, draws: Draws, split: Split, kind: str, key: PRNGKeyArray) -> None:
        """Recompute log densities and scores of random draws before any method sees them."""
        assert isinstance(self.problem, Posterior)
        powers = weights(kind, split.num_shards, self.space.name)
        for shard in range(split.num_shards):
            one_key = jax.random.fold_in(key, shard)
            error = check_stored(self.problem, self.data, split, shard, draws, one_key, powers)
            self._require(
                error, kind, shard, "is log_likelihood a function of its arguments alone?"
            )

    def _require(self, error: float, kind: str, shard: int, question: str) -> None:
        if not error <= TOLERANCE:
            raise DrawsError(
                f"stored log densities or scores of {kind} shard {shard} differ from the "
                f"model by {error:.1e}; {question}"
            )

    def _own(self, number: int, split: Split, kind: str) -> Draws | None:
        """Draws that the problem makes itself, checked, with diagnostics of their embedding."""
        name, num_draws = self._name_of(number), self.budget.draws_per_shard
        key = derive_key(self.terms.seed, self.entry.name, name, kind)
        with OtherLoad() as other:
            draws = self.problem.draws(self.data, split, kind, key, num_draws)
        if draws is None:
            return None
        owner, space = f"{self.entry.name}.draws()", self.problem.space
        if len(draws.values) != split.num_shards:
            raise ContractError(f"{owner} gave {len(draws.values)} shards, not {split.num_shards}")
        values = np.stack([space.check(shard, num_draws, owner) for shard in draws.values])
        draws = replace(draws, values=values)
        density = self.problem.density(self.data, split, kind, self.space)
        if density is not None and draws.log_density is not None:
            for shard in range(split.num_shards):
                error = check_given(density, shard, draws, jax.random.fold_in(key, shard))
                self._require(error, kind, shard, "do draws() and density() mean the same?")
        measured = {
            "diagnostics": [self._diagnosed(draws, shard) for shard in range(split.num_shards)],
            "rounds": 1,
            "seconds": other.seconds,
            "compile_seconds": 0.0,
            "gradient_evaluations": 0,
        }
        return replace(draws, info=measured | draws.info)

    def _diagnosed(self, draws: Draws, shard: int) -> dict[str, Any]:
        """Diagnostics of a shard's draws.

        Of objects, some properties are so rare that no draw has them: nothing can be said of
        those coordinates, and no sampler is stuck. Where none is left, the draws are one object.
        """
        points, names = self._by_chain(draws, shard), self.problem.space.names
        if isinstance(self.space, Codes):
            varies = np.ptp(points, axis=(0, 1)) > 0
            if not varies.any():
                return dict.fromkeys(("max_rhat", "min_ess_bulk", "min_ess_tail"), 1.0) | {
                    f"{name}_parameter": names[0]
                    for name in ("max_rhat", "min_ess_bulk", "min_ess_tail")
                }
            points = points[:, :, varies]
            names = tuple(name for name, kept in zip(names, varies, strict=True) if kept)
        return diagnostics.summarise(points, names)

    def _by_chain(self, draws: Draws, shard: int) -> Float[np.ndarray, "C T_c p"]:
        """What a shard's draws stand for, the chains apart."""
        points = self.problem.space.embed(draws.values[shard])
        number = draws.num_chains if draws.num_chains > 1 else _STRETCHES
        length = len(points) // number
        return points[: number * length].reshape(number, length, -1)


_STRETCHES = 4  # that one chain, or independent draws, are cut into, so that they can be compared


def prepare(
    entry: Entry,
    problem: Problem,
    terms: Terms,
    budget: Budget,
    cache: Cache,
    progress: Progress,
    metrics: Collection[str] | None = None,
) -> Prepared:
    """Load a problem's data; get its reference and its noise floors.

    Args:
        entry, problem: from the registry, and configured.
        terms: that its cells will have in common.
        budget: what they may spend.
        cache: where draws are kept.
        progress: display.
        metrics: ids to score; all that are registered where None.

    Raises:
        DataError: the data cannot be had.
        ContractError: there is no truth to be had.
    """
    progress.say(f"{entry.name}: loading data")
    data = load_data(problem, data_key(entry.name))
    key = problem_key(entry.id, settings_of(problem), data, terms.seed)
    truth = reference(
        problem,
        key,
        data,
        derive_key(terms.seed, entry.name, "reference"),
        budget,
        cache,
        lambda what: progress.say(f"{entry.name}: {what}"),
    )
    for failure in truth.certificate["failures"]:
        progress.note(f"{entry.name}: the reference is not certified: {failure}")
    space = problem.space_for(terms.space)
    # Floors are read on the reference's draws, and are of no others.
    of_these = key | {"reference": truth.fingerprint}
    scorer = Scorer(problem, data, truth, of_these, space, cache, metrics, progress.note)
    return Prepared(entry, problem, terms, budget, space, data, key, truth, scorer, cache, progress)


def kinds_of_draws(method: Method) -> set[str]:
    """Which subposteriors a method wants sampled: "plain", "inflated", both or none."""
    if "reference" in method.needs:
        return set()
    plain = {"draws", "log_density", "score"} & set(method.needs)
    return ({"plain"} if plain else set()) | {"inflated"} & set(method.needs)


def _unpacked(arrays: dict[str, np.ndarray], info: dict[str, Any]) -> Draws:
    """Draws as the cache has them.

    Raises:
        ValueError: an array is missing, without which a method would be not applicable.
    """
    if sorted(arrays) != info["arrays"]:
        raise ValueError(f"it holds {', '.join(sorted(arrays))}, not {', '.join(info['arrays'])}")
    return Draws(
        arrays["values"],
        arrays.get("log_density"),
        arrays.get("score"),
        info["num_chains"],
        info["info"],
        info["conditional_score"],
    )


def _array(draws: Draws | None, name: str) -> jax.Array | None:
    found = None if draws is None else getattr(draws, name)
    return None if found is None else jnp.asarray(found)


def _in_theta(draws: Draws, densities: Density) -> Draws:
    """Draws mapped to natural parameters, with log densities and scores in θ."""
    theta = jax.vmap(jax.vmap(densities.problem.constrain))(jnp.asarray(draws.values))
    values, scores = values_and_scores(densities.in_theta(), theta)
    return replace(
        draws, values=np.asarray(theta), log_density=np.asarray(values), score=np.asarray(scores)
    )
