"""The running of one cell: data, reference and draws that a problem's cells share.

A cell is (problem, split, method, seed). All methods of a split see the same shards
and the same draws. A cell that fails is recorded as failed.
"""

import datetime
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dncbench import environment, reference
from dncbench.budget import Budget
from dncbench.correction import psis
from dncbench.draws import Draws
from dncbench.errors import DrawsError, NotApplicableError
from dncbench.identity import (
    data_key,
    described_kind,
    draws_key,
    problem_identity,
    shard_settings,
)
from dncbench.importance import importance
from dncbench.merging import MergeResult, run_method
from dncbench.method import Method, ShardDraws
from dncbench.precision import derive_key
from dncbench.problem import (
    Density,
    Problem,
    full_posterior,
    load_data,
    num_observations,
    subposteriors,
    values_and_scores,
)
from dncbench.progress import Progress
from dncbench.reference import Reference
from dncbench.registry import Entry
from dncbench.remarks import complaints, status, summary_of, untrusted
from dncbench.sampling import sample
from dncbench.scoring import Scorer
from dncbench.splits import assign
from dncbench.store import RECORD_SCHEMA, Cache, canonical
from dncbench.timing import OtherLoad
from dncbench.verification import TOLERANCE, check_stored

# Rough costs in units of one merge, for the time that is left.
REFERENCE_UNITS, SAMPLING_UNITS = 20.0, 12.0


@dataclass(frozen=True)
class Cell:
    """One run to be made and recorded.

    Attributes:
        problem: configured, with its registry ``problem_entry``.
        method: configured, with its registry ``method_entry``.
        split: index of the split.
        identity: what determines the cell's figures; plain JSON values.
        earlier: a record of this cell that lacks some metric; None where there is none.
    """

    problem_entry: Entry
    problem: Problem
    method_entry: Entry
    method: Method
    split: int
    identity: dict[str, Any]
    earlier: dict[str, Any] | None = None


class Bench:
    """Everything the cells of one problem share: data, reference, and a split's draws."""

    def __init__(self, cell: Cell, budget: Budget, cache: Cache, progress: Progress) -> None:
        self.entry, self.problem = cell.problem_entry, cell.problem
        self.scheme, self.seed = cell.identity["split"]["scheme"], cell.identity["seed"]
        self.natural = cell.identity["space"] == "natural"
        self.described = cell.identity["problem"]
        self.budget, self.cache, self.progress = budget, cache, progress
        self.draws: dict[tuple[int, str], Draws] = {}
        self.refused: dict[tuple[int, str], Exception] = {}

    def prepare(self, metrics: Collection[str] | None = None) -> None:
        """Load the data; get the reference and the noise floors.

        Args:
            metrics: ids to score; all that are registered where None.
        """
        name = self.entry.name
        self.progress.say(f"{name}: loading data")
        self.data = load_data(self.problem, data_key(name))
        self.identity = problem_identity(self.described, self.data, self.seed)
        self.reference: Reference = reference.reference(
            self.problem,
            self.identity,
            self.data,
            derive_key(self.seed, name, "reference"),
            self.budget,
            self.cache,
            lambda what: self.progress.say(f"{name}: {what}"),
        )
        for failure in self.reference.certificate["failures"]:
            self.progress.note(f"{name}: the reference is not certified: {failure}")
        self.scorer = Scorer(
            self.problem,
            self.data,
            self.reference,
            self.identity,
            self.natural,
            self.cache,
            metrics,
        )

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run one cell; whatever happens, there is a record."""
        where = f"{self.entry.name}, split {cell.split}, {cell.identity['method']['label']}"
        if (again := self.scored_again(cell)) is not None:
            return again
        record = self._started(cell)
        try:
            figures = self._run(cell, where)
            canonical(figures)  # raises where a figure cannot be recorded
            record |= figures
        except NotApplicableError as error:
            record |= {"status": "not applicable", "reason": str(error), "metrics": {}}
        except Exception as error:
            # A method or plugin may raise anything; the other cells go on.
            reason = f"{type(error).__name__}: {error}"
            record |= {"status": "failed", "reason": reason, "metrics": {}}
            self.progress.note(f"failed: {where}: {reason}")
        record["environment"] = environment.describe() | {
            "peak_memory_mib": round(environment.peak_memory_mib())
        }
        return record

    def _started(self, cell: Cell) -> dict[str, Any]:
        return {
            "schema": RECORD_SCHEMA,
            "identity": cell.identity,
            "track": _track(cell),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "reference": {key: self.reference.certificate[key] for key in ("grade", "failures")},
        }

    def timed_out(self, cell: Cell, took: float, limit: float) -> dict[str, Any]:
        """The record of a cell that was not run, because an earlier split took too long."""
        reason = f"an earlier split took {took:.3g} s, the limit is {limit:.3g} s"
        return self._started(cell) | {
            "status": "timeout",
            "reason": reason,
            "metrics": {},
            "environment": environment.describe(),
        }

    def scored_again(self, cell: Cell) -> dict[str, Any] | None:
        """An earlier record with the metrics that it lacks, read on the draws that were kept.

        None where there is no such record, or its draws are gone.
        """
        kept = cell.earlier and self.cache.get("merged", cell.identity)
        if not cell.earlier or not kept:
            return None
        record, (arrays, info) = cell.earlier, kept
        self.progress.say(f"{self.entry.name}, split {cell.split}: scoring kept draws")
        draws = arrays["eta"].astype(float)
        new = self.scorer.score(draws, info["ess"], cell.method_entry.name, record["metrics"])
        without = {*record.get("metrics_not_applicable", ()), *new["metrics_not_applicable"]}
        return record | {
            "metrics": record["metrics"] | new["metrics"],
            "metrics_not_applicable": sorted(without),
        }

    def _run(self, cell: Cell, where: str) -> dict[str, Any]:
        split = f"{self.scheme}-{cell.split}"
        sampled = {
            kind: self.sampled(cell.split, kind) for kind in sorted(kinds_of_draws(cell.method))
        }
        self.progress.say(where)
        name = cell.method_entry.name
        key = derive_key(self.seed, self.entry.name, split, cell.identity["method"]["label"])
        with OtherLoad() as other:
            result = run_method(
                cell.method,
                name,
                self._shards(cell, sampled),
                key,
                self.budget.num_draws,
                self.problem.parameter_names,
            )
        ratios: dict[str, Any] | None
        if "correct" in cell.identity["method"]:
            densities = self._densities(cell.split)
            result, ratios = psis(result, densities, jax.random.fold_in(key, 1))
        else:
            ratios = self._importance(result)
        self._keep(cell, result)
        loads = [draws.info["other_load"] for draws in sampled.values()] + [other.cores]
        known = [load for load in loads if load is not None]
        return {
            **status(result.info, "correct" in cell.identity["method"]),
            **self.scorer.score(result.draws, result.info["ess"], name),
            "seconds": {
                "sampling": sum(draws.info["seconds"] for draws in sampled.values()),
                "sampling_compile": sum(d.info["compile_seconds"] for d in sampled.values()),
                **result.seconds,
            },
            "other_load_cores": max(known) if known else None,
            "bytes_communicated": result.bytes_communicated,
            "num_draws": len(result.draws),
            "info": result.info,
            "importance": ratios,
            "shards": {kind: summary_of(draws) for kind, draws in sampled.items()},
            "warnings": [
                *result.info["warnings"],
                *untrusted(ratios),
                *(line for draws in sampled.values() for line in draws.info["warnings"]),
            ],
        }

    def _shards(self, cell: Cell, sampled: dict[str, Draws]) -> ShardDraws:
        if "reference" in cell.method.needs:
            blocks = self.reference.blocks if self.natural else self.reference.eta_blocks
            fresh = blocks[self.reference.fresh(cell.split)]
            return ShardDraws(values=jnp.asarray(fresh)[None], ess=jnp.array([self.reference.ess]))
        plain, inflated = sampled.get("plain"), sampled.get("inflated")
        ess = np.min([draws.min_ess() for draws in sampled.values()], axis=0)
        return ShardDraws(
            values=None if plain is None else jnp.asarray(plain.values),
            log_density=None if plain is None else jnp.asarray(plain.log_density),
            score=None if plain is None else jnp.asarray(plain.score),
            inflated=None if inflated is None else jnp.asarray(inflated.values),
            density=self._densities(cell.split) if "model" in cell.method.needs else None,
            ess=jnp.minimum(jnp.asarray(ess), self.budget.draws_per_shard),
        )

    def _importance(self, result: MergeResult) -> dict[str, Any] | None:
        if result.log_density is None:
            return None
        return importance(self._posterior(), result.draws, result.log_density)

    def _posterior(self) -> Density:
        """The full posterior as a density of what is merged, η or θ."""
        posterior = full_posterior(self.problem, self.data)
        return posterior.in_theta() if self.natural else posterior

    def _keep(self, cell: Cell, result: MergeResult) -> None:
        self.cache.put(
            "merged", cell.identity, {"eta": result.draws.astype(np.float32)}, result.info
        )

    # ------------------------------------------------------------ draws of a split

    def sampled(self, split: int, kind: str) -> Draws:
        """Draws of a split's "plain" or "inflated" subposteriors, from the cache or made now."""
        if (split, kind) in self.refused:
            # What cannot be sampled for one method cannot be for the next.
            raise self.refused[split, kind]
        if (split, kind) not in self.draws:
            # One split's draws are in memory at a time.
            self.draws = {key: draws for key, draws in self.draws.items() if key[0] == split}
            try:
                self.draws[split, kind] = self._sample(split, kind)
            except Exception as error:
                self.refused[split, kind] = error
                raise
            finally:
                self.progress.advance(SAMPLING_UNITS)
        return self.draws[split, kind]

    def _sample(self, split: int, kind: str) -> Draws:
        name = f"{self.scheme}-{split}"
        described = described_kind(kind, self.natural)
        settings = shard_settings(self.budget)
        cache_key = draws_key(self.identity, name, described, settings)
        found = self.cache.get("draws", cache_key)
        if found is not None:
            arrays, info = found
            return Draws(**arrays, num_chains=settings.num_chains, info=info)
        shard_of = self._shard_of(split)
        space = "natural" if self.natural else "unconstrained"
        densities = subposteriors(
            self.problem, self.data, shard_of, inflated=kind == "inflated", space=space
        )
        prefix = f"{self.entry.name}, split {split}, {described} subposteriors"
        with OtherLoad() as other:
            draws, _ = sample(
                densities,
                derive_key(self.seed, self.entry.name, name, described),
                settings,
                self.problem.parameter_names,
                lambda what: self.progress.say(f"{prefix}: {what}"),
            )
        self._verify(draws, shard_of, kind, derive_key(self.seed, self.entry.name, name, "check"))
        sizes = np.bincount(shard_of, minlength=self.problem.num_shards).tolist()
        info = draws.info | {
            "sizes": sizes,
            "other_load": other.cores,
            "warnings": complaints(draws, kind, settings.min_ess),
        }
        draws = replace(draws, info=info)
        if self.natural:
            draws = _in_theta(draws, densities)
        self.cache.put("draws", cache_key, draws.arrays(), info)
        return draws

    def _shard_of(self, split: int) -> np.ndarray:
        return assign(
            self.scheme,
            derive_key(self.seed, self.entry.name, f"{self.scheme}-{split}"),
            num_observations(self.data),
            self.problem.num_shards,
            self.problem.labels(self.data),
        )

    def _densities(self, split: int) -> Density:
        densities = subposteriors(self.problem, self.data, self._shard_of(split))
        return densities.in_theta() if self.natural else densities

    def _verify(self, draws: Draws, shard_of: np.ndarray, kind: str, key: Array) -> None:
        """Recompute log densities and scores of random draws before any method sees them."""
        num_shards = self.problem.num_shards
        prior, likelihood = (1.0, num_shards) if kind == "inflated" else (1.0 / num_shards, 1.0)
        weights = (prior, float(likelihood), 1.0 if self.natural else prior)
        for shard in range(num_shards):
            error = check_stored(
                self.problem,
                self.data,
                self.problem.counted(np.flatnonzero(shard_of == shard)),
                draws.values[shard],
                draws.log_density[shard],
                draws.score[shard],
                jax.random.fold_in(key, shard),
                weights,
            )
            if not error <= TOLERANCE:
                raise DrawsError(
                    f"stored log densities or scores of {kind} shard {shard} differ from the "
                    f"model by {error:.1e}; is log_likelihood a function of its arguments alone?"
                )


def _in_theta(draws: Draws, densities: Density) -> Draws:
    """Draws mapped to natural parameters, with log densities and scores in θ."""
    theta = jax.vmap(jax.vmap(densities.problem.constrain))(jnp.asarray(draws.values))
    values, scores = values_and_scores(densities.in_theta(), theta)
    return replace(
        draws, values=np.asarray(theta), log_density=np.asarray(values), score=np.asarray(scores)
    )


def kinds_of_draws(method: Method) -> set[str]:
    """Which subposteriors a method wants sampled: "plain", "inflated", both or none."""
    if "reference" in method.needs:
        return set()
    plain = {"draws", "log_density", "score"} & set(method.needs)
    return ({"plain"} if plain else set()) | {"inflated"} & set(method.needs)


def _track(cell: Cell) -> str:
    corrected = "correct" in cell.identity["method"]
    return cell.method.track() + " + a correction round" * corrected
