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
from dncbench.method import Method
from dncbench.precision import derive_key
from dncbench.running import environment
from dncbench.running.cache_keys import merged_key
from dncbench.running.environment import OtherLoad
from dncbench.running.plan import Cell
from dncbench.running.prepared import Prepared
from dncbench.running.status import status, summary_of, untrusted
from dncbench.space import Space
from dncbench.storage.cache import Cache, fingerprint
from dncbench.storage.records import RECORD_SCHEMA, RULES, validate
from dncbench.undisturbed import undisturbed

_LONGEST_REASON = 2_000  # characters: a method's error may hold whole arrays
_MOST_OBJECTS = 50_000  # of which the clients' laws are kept


def run_cell(ready: Prepared, cell: Cell) -> dict[str, Any]:
    """Run one cell; whatever happens, there is a record, and the process is as it was."""
    where = f"{ready.entry.name}, split {cell.identity.split}, {cell.identity.method.label}"
    try:
        with undisturbed(lambda what: ready.progress.note(f"{where}: {what}")):
            if (again := scored_again(ready, cell)) is not None:
                return again
            record = _started(ready, cell)
            figures = _merged_and_scored(ready, cell, where, record)
            validate(record | figures)  # raises where a figure cannot be recorded
            return record | figures
    except NotApplicableError as error:
        return _without_figures(ready, cell, "not applicable", str(error))
    except Exception as error:
        # A method or plugin may raise anything; the other cells go on.
        reason = f"{type(error).__name__}: {error}"
        ready.progress.note(f"failed: {where}: {reason}")
        return _without_figures(ready, cell, "failed", reason)


def _without_figures(ready: Prepared, cell: Cell, status: str, reason: str) -> dict[str, Any]:
    return without_figures(_started(ready, cell), status, reason)


def without_figures(started: dict[str, Any], status: str, reason: str) -> dict[str, Any]:
    """The record of a cell that has none, and why."""
    return started | {"status": status, "reason": reason[:_LONGEST_REASON], "metrics": {}}


def timed_out(ready: Prepared, cell: Cell, took: float, limit: float) -> dict[str, Any]:
    """The record of a cell that was not run, because an earlier split took too long."""
    reason = f"an earlier split took {took:.3g} s, the limit is {limit:.3g} s"
    return without_figures(_started(ready, cell), "timeout", reason)


def scored_again(ready: Prepared, cell: Cell) -> dict[str, Any] | None:
    """An earlier record with the metrics that it lacks, read on the draws that were kept.

    None where there is no such record, or its draws are gone.
    """
    record = cell.earlier
    kept = None if record is None else kept_draws(record, ready.space, ready.cache)
    if record is None or kept is None:
        return None
    ready.progress.say(f"{ready.entry.name}, split {cell.identity.split}: scoring kept draws")
    draws, log_probs = kept
    new = ready.scorer.score(
        draws, record["info"]["ess"], cell.method_entry.name, record["metrics"], log_probs
    )
    without = {*record.get("metrics_not_applicable", ()), *new["metrics_not_applicable"]}
    failed = record.get("metrics_failed", {}) | new.get("metrics_failed", {})
    failed = {metric: why for metric, why in failed.items() if metric not in new["metrics"]}
    again = record | {
        "metrics": record["metrics"] | new["metrics"],
        "metrics_not_applicable": sorted(without),
    }
    again.pop("metrics_failed", None)
    return again | ({"metrics_failed": failed} if failed else {})


def kept_draws(
    record: dict[str, Any], space: Space, cache: Cache
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The merged draws that a record's figures were read on, and their exact law, or None.

    Args:
        record: of a cell.
        space: that merging happened in.
        cache: where draws are kept.
    """

    def check(arrays: dict[str, np.ndarray], info: Any) -> None:
        if fingerprint(arrays) != record.get("merged_draws"):
            raise ValueError("its draws are not those that the record is of")
        space.unpack(arrays)

    found = cache.get("merged", merged_key(record), check)
    return None if found is None else (space.unpack(found[0]), found[0].get("log_probs"))


def _started(ready: Prepared, cell: Cell) -> dict[str, Any]:
    certificate = ready.reference.certificate
    return {
        "schema": RECORD_SCHEMA,
        "rules": RULES,
        "identity": cell.identity.to_json(),
        "settings": cell.settings,
        "budget": cell.budget.contents(),
        "headline": list(cell.problem.headline),
        "track": _track(cell.method),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "reference": {key: certificate[key] for key in ("grade", "failures")},
        "environment": environment.describe(),
    }


def _track(method: Method) -> str:
    """What a method says that it uses; it is asked outside of what may fail."""
    try:
        return str(method.track())
    except Exception as error:
        return f"unknown: {type(error).__name__}"


def _merged_and_scored(
    ready: Prepared, cell: Cell, where: str, started: dict[str, Any]
) -> dict[str, Any]:
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
    ready.progress.merging(started)
    fits = ready.fits(split)
    # Scoring must not see what merging changed: what metrics keep of the truth is for all cells.
    with OtherLoad() as other, undisturbed(lambda what: ready.progress.note(f"{where}: {what}")):
        result = run_method(
            cell.method, name, shards, key, ready.budget.num_draws, ready.space, shared=fits
        )
    ratios = result.info.pop("importance", None) or _importance(ready, result)
    kept = ready.space.pack(result.draws)
    kept |= {} if result.log_probs is None else {"log_probs": result.log_probs}
    ready.cache.put("merged", merged_key(started), kept, {})
    loads = [draws.info["other_load"] for draws in sampled.values()] + [other.cores]
    loads.append(fits.other_load(cell.method.shared_fit))
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
        "merged_draws": fingerprint(kept),
        **_training(ready, result),
        **_client_laws(ready, started, result),
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


def _training(ready: Prepared, result: MergeResult) -> dict[str, Any]:
    """How far from the truth the merge was in the course of its training, where it told."""
    truth = ready.reference.log_probs
    if result.laws is None or truth is None:
        return {}
    distances = 0.5 * np.abs(result.laws - np.exp(truth)[None]).sum(1)
    steps = [
        {"share": (number + 1) / len(distances), "tv": float(distance)}
        for number, distance in enumerate(distances)
    ]
    return {"training": steps}


def _client_laws(ready: Prepared, started: dict[str, Any], result: MergeResult) -> dict[str, Any]:
    """Keep the laws that the clients learned beside the merged draws; what tells them apart."""
    laws = result.client_log_probs
    if laws is None or laws.shape[1] > _MOST_OBJECTS:
        return {}
    kept = {"log_probs": laws.astype(np.float32)}
    ready.cache.put("client-laws", merged_key(started), kept, {})
    return {"client_laws": fingerprint(kept)}


def client_laws(record: dict[str, Any], cache: Cache) -> np.ndarray | None:
    """(S, K) log probabilities under the laws that a cell's clients learned, or None."""

    def check(arrays: dict[str, np.ndarray], info: Any) -> None:
        if fingerprint(arrays) != record.get("client_laws"):
            raise ValueError("its laws are not those that the record is of")

    found = cache.get("client-laws", merged_key(record), check)
    return None if found is None else found[0]["log_probs"]


def _importance(ready: Prepared, result: MergeResult) -> dict[str, Any] | None:
    posterior = None if result.log_density is None else ready.posterior()
    if posterior is None or result.log_density is None:
        return None
    return importance(posterior, result.draws, result.log_density)
