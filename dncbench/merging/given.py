"""Merging draws of one's own: the front door for draws that no problem of the suite made."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dncbench.configure import configure, label
from dncbench.draws import evenly
from dncbench.errors import DrawsError, NotApplicableError
from dncbench.merging.inputs import MissingError
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Shard
from dncbench.precision import derive_key
from dncbench.space import Real


def merge(
    values: Any = None,
    method: str = "consensus",
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
    shards = Shard(**stacked, density=density)
    draws = next(stacked[name] for name in ("values", "inflated", "score") if name in stacked)
    space = Real(tuple(f"theta[{i}]" for i in range(draws.shape[-1])), "given")
    try:
        result = run_method(
            configured, entry.name, shards, derive_key(seed, entry.name), num_draws, space
        )
    except MissingError as error:
        raise DrawsError(f"{error}: {error.hint}") from error
    except NotApplicableError as error:
        raise DrawsError(str(error)) from error
    result.info["method"] = label(entry, configured)
    result.info["warnings"] = warnings + result.info.get("warnings", [])
    return result


def stack_given(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arrays with equally many draws per shard, from what a user gave, and warnings."""
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
