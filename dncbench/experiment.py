"""The plan (which cells) and the running of one cell.

A cell is (problem, split, method, seed). All methods of a split see the same shards
and the same draws. A cell that fails is recorded as failed and the others go on; a
crash loses at most the cell in flight.
"""

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from dncbench import environment, reference, registry
from dncbench.budget import Budget
from dncbench.budget import get as get_budget
from dncbench.configure import configure, label, settings_of
from dncbench.draws import Draws
from dncbench.errors import DncbenchError, DrawsError, NotApplicableError
from dncbench.merging import MergeResult, run_method
from dncbench.method import Method, ShardDraws
from dncbench.metrics import Sample
from dncbench.precision import derive_key
from dncbench.problem import Problem, load_data, num_observations, subposteriors
from dncbench.reference import Reference
from dncbench.registry import Entry
from dncbench.sampling import SamplerSettings, sample
from dncbench.splits import assign, parse_scheme
from dncbench.store import RECORD_SCHEMA, Cache, Records
from dncbench.timing import OtherLoad

SAMPLING_VERSION = 1
"""Raised when the same settings give other subposterior draws; cached ones are then not used."""

DEFAULT_SPLITS = 5
MAX_RHAT = 1.01
_CHECK_TOLERANCE = 1e-8


class Progress(Protocol):
    """What a run tells its display; every method may do nothing."""

    def plan(self, units: float) -> None:
        """So much work lies ahead, in units of one merge."""

    def say(self, what: str) -> None:
        """This is being done now."""

    def advance(self, units: float) -> None:
        """So much work is done."""

    def note(self, text: str) -> None:
        """A line worth keeping on the screen."""


class Silent:
    """Progress that is not shown."""

    def plan(self, units: float) -> None:
        """Nothing."""

    def say(self, what: str) -> None:
        """Nothing."""

    def advance(self, units: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


# Rough costs in units of one merge, for the ETA.
_REFERENCE_UNITS, _SAMPLING_UNITS = 20.0, 12.0


@dataclass(frozen=True)
class Cell:
    """One run to be made and recorded.

    Attributes:
        problem: configured, with its registry ``problem_entry``.
        method: configured, with its registry ``method_entry``.
        split: index of the split.
        identity: what determines the cell's figures; plain JSON values.
    """

    problem_entry: Entry
    problem: Problem
    method_entry: Entry
    method: Method
    split: int
    identity: dict[str, Any]


@dataclass
class Plan:
    """The cells of a run.

    Attributes:
        todo: those to be run, by problem and split.
        done: records of those that are there already.
    """

    todo: list[Cell] = field(default_factory=list)
    done: list[dict[str, Any]] = field(default_factory=list)


def plan(
    problems: Sequence[str],
    methods: Sequence[str],
    *,
    splits: int,
    scheme: str,
    seed: int,
    budget: Budget,
    records: Records,
    force: bool,
) -> Plan:
    """Work out which cells there are and which of them need running.

    Raises:
        UnknownNameError: an unknown problem, method, setting or scheme.
    """
    parse_scheme(scheme)
    metric_ids = {entry.id for entry in registry.entries("metric")}
    configured = [
        configure("method", spec)
        for spec in _expand(methods, registry.entries("method"))
    ]
    result = Plan()
    for spec in _expand(problems, registry.entries("problem")):
        problem_entry, problem = configure("problem", spec)
        for split in range(splits):
            for method_entry, method in configured:
                identity = {
                    "problem": _describe(problem_entry, problem),
                    "split": {"scheme": scheme, "index": split},
                    "seed": seed,
                    "method": _describe(method_entry, method),
                    "budget": budget.contents(),
                    "space": "unconstrained",
                }
                cell = Cell(problem_entry, problem, method_entry, method, split, identity)
                record = None if force else records.get(identity)
                # A failed cell is tried again; one without a present metric is not complete.
                if record and record["status"] == "ok" and metric_ids <= set(record["metrics"]):
                    result.done.append(record)
                else:
                    result.todo.append(cell)
    return result


def _expand(specs: Sequence[str], known: Iterable[Entry]) -> list[str]:
    wanted: list[str] = []
    for spec in specs:
        wanted += [entry.name for entry in known] if spec == "all" else [spec]
    return list(dict.fromkeys(wanted))


def _describe(entry: Entry, instance: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "id": entry.id,
        "label": label(entry, instance),
        "settings": settings_of(instance),
    }


def run(
    problems: str | Sequence[str] = "toy-logistic",
    methods: str | Sequence[str] = "all",
    *,
    splits: int = DEFAULT_SPLITS,
    scheme: str = "random",
    seed: int = 0,
    budget: str = "quick",
    results: str | Path | None = None,
    cache: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run cells of the benchmark and record them.

    Args:
        problems: registered names, with settings where wanted, or "all".
        methods: the same.
        splits: how many splits, 0 to ``splits - 1``.
        scheme: split scheme, see :mod:`dncbench.splits`.
        seed: everything random follows from it.
        budget: "smoke", "quick" or "paper".
        results: folder of the records; by default ``DNCBENCH_RESULTS`` or ``./results``.
        cache: folder of draws and references; by default ``DNCBENCH_CACHE`` or the user's.
        force: run cells again that have a record.
        progress: display.

    Returns:
        The records of all cells asked for, those of earlier runs included.

    Raises:
        UnknownNameError: an unknown name; nothing was run.
        DataError: a problem's data cannot be had; the other problems were run.
    """
    progress = progress or Silent()
    store = Records(results)
    chosen = get_budget(budget)
    if splits < 1:
        raise NotApplicableError(f"splits is {splits}; ask for at least one")
    todo = plan(
        [problems] if isinstance(problems, str) else problems,
        [methods] if isinstance(methods, str) else methods,
        splits=splits, scheme=scheme, seed=seed, budget=chosen, records=store, force=force,
    )
    progress.plan(_units(todo.todo))
    made: list[dict[str, Any]] = []
    errors: list[DncbenchError] = []
    by_problem: dict[str, list[Cell]] = {}
    for cell in todo.todo:
        by_problem.setdefault(cell.identity["problem"]["label"], []).append(cell)
    for cells in by_problem.values():
        bench = _Bench(cells[0], chosen, Cache(cache), progress)
        try:
            bench.prepare()
        except DncbenchError as error:
            errors.append(error)
            progress.note(f"{cells[0].identity['problem']['label']}: {error}")
            progress.advance(_units(cells))
            continue
        progress.advance(_REFERENCE_UNITS)
        for cell in cells:
            record = bench.run(cell)
            store.put(record)
            made.append(record)
            progress.advance(1)
    if errors:
        raise errors[0]
    return todo.done + made


def _units(cells: list[Cell]) -> float:
    problems = {cell.identity["problem"]["label"] for cell in cells}
    sampled = {
        (cell.identity["problem"]["label"], cell.split, kind)
        for cell in cells
        for kind in _kinds(cell.method)
    }
    return len(cells) + _REFERENCE_UNITS * len(problems) + _SAMPLING_UNITS * len(sampled)


def _kinds(method: Method) -> set[str]:
    if "reference" in method.needs:
        return set()
    plain = {"draws", "log_density", "score"} & set(method.needs)
    return ({"plain"} if plain else set()) | {"inflated"} & set(method.needs)


class _Bench:
    """Everything the cells of one problem share: data, reference, and a split's draws."""

    def __init__(self, cell: Cell, budget: Budget, cache: Cache, progress: Progress) -> None:
        self.entry, self.problem = cell.problem_entry, cell.problem
        self.scheme, self.seed = cell.identity["split"]["scheme"], cell.identity["seed"]
        self.described = cell.identity["problem"]
        self.budget, self.cache, self.progress = budget, cache, progress
        self.draws: dict[tuple[int, str], Draws] = {}

    def prepare(self) -> None:
        """Load the data; get the reference and the noise floors."""
        name = self.entry.name
        self.progress.say(f"{name}: loading data")
        self.data = load_data(self.problem, data_key(name))
        self.identity = problem_identity(self.described, self.data, self.seed)
        self.metrics = [registry.get("metric", e.name) for e in registry.entries("metric")]
        self.reference: Reference = reference.reference(
            self.problem, self.identity, self.data, derive_key(self.seed, name, "reference"),
            self.budget, self.cache, lambda what: self.progress.say(f"{name}: {what}"),
        )
        for failure in self.reference.certificate["failures"]:
            self.progress.note(f"{name}: the reference is not certified: {failure}")
        self.floors = reference.noise_floor(
            self.reference, self.metrics, self.identity, self.cache
        )

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run one cell; whatever happens, there is a record."""
        where = f"{self.entry.name}, split {cell.split}, {cell.identity['method']['label']}"
        record: dict[str, Any] = {
            "schema": RECORD_SCHEMA,
            "identity": cell.identity,
            "track": cell.method.track(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "reference": {
                key: self.reference.certificate[key] for key in ("grade", "failures")
            },
        }
        try:
            record |= self._run(cell, where)
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

    def _run(self, cell: Cell, where: str) -> dict[str, Any]:
        split = f"{self.scheme}-{cell.split}"
        sampled = {kind: self._sampled(cell.split, kind) for kind in sorted(_kinds(cell.method))}
        self.progress.say(where)
        name = cell.method_entry.name
        key = derive_key(self.seed, self.entry.name, split, cell.identity["method"]["label"])
        with OtherLoad() as other:
            result = run_method(
                cell.method, name, self._shards(cell, sampled), key, self.budget.num_draws,
                self.problem.parameter_names,
            )
        theta = np.asarray(jax.vmap(self.problem.constrain)(jnp.asarray(result.draws)))
        self._keep(cell, result)
        loads = [draws.info["other_load"] for draws in sampled.values()] + [other.cores]
        known = [load for load in loads if load is not None]
        return {
            "status": "ok",
            "metrics": self._scored(theta, result.info["ess"], name),
            "seconds": {
                "sampling": sum(draws.info["seconds"] for draws in sampled.values()),
                "sampling_compile": sum(d.info["compile_seconds"] for d in sampled.values()),
                **result.seconds,
            },
            "other_load_cores": max(known) if known else None,
            "bytes_communicated": result.bytes_communicated,
            "num_draws": len(theta),
            "info": result.info,
            "shards": {kind: _summary(draws) for kind, draws in sampled.items()},
            "warnings": [
                *result.info.get("warnings", []),
                *(line for draws in sampled.values() for line in draws.info["warnings"]),
            ],
        }

    def _shards(self, cell: Cell, sampled: dict[str, Draws]) -> ShardDraws:
        if "reference" in cell.method.needs:
            # In η, like every other method's draws.
            fresh = self.reference.eta_blocks[self.reference.fresh(cell.split)]
            return ShardDraws(
                values=jnp.asarray(fresh)[None], ess=jnp.array([self.reference.ess])
            )
        plain, inflated = sampled.get("plain"), sampled.get("inflated")
        ess = np.min([draws.min_ess() for draws in sampled.values()], axis=0)
        return ShardDraws(
            values=None if plain is None else jnp.asarray(plain.values),
            log_density=None if plain is None else jnp.asarray(plain.log_density),
            score=None if plain is None else jnp.asarray(plain.score),
            inflated=None if inflated is None else jnp.asarray(inflated.values),
            ess=jnp.minimum(jnp.asarray(ess), self.budget.draws_per_shard),
        )

    def _scored(
        self, theta: Float[np.ndarray, "N d"], ess: float, name: str
    ) -> dict[str, dict[str, Any]]:
        spread = theta.std(0)
        truth = self.reference.sample(0)
        stuck = np.flatnonzero(spread <= 1e-12 * truth.values.std(0))
        if len(stuck):
            raise DrawsError(
                f"method {name!r} returned draws that are constant in "
                f"{self.problem.parameter_names[stuck[0]]}; nothing can be scored"
            )
        figures = {}
        for entry in self.metrics:
            figure = entry.target(Sample(theta, ess), truth)
            if not np.isfinite(figure.value):
                raise DrawsError(f"metric {entry.name!r} is not finite for method {name!r}")
            figures[entry.id] = {
                "value": float(figure.value),
                "standard_error": float(figure.standard_error),
                "noise_floor": self.floors[entry.id],
            }
        return figures

    def _keep(self, cell: Cell, result: MergeResult) -> None:
        self.cache.put(
            "merged", cell.identity, {"eta": result.draws.astype(np.float32)}, result.info
        )

    # ------------------------------------------------------------ draws of a split

    def _sampled(self, split: int, kind: str) -> Draws:
        if (split, kind) not in self.draws:
            # One split's draws are in memory at a time.
            self.draws = {key: draws for key, draws in self.draws.items() if key[0] == split}
            self.draws[split, kind] = self._sample(split, kind)
            self.progress.advance(_SAMPLING_UNITS)
        return self.draws[split, kind]

    def _sample(self, split: int, kind: str) -> Draws:
        name = f"{self.scheme}-{split}"
        settings = SamplerSettings(
            num_draws=self.budget.draws_per_shard,
            num_chains=self.budget.num_chains,
            min_ess=self.budget.shard_ess * self.budget.draws_per_shard,
            window_steps=self.budget.window_steps,
        )
        cache_key = {
            "version": SAMPLING_VERSION, "problem": self.identity, "split": name, "kind": kind,
            "sampler": vars(settings),
        }
        found = self.cache.get("draws", cache_key)
        if found is not None:
            arrays, info = found
            return Draws(**arrays, num_chains=settings.num_chains, info=info)
        shard_of = assign(
            self.scheme, derive_key(self.seed, self.entry.name, name),
            num_observations(self.data), self.problem.num_shards, self.problem.labels(self.data),
        )
        densities = subposteriors(self.problem, self.data, shard_of, inflated=kind == "inflated")
        prefix = f"{self.entry.name}, split {split}, {kind} subposteriors"
        with OtherLoad() as other:
            draws, _ = sample(
                densities, derive_key(self.seed, self.entry.name, name, kind), settings,
                self.problem.parameter_names,
                lambda what: self.progress.say(f"{prefix}: {what}"),
            )
        self._verify(draws, shard_of, kind, derive_key(self.seed, self.entry.name, name, "check"))
        sizes = np.bincount(shard_of, minlength=self.problem.num_shards).tolist()
        info = draws.info | {
            "sizes": sizes, "other_load": other.cores, "warnings": _complaints(draws, kind)
        }
        draws = replace(draws, info=info)
        self.cache.put("draws", cache_key, draws.arrays(), info)
        return draws

    def _verify(self, draws: Draws, shard_of: np.ndarray, kind: str, key: Array) -> None:
        """Recompute log densities and scores of random draws before any method sees them."""
        num_shards = self.problem.num_shards
        weights = (1.0, float(num_shards)) if kind == "inflated" else (1.0 / num_shards, 1.0)
        for shard in range(num_shards):
            error = reference.check_stored(
                self.problem, self.data, np.flatnonzero(shard_of == shard), draws.values[shard],
                draws.log_density[shard], draws.score[shard], jax.random.fold_in(key, shard),
                weights,
            )
            if not error <= _CHECK_TOLERANCE:
                raise DrawsError(
                    f"stored log densities or scores of {kind} shard {shard} differ from the "
                    f"model by {error:.1e}; is log_likelihood a function of its arguments alone?"
                )


def data_key(problem_name: str) -> Array:
    """The key that synthetic data are drawn from: the same for every run seed."""
    return derive_key(0, problem_name, "data")


def problem_identity(
    described: dict[str, Any], data: PyTree[Array], seed: int
) -> dict[str, Any]:
    """What determines a problem's draws, for cache keys."""
    checksum = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        checksum.update(f"{jax.tree_util.keystr(path)}{leaf.shape}".encode())
        checksum.update(np.asarray(leaf).tobytes())
    return {
        "id": described["id"], "settings": described["settings"],
        "data": checksum.hexdigest(), "seed": seed,
    }


def certify(
    problem: str,
    *,
    seed: int = 0,
    budget: str = "quick",
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """A problem's certificate and noise floors; from the cache where they are there.

    Raises:
        UnknownNameError, DataError: as :func:`run`.
    """
    chosen = get_budget(budget)
    entry, configured = configure("problem", problem)
    identity = {
        "problem": _describe(entry, configured), "split": {"scheme": "random"}, "seed": seed
    }
    oracle_entry, oracle = configure("method", "oracle")
    cell = Cell(entry, configured, oracle_entry, oracle, 0, identity)
    bench = _Bench(cell, chosen, Cache(cache), progress or Silent())
    bench.prepare()
    return bench.reference.certificate, bench.floors


def _summary(draws: Draws) -> dict[str, Any]:
    worst = draws.info["diagnostics"]
    return {
        "sizes": draws.info["sizes"],
        "max_rhat": max(shard["max_rhat"] for shard in worst),
        "min_ess_bulk": min(shard["min_ess_bulk"] for shard in worst),
        "min_ess_tail": min(shard["min_ess_tail"] for shard in worst),
        "divergences": sum(shard["divergences"] for shard in worst),
        "min_bfmi": min(shard["min_bfmi"] for shard in worst),
        "thinned_by": draws.info["rounds"],
        "gradient_evaluations": draws.info["gradient_evaluations"],
    }


def _complaints(draws: Draws, kind: str) -> list[str]:
    return [
        f"{kind} shard {number}: R-hat {shard['max_rhat']:.3f} in {shard['max_rhat_parameter']}, "
        f"bulk ESS {shard['min_ess_bulk']:.0f} in {shard['min_ess_bulk_parameter']}"
        for number, shard in enumerate(draws.info["diagnostics"])
        if shard["max_rhat"] > MAX_RHAT
    ]
