"""Checking draws before a method sees them: what it cannot use is refused in clear words."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dncbench.errors import DrawsError, NotApplicableError
from dncbench.merging.chains import ess_of_chains
from dncbench.method import Method, Shard
from dncbench.space import Space

_SINGULAR = 1e-10  # smallest eigenvalue of a correlation matrix that still has digits left
_LEAST_RANGE = 1e-6  # of a shard's log densities; below, they are constant but for rounding


class MissingError(NotApplicableError):
    """A method needs something that nobody has.

    Attributes:
        hint: what to do about it, for somebody who merges draws of their own.
    """

    def __init__(self, name: str, field: str) -> None:
        super().__init__(f"method {name!r} needs {field}, which was not given")
        self.hint = f"pass {field}={_HINTS.get(field, '')}"


_FIELD = {"draws": "values", "model": "density"}
_HINTS = {
    "inflated": "; for plain subposterior draws use 'swiss-product' or 'consensus'",
    "density": ", the shards' log densities as one module with stacked arrays",
}


def require_space(method: Method, name: str, space: Space) -> None:
    """Refuse a space that the method does not work in.

    Raises:
        NotApplicableError: it does not.
    """
    if space.kind not in method.spaces:
        raise NotApplicableError(
            f"{name} merges {' or '.join(sorted(method.spaces))} draws, and these are {space.kind}"
            "; 'dncbench list corrections' has what may bring a merge to draws of another kind"
        )


def only_needed(method: Method, name: str, shards: Shard, space: Space) -> Shard:
    """Leave out what the method does not use, so that it cannot; refuse what is missing.

    Raises:
        NotApplicableError: the method does not merge draws of this space, or something that
            it needs is not there.
    """
    require_space(method, name, space)
    if "reference" in method.needs:
        fields = {"values"}
        if shards.values is None or shards.values.shape[0] != 1:
            raise NotApplicableError(
                f"method {name!r} needs draws of the full posterior, which only the benchmark has"
            )
    else:
        fields = {_FIELD.get(need, need) for need in method.needs - {"covariance"}}
    for field in sorted(fields):
        if getattr(shards, field) is None:
            raise MissingError(name, field)
    if "data" in fields:
        fields |= {"mask", "problem"}
    kept = {field: getattr(shards, field) for field in fields}
    num_shards = shards.num_shards or _num_shards(kept)
    return Shard(
        **kept,
        ess=_known_ess(shards, kept),
        num_shards=num_shards,
        conditional_score=shards.conditional_score,
    )


def _num_shards(kept: dict[str, Any]) -> int:
    arrays = [leaf for leaf in jax.tree.leaves(kept) if eqx.is_array(leaf)]
    return int(arrays[0].shape[0])


def _known_ess(shards: Shard, kept: dict[str, Any]) -> Array | None:
    if shards.ess is not None:
        return jnp.asarray(shards.ess, dtype=float)
    draws = kept.get("values", kept.get("inflated"))
    if draws is None:
        return None
    if draws.ndim == 2:  # codes
        return jnp.full(draws.shape[0], float(draws.shape[1]))
    return jnp.array([ess_of_chains(shard[None]) for shard in np.asarray(draws)])


def coordinate(index: int | np.integer, names: Sequence[str] | None) -> str:
    """A coordinate for messages: its number, and its name where there is one."""
    return Space.first(tuple(names) if names else None, index)


def check_draws(method: Method, name: str, shards: Shard, names: Sequence[str] | None) -> None:
    """Refuse draws that the method cannot use.

    Raises:
        DrawsError: a non-finite entry; log densities that are constant; where the method
            needs a covariance, too few draws or a singular one. Names shard and coordinate.
    """
    for field in ("values", "log_density", "score", "inflated"):
        array = getattr(shards, field)
        if array is None or not jnp.issubdtype(array.dtype, jnp.inexact):
            continue
        bad = np.argwhere(~np.isfinite(np.asarray(array)))
        if len(bad):
            shard, row, *column = (int(i) for i in bad[0])
            where = f", {coordinate(column[0], names)}" if column else ""
            raise DrawsError(
                f"{field} of shard {shard} has a non-finite entry in draw {row}{where} "
                f"({len(bad)} in all); remove those draws or sample the shard again"
            )
        if field == "log_density":
            constant = np.flatnonzero(np.ptp(np.asarray(array), axis=1) < _LEAST_RANGE)
            if len(constant):
                raise DrawsError(
                    f"shard {constant[0]}: the log densities are constant, so there is nothing "
                    f"for {name!r} to fit; give those of the draws"
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
