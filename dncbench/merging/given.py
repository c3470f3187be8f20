"""Merging draws of one's own: the front door for draws that no problem of the suite made."""

from typing import Any

import jax.numpy as jnp

from dncbench.configure import configure, label
from dncbench.draws import evenly
from dncbench.errors import DrawsError, NotApplicableError, UnknownNameError
from dncbench.merging import labelled
from dncbench.merging.chains import join_chains
from dncbench.merging.inputs import MissingError
from dncbench.merging.labelled import Given
from dncbench.merging.numbers import whole_number
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Shard
from dncbench.precision import derive_key
from dncbench.space import Real

_MOST_DRAWS = 2**31 - 1
_SEEDS = -(2**63), 2**63 - 1  # what JAX makes keys of


def merge(
    values: Any = None,
    method: Any = "consensus",
    *,
    log_density: Any = None,
    score: Any = None,
    inflated: Any = None,
    density: Any = None,
    num_draws: Any = 10_000,
    seed: Any = 0,
    **hyperparameters: Any,
) -> MergeResult:
    """Merge subposterior draws of your own.

    Every shard carries the 1/S power of the prior, and where parameters were transformed, of
    the prior *times* its Jacobian: in coordinates η with θ = θ(η),
    p_s(η) ∝ (p(θ) |∂θ/∂η|)^(1/S) p(Y_s given θ), so that the product over shards holds one
    prior and one Jacobian. Samplers that transform by themselves (Stan, NumPyro, PyMC) add
    the Jacobian whole to every shard. Draws of θ in its own space are right as they come, if
    the prior was given as p(θ)^(1/S); draws of η, or log densities of it, then hold S - 1
    Jacobians too many: put |∂θ/∂η|^(1/S - 1) into the model.

    Args:
        values: draws of the S subposteriors p_s ∝ p(θ)^(1/S) p(Y_s given θ), as an
            array (S, T, d) or a list of (T_s, d) arrays, in the order of sampling; with C
            chains apart, (S, C, T, d) or a list of (C, T_s, d). How many independent draws
            they are worth is estimated from them. Unequal numbers of draws
            are thinned evenly to the smallest. A shard may also be a DataFrame, or a
            mapping of name to array (T,) or (T, k): coordinates are then matched by
            name, in the first shard's order. May be None for a method that uses
            inflated draws alone.
        method: a registered method, e.g. ``"consensus"`` or ``"consensus[weights=shard]"``.
        log_density: (S, T), where the method uses log densities; shaped as the values, as
            all that follows.
        score: (S, T, d), where the method uses scores.
        inflated: (S, T, d) draws of the inflated subposteriors
            p(θ) p(Y_s given θ)^S, which ``swiss`` is defined on.
        density: the shards' log densities, for a method of more than one round: a
            callable Equinox module of η (d,), its arrays stacked along a leading axis of S.
        num_draws: merged draws wanted, a whole number.
        seed: a whole number; equal seeds give equal draws.
        hyperparameters: the method's settings.

    Returns:
        A :class:`MergeResult` with ``.draws`` (num_draws, d) and ``.info``, whose
        ``"parameters"`` name the coordinates and whose ``"warnings"`` are to be read.

    Raises:
        UnknownNameError: unknown method or setting.
        DrawsError: draws that the method cannot use, a type whose meaning would be lost, a
            number of draws or seed that is none; names shard and coordinate.

    Example:
        >>> result = dncbench.merge(values, "consensus", num_draws=5000)
        >>> result.draws.mean(0)
    """
    num_draws = whole_number(num_draws, "num_draws", 1, _MOST_DRAWS)
    seed = whole_number(seed, "seed", *_SEEDS)
    if not isinstance(method, str):
        raise UnknownNameError(f"a method is given by its name, a text, not by {method!r:.60}")
    entry, configured = configure("method", method, **hyperparameters)
    arguments = {"values": values, "log_density": log_density, "score": score, "inflated": inflated}
    given = labelled.read({name: one for name, one in arguments.items() if one is not None})
    worth = join_chains(given)
    stacked = stack_given(given)
    draws = next(stacked[name] for name in ("values", "inflated", "score") if name in stacked)
    ess = None if worth is None else jnp.minimum(jnp.asarray(worth), draws.shape[1])
    shards = Shard(**stacked, density=density, ess=ess)
    names = given.names or tuple(f"theta[{i}]" for i in range(draws.shape[-1]))
    try:
        result = run_method(
            configured,
            entry.name,
            shards,
            derive_key(seed, entry.name),
            num_draws,
            Real(names, "given"),
        )
    except MissingError as error:
        raise DrawsError(f"{error}: {error.hint}") from error
    except NotApplicableError as error:
        raise DrawsError(str(error)) from error
    result.info["method"] = label(entry, configured)
    result.info["parameters"] = list(names)
    result.info["warnings"] = given.warnings + result.info.get("warnings", [])
    return result


def stack_given(given: Given) -> dict[str, Any]:
    """Arrays with equally many draws per shard; thinning is added to the warnings.

    Raises:
        DrawsError: shapes that are not those of draws, or that do not go together.
    """
    lists = given.arrays
    if not lists.keys() - {"log_density"}:
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
    stacked = {}
    for name, shards in lists.items():
        lengths = [len(shard) for shard in shards]
        if len(set(lengths)) > 1:
            given.warnings.append(
                f"{name}: thinned {lengths} draws to {min(lengths)} in each shard"
            )
        rows = [evenly(length, min(lengths)) for length in lengths]
        stacked[name] = jnp.stack([shard[row] for shard, row in zip(shards, rows, strict=True)])
    return stacked
