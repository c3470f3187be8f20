"""Checking draws before a method sees them: clear errors, and warnings that travel on."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dncbench.draws import evenly
from dncbench.errors import DrawsError
from dncbench.method import Method, ShardDraws

_SINGULAR = 1e-10  # smallest eigenvalue of a correlation matrix that still has digits left


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


_FIELD = {"draws": "values", "model": "density"}
_HINTS = {
    "inflated": "; for plain subposterior draws use 'swiss-product' or 'consensus'",
    "density": ", the shards' log densities as one module with stacked arrays",
}


def only_needed(method: Method, name: str, shards: ShardDraws) -> ShardDraws:
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
            raise DrawsError(
                f"method {name!r} needs {field}, which was not given: "
                f"pass {field}={_HINTS.get(field, '')}"
            )
    kept = {field: getattr(shards, field) for field in fields}
    return ShardDraws(**kept, ess=_known_ess(shards, kept))


def _known_ess(shards: ShardDraws, kept: dict[str, Any]) -> Array:
    if shards.ess is not None:
        return jnp.asarray(shards.ess, dtype=float)
    draws = kept.get("values", kept.get("inflated"))
    assert draws is not None
    return jnp.full(draws.shape[0], float(draws.shape[1]))


def coordinate(index: int | np.integer, names: Sequence[str] | None) -> str:
    """A coordinate for messages: its number, and its name where there is one."""
    return f"coordinate {index} ({names[int(index)]})" if names else f"coordinate {index}"


def check_draws(method: Method, name: str, shards: ShardDraws, names: Sequence[str] | None) -> None:
    """Refuse draws that the method cannot use.

    Raises:
        DrawsError: a non-finite entry, or, where the method needs a covariance, too few
            draws or a singular one; names the shard and the coordinate.
    """
    for field in ("values", "log_density", "score", "inflated"):
        array = getattr(shards, field)
        if array is None:
            continue
        bad = np.argwhere(~np.isfinite(np.asarray(array)))
        if len(bad):
            shard, row, *column = (int(i) for i in bad[0])
            where = f", {coordinate(column[0], names)}" if column else ""
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
            f"shard {shard}, {coordinate(flat[0], names)}: the draws are constant, so "
            f"the covariance is singular; the sampler is stuck or the coordinate is fixed: "
            f"drop it, {instead}"
        )
    standardised = centred / spread
    eigenvalues, vectors = np.linalg.eigh(standardised.T @ standardised / num_draws)
    if eigenvalues[0] < _SINGULAR:
        culprit = int(np.argmax(np.abs(vectors[:, 0])))
        raise DrawsError(
            f"shard {shard}, {coordinate(culprit, names)}: a linear combination of other "
            f"coordinates, so the covariance is singular (smallest eigenvalue of the correlation "
            f"matrix {eigenvalues[0]:.1e}); drop the coordinate, {instead}"
        )


# ---------------------------------------------------------------- warnings

_ENOUGH = 5.0  # effective draws for each dimension
_HEAVY = (
    9.0  # kurtosis; Gaussian 3, exponential tails up to 9, infinite for Student's t(3) and t(4)
)
_OUTLYING = 30.0  # times the shard's median score norm
_STEIN = 0.5  # of 1; independent draws' standard error is about 2 / sqrt(T)
_STEIN_ESS = 400.0


def warnings_about(
    method: Method, shards: ShardDraws, names: Sequence[str] | None = None
) -> list[str]:
    """What a reader should know about draws that can be merged but should not be trusted.

    Too few effective draws for a covariance; tails so heavy that it is noise; scores
    that lie far outside the others or do not belong to their draws.
    """
    draws = shards.inflated if shards.values is None else shards.values
    if draws is None or "covariance" not in method.needs:
        return []
    values = np.asarray(draws)
    ess = np.asarray(shards.ess) if shards.ess is not None else np.full(len(values), np.inf)
    lines = []
    for s, shard in enumerate(values):
        dim = shard.shape[1]
        if ess[s] < _ENOUGH * dim:
            lines.append(
                f"shard {s}: {ess[s]:.0f} effective draws in {dim} dimensions; moments of "
                f"fewer than {_ENOUGH * dim:.0f} are noisy"
            )
        centred = shard - shard.mean(0)
        kurtosis = np.mean(centred**4, axis=0) / np.mean(centred**2, axis=0) ** 2
        worst = int(np.argmax(kurtosis))
        if kurtosis[worst] > _HEAVY:
            lines.append(
                f"shard {s}, {coordinate(worst, names)}: heavy tails (kurtosis "
                f"{kurtosis[worst]:.0f}); its covariance is uncertain"
            )
        if shards.score is not None:
            lines += _warnings_about_scores(s, centred, np.asarray(shards.score[s]), ess[s], names)
    return lines


def _warnings_about_scores(
    s: int,
    centred: Float[np.ndarray, "T d"],
    score: Float[np.ndarray, "T d"],
    ess: float,
    names: Sequence[str] | None,
) -> list[str]:
    lines = []
    scale = np.median(np.abs(score), axis=0)
    norms = np.linalg.norm(score / np.where(scale > 0, scale, 1.0), axis=1)
    outlying = np.flatnonzero(norms > _OUTLYING * np.median(norms))
    if len(outlying):
        first = outlying[0]
        lines.append(
            f"shard {s}: {len(outlying)} score row(s) far outside the others, the first at draw "
            f"{first} ({norms[first] / np.median(norms):.0f} times the median norm)"
        )
    # Stein's identity: E[(θ - μ)_j ∂_j log p(θ)] = -1 whatever the density.
    kept = np.delete(np.arange(len(score)), outlying)
    stein = np.mean(centred[kept] * score[kept], axis=0)
    worst = int(np.argmax(np.abs(stein + 1.0)))
    if ess > _STEIN_ESS and abs(stein[worst] + 1.0) > _STEIN:
        lines.append(
            f"shard {s}, {coordinate(worst, names)}: the scores do not belong to these draws "
            f"(mean of deviation times score {stein[worst]:.2f}; -1 for every density)"
        )
    return lines
