"""Running one merge: check the draws, fit every shard, merge, and say what it cost."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from dncbench.configure import configure, label
from dncbench.draws import evenly
from dncbench.errors import DrawsError
from dncbench.method import Method, ShardDraws
from dncbench.precision import derive_key
from dncbench.store import canonical
from dncbench.timing import Program

_SINGULAR = 1e-10  # smallest eigenvalue of a correlation matrix that still has digits left
_TIME_ALL_SHARDS_BELOW = 1.0  # seconds


@dataclass(frozen=True)
class MergeResult:
    """Merged draws and how they came about.

    Attributes:
        draws: (num_draws, d) float64.
        info: what the method reported; ``ess`` says how many independent draws
            the merged draws are worth; ``warnings`` what a reader should know.
        seconds: ``compile``, ``fit_total`` (all shards), ``fit_slowest_shard``
            (one shard alone on its machine), ``merge``.
        bytes_communicated: size of all messages.
    """

    draws: Float[np.ndarray, "num_draws d"]
    info: dict[str, Any]
    seconds: dict[str, float]
    bytes_communicated: int


def merge(
    values: Any,
    method: str = "swiss",
    *,
    log_density: Any = None,
    score: Any = None,
    inflated: Any = None,
    num_draws: int = 10_000,
    seed: int = 0,
    **hyperparameters: Any,
) -> MergeResult:
    """Merge subposterior draws of your own.

    Args:
        values: draws of the S subposteriors p_s ∝ p(θ)^(1/S) p(Y_s given θ), as an
            array (S, T, d) or a list of (T_s, d) arrays. Unequal numbers of draws
            are thinned evenly to the smallest. May be None for a method that uses
            inflated draws alone.
        method: a registered method, e.g. ``"consensus"`` or ``"consensus[weights=shard]"``.
        log_density: (S, T), where the method uses log densities.
        score: (S, T, d), where the method uses scores.
        inflated: (S, T, d) draws of the inflated subposteriors
            p(θ) p(Y_s given θ)^S, which ``swiss`` is defined on.
        num_draws: merged draws wanted.
        seed: equal seeds give equal draws.
        hyperparameters: the method's settings.

    Returns:
        A :class:`MergeResult` with ``.draws`` (num_draws, d) and ``.info``.

    Raises:
        UnknownNameError: unknown method or setting.
        DrawsError: draws that the method cannot use; names shard and coordinate.

    Example:
        >>> result = dncbench.merge(values, "consensus", num_draws=5000)
        >>> result.draws.mean(0)
    """
    entry, configured = configure("method", method, **hyperparameters)
    given = {"values": values, "log_density": log_density, "score": score, "inflated": inflated}
    if num_draws < 1:
        raise DrawsError(f"num_draws is {num_draws}; ask for at least one draw")
    stacked, warnings = _stack_given(given)
    shards = ShardDraws(**stacked)
    result = run_method(configured, entry.name, shards, derive_key(seed, entry.name), num_draws)
    result.info["method"] = label(entry, configured)
    result.info["warnings"] = warnings + result.info.get("warnings", [])
    return result


def run_method(
    method: Method,
    name: str,
    shards: ShardDraws,
    key: PRNGKeyArray,
    num_draws: int,
    parameter_names: Sequence[str] | None = None,
) -> MergeResult:
    """Fit every shard and merge.

    Args:
        method: a configured method.
        name: what messages call it.
        shards: stacked along a leading axis of S; what is not there is None.
        key: random key of this cell.
        num_draws: merged draws wanted.
        parameter_names: for messages; coordinates are numbered without them.

    Raises:
        DrawsError: the method needs what is not there, or cannot use what is.
    """
    shards = _only_needed(method, name, shards)
    _check_draws(method, name, shards, parameter_names)
    num_shards = jax.tree.leaves(shards)[0].shape[0]
    key_fit, key_merge = jax.random.split(key)
    keys = jax.random.split(key_fit, num_shards)
    run = _run_traced if method.traceable else _run_untraced
    draws, info, seconds, messages = run(method, shards, keys, key_merge, num_draws)

    draws = np.asarray(draws, dtype=np.float64)
    used = shards.inflated if shards.values is None else shards.values
    assert used is not None
    if draws.shape != (num_draws, used.shape[-1]):
        raise DrawsError(
            f"method {name!r} returned draws of shape {draws.shape}, "
            f"not ({num_draws}, {used.shape[-1]})"
        )
    bad = np.argwhere(~np.isfinite(draws))
    if len(bad):
        raise DrawsError(
            f"method {name!r} returned a non-finite draw (row {bad[0][0]}, "
            f"{_coordinate(bad[0][1], parameter_names)}) from finite draws"
        )
    plain = {key: _plain(value) for key, value in info.items()}
    try:
        canonical(plain)
    except (TypeError, ValueError) as error:
        raise DrawsError(
            f"method {name!r} returned info that cannot be recorded ({error}); "
            "return finite numbers, strings and lists of them"
        ) from error
    scarcest = float(np.min(np.asarray(shards.ess))) if shards.ess is not None else used.shape[1]
    plain["ess"] = float(min(plain.get("ess", scarcest), num_draws))
    if not plain["ess"] > 0:
        raise DrawsError(f"method {name!r} reports an ess of {plain['ess']}; it must be positive")
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(messages))
    return MergeResult(draws, plain, seconds, int(size))


# ---------------------------------------------------------------- running


@functools.cache
def _fit_program() -> Program:
    return Program(
        eqx.filter_vmap(
            lambda method, shard, key: method.fit(shard, key), in_axes=(None, eqx.if_array(0), 0)
        )
    )


@functools.cache
def _merge_program() -> Program:
    return Program(lambda method, messages, key, num_draws: method.merge(messages, key, num_draws))


def _run_traced(
    method: Method, shards: ShardDraws, keys: Key[Array, " S"], key: PRNGKeyArray, num_draws: int
) -> tuple[Any, dict[str, Any], dict[str, float], Any]:
    fitted = _fit_program()(method, shards, keys)
    merged = _merge_program()(method, fitted.value, key, num_draws)
    draws, info = merged.value
    # A machine of a cluster fits its own shard alone. Every shard has equally many
    # draws, so where that is expensive the first one stands for all.
    timed = range(len(keys) if fitted.run < _TIME_ALL_SHARDS_BELOW else 1)
    alone = [_fit_program()(method, _one_shard(shards, s), keys[s : s + 1]).run for s in timed]
    seconds = {
        "compile": fitted.compile + merged.compile,
        "fit_total": fitted.run,
        "fit_slowest_shard": max(alone),
        "merge": merged.run,
    }
    return draws, info, seconds, fitted.value


def _one_shard(shards: ShardDraws, s: int) -> ShardDraws:
    return jax.tree.map(lambda leaf: leaf[s : s + 1], shards)


def _run_untraced(
    method: Method, shards: ShardDraws, keys: Key[Array, " S"], key: PRNGKeyArray, num_draws: int
) -> tuple[Any, dict[str, Any], dict[str, float], Any]:
    messages, fit_seconds = [], []
    for s in range(len(keys)):
        shard = jax.tree.map(lambda leaf: np.asarray(leaf[0]), _one_shard(shards, s))
        message, elapsed = _timed(method.fit, shard, keys[s])
        messages.append(message)
        fit_seconds.append(elapsed)
    (draws, info), elapsed = _timed(method.merge, messages, key, num_draws)
    seconds = {
        "compile": 0.0,
        "fit_total": sum(fit_seconds),
        "fit_slowest_shard": max(fit_seconds),
        "merge": elapsed,
    }
    return draws, info, seconds, messages


def _timed(function: Callable, *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start


def _plain(value: Any) -> Any:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    return value


# ---------------------------------------------------------------- checking


def _stack_given(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arrays with equally many draws per shard, from what a user gave."""
    for name, value in given.items():
        if value is not None and not hasattr(value, "__len__"):
            raise DrawsError(f"{name} must be an array or a list with one entry for each shard")
    lists = {
        name: [np.asarray(shard, dtype=np.float64) for shard in value]
        for name, value in given.items()
        if value is not None
    }
    if not lists:
        raise DrawsError("merge needs draws: pass values, an array (S, T, d) or a list of (T_s, d)")
    num_shards = {name: len(shards) for name, shards in lists.items()}
    if len(set(num_shards.values())) > 1 or 0 in num_shards.values():
        raise DrawsError(f"every argument needs one entry for each shard; got {num_shards}")
    for name, shards in lists.items():
        rank = 1 if name == "log_density" else 2
        for s, shard in enumerate(shards):
            if shard.ndim != rank or shard.size == 0:
                shape = "(T,)" if rank == 1 else "(T, d)"
                raise DrawsError(f"{name} of shard {s} has shape {shard.shape}; expected {shape}")
    dims = {
        f"{name} of shard {s}": shard.shape[1]
        for name, shards in lists.items()
        for s, shard in enumerate(shards)
        if name != "log_density"
    }
    (first, dim), *others = dims.items()
    for other, its_dim in others:
        if its_dim != dim:
            raise DrawsError(f"{other} has {its_dim} dimensions, {first} has {dim}")
    counts = [len(shard) for shard in lists.get("values", [])]
    for name in ("log_density", "score"):
        if name in lists and [len(shard) for shard in lists[name]] != counts:
            raise DrawsError(f"{name} must have one entry for each draw in values, shard by shard")
    stacked, warnings = {}, []
    for name, shards in lists.items():
        lengths = [len(shard) for shard in shards]
        if len(set(lengths)) > 1:
            warnings.append(f"{name}: thinned {lengths} draws to {min(lengths)} in each shard")
        rows = [evenly(length, min(lengths)) for length in lengths]
        stacked[name] = jnp.stack([shard[row] for shard, row in zip(shards, rows, strict=True)])
    return stacked, warnings


_FIELD = {"draws": "values"}


def _only_needed(method: Method, name: str, shards: ShardDraws) -> ShardDraws:
    """Leave out what the method does not use, so that it cannot; refuse what is missing."""
    if "reference" in method.needs:
        fields = {"values"}
        if shards.values is None or shards.values.shape[0] != 1:
            raise DrawsError(
                f"method {name!r} needs draws of the full posterior, which only the benchmark has"
            )
    else:
        fields = {_FIELD.get(need, need) for need in method.needs - {"covariance"}}
    for field in sorted(fields):
        if getattr(shards, field) is None:
            hint = (
                "; for plain subposterior draws use 'swiss-product' or 'consensus'"
                if field == "inflated"
                else ""
            )
            raise DrawsError(
                f"method {name!r} needs {field}, which was not given: pass {field}={hint}"
            )
    kept = {field: getattr(shards, field) for field in fields}
    return ShardDraws(**kept, ess=_known_ess(shards, kept))


def _known_ess(shards: ShardDraws, kept: dict[str, Any]) -> Array:
    if shards.ess is not None:
        return jnp.asarray(shards.ess, dtype=float)
    draws = kept.get("values", kept.get("inflated"))
    assert draws is not None
    return jnp.full(draws.shape[0], float(draws.shape[1]))


def _coordinate(index: int | np.integer, names: Sequence[str] | None) -> str:
    return f"coordinate {index} ({names[int(index)]})" if names else f"coordinate {index}"


def _check_draws(
    method: Method, name: str, shards: ShardDraws, names: Sequence[str] | None
) -> None:
    for field in ("values", "log_density", "score", "inflated"):
        array = getattr(shards, field)
        if array is None:
            continue
        bad = np.argwhere(~np.isfinite(np.asarray(array)))
        if len(bad):
            shard, row, *coordinate = (int(i) for i in bad[0])
            where = f", {_coordinate(coordinate[0], names)}" if coordinate else ""
            raise DrawsError(
                f"{field} of shard {shard} has a non-finite entry in draw {row}{where} "
                f"({len(bad)} in all); remove those draws or sample the shard again"
            )
        if "covariance" in method.needs and field in ("values", "inflated"):
            for s, draws in enumerate(np.asarray(array)):
                _check_covariance(draws, s, name, names)


def _check_covariance(
    draws: Float[np.ndarray, "T d"], shard: int, name: str, names: Sequence[str] | None
) -> None:
    num_draws, dim = draws.shape
    instead = "or use a method without covariances (average, pooled)"
    if num_draws <= dim:
        raise DrawsError(
            f"shard {shard} has {num_draws} draws in {dim} dimensions, so its covariance is "
            f"singular and {name!r} cannot weigh it; draw at least {dim + 1} "
            f"(better 10 x {dim}), {instead}"
        )
    centred = draws - draws.mean(0)
    spread = centred.std(0)
    # A constant column leaves rounding errors of the mean, not an exact zero.
    flat = np.flatnonzero(spread <= 1e-14 * np.maximum(np.abs(draws).max(0), 1e-300))
    if len(flat):
        raise DrawsError(
            f"shard {shard}, {_coordinate(flat[0], names)}: the draws are constant, so "
            f"the covariance is singular; the sampler is stuck or the coordinate is fixed: "
            f"drop it, {instead}"
        )
    standardised = centred / spread
    eigenvalues, vectors = np.linalg.eigh(standardised.T @ standardised / num_draws)
    if eigenvalues[0] < _SINGULAR:
        culprit = int(np.argmax(np.abs(vectors[:, 0])))
        raise DrawsError(
            f"shard {shard}, {_coordinate(culprit, names)}: a linear combination of other "
            f"coordinates, so the covariance is singular (smallest eigenvalue of the correlation "
            f"matrix {eigenvalues[0]:.1e}); drop the coordinate, {instead}"
        )
