"""Running one merge: check the draws, ask every shard, merge, and say what it cost."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from dncbench.checking import check_draws, coordinate, only_needed, stack_given, warnings_about
from dncbench.configure import configure, label
from dncbench.errors import DrawsError
from dncbench.method import Method, Round, ShardDraws
from dncbench.precision import derive_key
from dncbench.store import canonical
from dncbench.timing import Program

_TIME_ALL_SHARDS_BELOW = 1.0  # seconds


@dataclass(frozen=True)
class MergeResult:
    """Merged draws and how they came about.

    Attributes:
        draws: (num_draws, d) float64.
        info: what the method reported; ``ess`` says how many independent draws
            the merged draws are worth; ``warnings`` what a reader should know.
        seconds: ``compile``, ``fit_total`` (all shards, all rounds), ``fit_slowest_shard``
            (one shard alone on its machine), ``merge``.
        bytes_communicated: size of all messages and broadcasts.
        log_density: (num_draws,) unnormalised log density that the draws were drawn
            from; None where the method has none.
    """

    draws: Float[np.ndarray, "num_draws d"]
    info: dict[str, Any]
    seconds: dict[str, float]
    bytes_communicated: int
    log_density: Float[np.ndarray, " num_draws"] | None = None


def merge(
    values: Any = None,
    method: str = "swiss",
    *,
    log_density: Any = None,
    score: Any = None,
    inflated: Any = None,
    density: Any = None,
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
        density: the shards' log densities, for a method of more than one round: a
            callable Equinox module of η (d,), its arrays stacked along a leading axis of S.
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
    stacked, warnings = stack_given(given)
    shards = ShardDraws(**stacked, density=density)
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
    shards = only_needed(method, name, shards)
    check_draws(method, name, shards, parameter_names)
    run = _run_traced if method.traceable else _run_untraced
    draws, info, seconds, size = run(method, shards, key, num_draws)

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
            f"{coordinate(bad[0][1], parameter_names)}) from finite draws"
        )
    log_density = info.pop("log_density", None)
    plain = {key: _plain(value) for key, value in info.items()}
    plain["warnings"] = [
        *_sentences(plain.get("warnings", [])),
        *warnings_about(method, shards, parameter_names),
    ]
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
    return MergeResult(
        draws,
        plain,
        seconds,
        size,
        None if log_density is None else np.asarray(log_density, dtype=np.float64),
    )


# ---------------------------------------------------------------- running


@functools.cache
def _fit_program() -> Program:
    return Program(
        eqx.filter_vmap(
            lambda method, shard, key: method.fit(shard, key), in_axes=(None, eqx.if_array(0), 0)
        )
    )


@functools.cache
def _refit_program() -> Program:
    return Program(
        eqx.filter_vmap(
            lambda method, shard, broadcast, key: method.refit(shard, broadcast, key),
            in_axes=(None, eqx.if_array(0), None, 0),
        )
    )


@functools.cache
def _aggregate_program() -> Program:
    return Program(lambda method, rounds, key: method.aggregate(rounds, key))


@functools.cache
def _merge_program() -> Program:
    return Program(lambda method, messages, key, num_draws: method.merge(messages, key, num_draws))


def _run_traced(
    method: Method, shards: ShardDraws, key: PRNGKeyArray, num_draws: int
) -> tuple[Any, dict[str, Any], dict[str, float], int]:
    key_fit, key_merge = jax.random.split(key)
    num_shards = _num_shards(shards)
    keys = jax.random.split(key_fit, num_shards)
    fitted = _fit_program()(method, shards, keys)
    seconds = {
        "compile": fitted.compile,
        "fit_total": fitted.run,
        "fit_slowest_shard": _alone(_fit_program(), fitted.run, method, shards, keys),
        "merge": 0.0,
    }
    rounds: tuple[Round, ...] = (Round(None, fitted.value),)
    for number in range(1, method.num_rounds):
        key_round = jax.random.fold_in(key_merge, number)
        sent = _aggregate_program()(method, rounds, key_round)
        keys = jax.random.split(jax.random.fold_in(key_fit, number), num_shards)
        answer = _refit_program()(method, shards, sent.value, keys)
        rounds = (*rounds, Round(sent.value, answer.value))
        seconds["compile"] += sent.compile + answer.compile
        seconds["fit_total"] += answer.run
        seconds["fit_slowest_shard"] += _alone(
            _refit_program(), answer.run, method, shards, keys, sent.value
        )
        seconds["merge"] += sent.run
    messages = rounds if method.num_rounds > 1 else fitted.value
    merged = _merge_program()(method, messages, key_merge, num_draws)
    seconds["compile"] += merged.compile
    seconds["merge"] += merged.run
    draws, info = merged.value
    # What is broadcast goes to every shard.
    size = sum(_nbytes(one.messages) + num_shards * _nbytes(one.broadcast) for one in rounds)
    return draws, dict(info), seconds, size


def _alone(
    program: Program,
    together: float,
    method: Method,
    shards: ShardDraws,
    keys: Key[Array, " S"],
    *broadcast: Any,
) -> float:
    """Seconds of the slowest shard when each has a machine to itself.

    Every shard has equally many draws, so where that is expensive the first one stands for all.
    """
    timed = range(len(keys) if together < _TIME_ALL_SHARDS_BELOW else 1)
    return max(
        program(method, _one_shard(shards, s), *broadcast, keys[s : s + 1]).run for s in timed
    )


def _one_shard(shards: ShardDraws, s: int) -> ShardDraws:
    return jax.tree.map(lambda leaf: leaf[s : s + 1] if eqx.is_array(leaf) else leaf, shards)


def _num_shards(shards: ShardDraws) -> int:
    assert shards.ess is not None  # always there once the draws were checked
    return len(shards.ess)


def _nbytes(message: Any) -> int:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(message) if leaf is not None]
    return int(sum(leaf.nbytes for leaf in leaves))


def _run_untraced(
    method: Method, shards: ShardDraws, key: PRNGKeyArray, num_draws: int
) -> tuple[Any, dict[str, Any], dict[str, float], int]:
    key_fit, key_merge = jax.random.split(key)
    num_shards = _num_shards(shards)
    seconds = {"compile": 0.0, "fit_total": 0.0, "fit_slowest_shard": 0.0, "merge": 0.0}
    alone = [
        jax.tree.map(
            lambda leaf: np.asarray(leaf[0]) if eqx.is_array(leaf) else leaf, _one_shard(shards, s)
        )
        for s in range(num_shards)
    ]
    rounds: tuple[Round, ...] = ()
    for number in range(method.num_rounds):
        sent = None
        if number:
            key_round = jax.random.fold_in(key_merge, number)
            sent, elapsed = _timed(method.aggregate, rounds, key_round)
            seconds["merge"] += elapsed
        keys = jax.random.split(
            jax.random.fold_in(key_fit, number) if number else key_fit, num_shards
        )
        messages, each = [], []
        for shard, one_key in zip(alone, keys, strict=True):
            ask = (method.refit, shard, sent, one_key) if number else (method.fit, shard, one_key)
            message, elapsed = _timed(*ask)
            messages.append(message)
            each.append(elapsed)
        rounds = (*rounds, Round(sent, messages))
        seconds["fit_total"] += sum(each)
        seconds["fit_slowest_shard"] += max(each)
    answers = rounds if method.num_rounds > 1 else rounds[0].messages
    (draws, info), elapsed = _timed(method.merge, answers, key_merge, num_draws)
    seconds["merge"] += elapsed
    size = sum(_nbytes(one.messages) + num_shards * _nbytes(one.broadcast) for one in rounds)
    return draws, dict(info), seconds, size


def _timed(function: Callable, *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start


def _plain(value: Any) -> Any:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    return value


def _sentences(given: Any) -> list[str]:
    """A method's warnings as a list; flags say which sentences apply, and to which shards."""
    if not isinstance(given, dict):
        return list(given)
    raised = []
    for sentence, flags in given.items():
        flags = np.asarray(flags)
        if flags.ndim and flags.any():
            shards = ", ".join(str(shard) for shard in np.flatnonzero(flags))
            raised.append(f"{sentence} (shards {shards})")
        elif flags.any():
            raised.append(sentence)
    return raised
