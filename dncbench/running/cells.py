"""The running of one cell: merge, score, record.

A cell is (problem, split, method, seed). All methods of a split see the same shards
and the same draws. A cell that fails is recorded as failed.
"""

import datetime
from typing import Any

import numpy as np

from dncbench.draws import Draws
from dncbench.errors import NotApplicableError
from dncbench.merging.importance import importance
from dncbench.merging.inputs import require_space
from dncbench.merging.run import MergeResult, Round, run_method
from dncbench.precision import derive_key
from dncbench.running import environment
from dncbench.running.cache_keys import merged_key
from dncbench.running.environment import OtherLoad
from dncbench.running.plan import Cell
from dncbench.running.prepared import Prepared
from dncbench.running.status import status, summary_of, untrusted
from dncbench.storage.files import canonical
from dncbench.storage.records import RECORD_SCHEMA, validate


def run_cell(ready: Prepared, cell: Cell) -> dict[str, Any]:
    """Run one cell; whatever happens, there is a record."""
    where = f"{ready.entry.name}, split {cell.identity.split}, {cell.identity.method.label}"
    if (again := scored_again(ready, cell)) is not None:
        return again
    record = _started(ready, cell)
    try:
        figures = _merged_and_scored(ready, cell, where)
        canonical(figures)  # raises where a figure cannot be recorded
        validate(record | figures | {"environment": {}})
        record |= figures
    except NotApplicableError as error:
        record |= {"status": "not applicable", "reason": str(error), "metrics": {}}
    except Exception as error:
        # A method or plugin may raise anything; the other cells go on.
        reason = f"{type(error).__name__}: {error}"
        record |= {"status": "failed", "reason": reason, "metrics": {}}
        ready.progress.note(f"failed: {where}: {reason}")
    record["environment"] = environment.describe()
    return record


def timed_out(ready: Prepared, cell: Cell, took: float, limit: float) -> dict[str, Any]:
    """The record of a cell that was not run, because an earlier split took too long."""
    return _started(ready, cell) | {
        "status": "timeout",
        "reason": f"an earlier split took {took:.3g} s, the limit is {limit:.3g} s",
        "metrics": {},
        "environment": environment.describe(),
    }


def scored_again(ready: Prepared, cell: Cell) -> dict[str, Any] | None:
    """An earlier record with the metrics that it lacks, read on the draws that were kept.

    None where there is no such record, or its draws are gone.
    """
    kept = cell.earlier and ready.cache.get("merged", kept_under(cell.earlier))
    if not cell.earlier or not kept:
        return None
    record, (arrays, info) = cell.earlier, kept
    ready.progress.say(f"{ready.entry.name}, split {cell.identity.split}: scoring kept draws")
    draws = arrays["draws"]
    draws = draws.astype(float) if np.issubdtype(draws.dtype, np.floating) else draws
    new = ready.scorer.score(
        draws, info["ess"], cell.method_entry.name, record["metrics"], arrays.get("log_probs")
    )
    figures = record["metrics"] | new["metrics"]
    without = {*record.get("metrics_not_applicable", ()), *new["metrics_not_applicable"]}
    reasons = record.get("metrics_failed", {}) | new.get("metrics_failed", {})
    failed = {metric: reasons[metric] for metric in reasons.keys() - figures.keys() - without}
    again = record | {"metrics": figures, "metrics_not_applicable": sorted(without)}
    again.pop("metrics_failed", None)
    return again | {"metrics_failed": failed} if failed else again


def kept_under(record: dict[str, Any]) -> dict[str, Any]:
    """The cache key of a record's merged draws."""
    return {name: record[name] for name in ("identity", "settings", "budget")}


def _started(ready: Prepared, cell: Cell) -> dict[str, Any]:
    certificate = ready.reference.certificate
    return {
        "schema": RECORD_SCHEMA,
        "identity": cell.identity.to_json(),
        "settings": cell.settings,
        "budget": cell.budget.contents(),
        "headline": list(cell.problem.headline),
        "track": cell.method.track(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "reference": {key: certificate[key] for key in ("grade", "failures")},
    }


def _merged_and_scored(ready: Prepared, cell: Cell, where: str) -> dict[str, Any]:
    name, split = cell.method_entry.name, cell.identity.split
    require_space(cell.method, name, ready.space)
    shards, sampled = ready.shards(cell.method, split)
    ready.progress.say(where)
    key = derive_key(
        ready.terms.seed,
        ready.entry.name,
        f"{ready.terms.scheme}-{split}",
        cell.identity.method.label,
    )
    with OtherLoad() as other:
        result = run_method(cell.method, name, shards, key, ready.budget.num_draws, ready.space)
    ratios = result.info.pop("importance", None) or _importance(ready, result)
    _keep(ready, cell, result)
    loads = [draws.info["other_load"] for draws in sampled.values()] + [other.cores]
    known = [load for load in loads if load is not None]
    scored = ready.scorer.score(result.draws, result.info["ess"], name, (), result.log_probs)
    return {
        **status(result.info),
        **scored,
        "seconds": {
            "sampling": sum(draws.info["seconds"] for draws in sampled.values()),
            "sampling_compile": sum(d.info["compile_seconds"] for d in sampled.values()),
            **result.seconds,
        },
        "other_load_cores": max(known) if known else None,
        "bytes_communicated": result.bytes_communicated,
        "memory_bytes": result.memory,
        "rounds": [_round(ready, cell, result, each) for each in result.rounds],
        "num_draws": len(result.draws),
        "info": result.info,
        "importance": ratios,
        "shards": {kind: summary_of(draws) for kind, draws in sampled.items()},
        "warnings": [*result.info["warnings"], *untrusted(ratios), *_sampling_warnings(sampled)],
    }


def _sampling_warnings(sampled: dict[str, Draws]) -> list[str]:
    return [line for draws in sampled.values() for line in draws.info["warnings"]]


def _round(ready: Prepared, cell: Cell, result: MergeResult, one: Round) -> dict[str, Any]:
    """What a round cost, and how far from the truth the merge was after it."""
    figures: dict[str, Any] = {}
    if one.draws is not None:
        draws = ready.space.check(
            one.draws, len(result.draws), f"method {cell.method_entry.name!r}"
        )
        scored = ready.scorer.score(
            draws, result.info["ess"], cell.method_entry.name, only=cell.problem.headline
        )
        figures = {metric: figure["value"] for metric, figure in scored["metrics"].items()}
    return {
        "fit_by_shard": list(one.by_shard),
        "fit_total": one.fit_total,
        "merge": one.server,
        "bytes_up": one.bytes_up,
        "bytes_down": one.bytes_down,
        "metrics": figures,
    }


def _importance(ready: Prepared, result: MergeResult) -> dict[str, Any] | None:
    posterior = None if result.log_density is None else ready.posterior()
    if posterior is None or result.log_density is None:
        return None
    return importance(posterior, result.draws, result.log_density)


def _keep(ready: Prepared, cell: Cell, result: MergeResult) -> None:
    arrays = {"draws": result.draws.astype(ready.space.kept)}
    if result.log_probs is not None:
        arrays["log_probs"] = result.log_probs
    key = merged_key(cell.identity, cell.settings, cell.budget.contents())
    ready.cache.put("merged", key, arrays, result.info)
