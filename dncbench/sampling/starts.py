"""Where chains start: around every mode that is found from widely dispersed points.

A sampler whose chains all start around one mode has perfect diagnostics with the rest of the
posterior missing. Chains dealt over all modes either cross between them or have an R-hat that
says they do not.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from dncbench.draws import one
from dncbench.posterior import Density
from dncbench.sampling.adaptation import LARGEST_DENSE_DIM, Starts
from dncbench.sampling.modes import find_mode
from dncbench.sampling.wide_base import wide_base
from dncbench.timing import Program

_SEARCHES = 16
_LEAST_SHARE = 1e-4  # of the mass, by Laplace's method: a mode that holds less is left out
_SAME = 0.1  # modes closer than this many Laplace sds are one
_ON_THE_WAY = 9  # points between two modes at which a dip is looked for
_DIP = 0.01  # of the log density between two modes, below the lower one: they are two


def find_starts(
    densities: Density, key: PRNGKeyArray, num_chains: int
) -> tuple[Starts | None, list[int], float, float]:
    """Search for the modes of every density of a stack, from its ``start`` and a wide base.

    Modes of less than a ten-thousandth of the mass (by Laplace's method) are left out:
    chains that stay there would stand for far more than it is worth.

    Args:
        densities: arrays with a leading axis of S densities.
        key: random key.
        num_chains: C; dealt over a density's modes in turn.

    Returns:
        What the chains start around, stacked over S, or None where every density's only mode
        is the first; the number of modes of each density; seconds of running and of compiling.
    """
    num_densities = densities.mask.shape[0]
    if densities.problem.permutations is not None:  # one sorted copy of the posterior is sampled
        return None, [1] * num_densities, 0.0, 0.0
    done = _search(densities, jax.random.split(key, num_densities))
    places, factors, values, found = (np.asarray(part) for part in done.value)
    kept = [
        _distinct(one(densities, s), places[s], factors[s], values[s], found[s])
        for s in range(num_densities)
    ]
    counts = [len(modes) for modes in kept]
    if all(modes == [0] for modes in kept):
        return None, counts, done.run, done.compile
    dealt = np.array([np.resize(modes, num_chains) for modes in kept])
    rows = np.arange(num_densities)[:, None]
    starts = Starts(jnp.asarray(places[rows, dealt]), jnp.asarray(_lower(factors[rows, dealt])))
    return starts, counts, done.run, done.compile


def _lower(factors: Float[np.ndarray, "S C d d"]) -> Float[np.ndarray, "S C d d"]:
    """The same covariances by lower triangular factors, diagonal ones of many dimensions."""
    sds = np.sqrt(np.sum(factors**2, axis=-1))[..., None]
    if factors.shape[-1] > LARGEST_DENSE_DIM:
        return sds * np.eye(factors.shape[-1])
    scaled = factors / sds
    return sds * np.linalg.cholesky(scaled @ np.swapaxes(scaled, -1, -2))


def _search_one(
    density: Density, key: PRNGKeyArray
) -> tuple[Float[Array, "P d"], Float[Array, "P d d"], Float[Array, " P"], Bool[Array, " P"]]:
    first = jnp.asarray(density.problem.start)[None, :]
    points = jnp.concatenate([first, wide_base(density).draw(key, _SEARCHES)])
    places, factors, found = jax.vmap(lambda point: find_mode(density, point))(points)
    return places, factors, jax.vmap(density)(places), found


def _search_all(
    densities: Density, keys: Key[Array, " S"]
) -> tuple[Float[Array, "S P d"], Float[Array, "S P d d"], Float[Array, "S P"], Bool[Array, "S P"]]:
    return eqx.filter_vmap(_search_one, in_axes=(eqx.if_array(0), 0))(densities, keys)


def _distinct(
    density: Density,
    places: Float[np.ndarray, "P d"],
    factors: Float[np.ndarray, "P d d"],
    values: Float[np.ndarray, " P"],
    found: Bool[np.ndarray, " P"],
) -> list[int]:
    """Which of the places are modes of their own that matter; the first where none is."""
    modes: list[int] = []
    for place in np.flatnonzero(found):
        if not any(_same(density, places, factors, values, int(place), other) for other in modes):
            modes.append(int(place))
    if not modes:
        return [0]
    diagonals = np.abs(np.array([np.diag(factors[mode]) for mode in modes]))
    log_mass = values[modes] + np.sum(np.log(diagonals), axis=1)
    matters = log_mass >= log_mass.max() + np.log(_LEAST_SHARE)
    return [mode for mode, kept in zip(modes, matters, strict=True) if kept]


def _same(
    density: Density,
    places: Float[np.ndarray, "P d"],
    factors: Float[np.ndarray, "P d d"],
    values: Float[np.ndarray, " P"],
    one_of_them: int,
    other: int,
) -> bool:
    """Whether two places are one mode: close together, or with no dip between them."""
    gap = places[one_of_them] - places[other]
    if np.linalg.norm(np.linalg.solve(factors[other], gap)) < _SAME:
        return True
    shares = np.linspace(0.0, 1.0, _ON_THE_WAY + 2)[1:-1, None]
    between = _values(density, jnp.asarray(places[other] + shares * gap))
    lower = min(values[one_of_them], values[other])
    return bool(np.min(np.nan_to_num(np.asarray(between), nan=-np.inf)) >= lower - _DIP)


@eqx.filter_jit
def _values(density: Density, points: Float[Array, "K d"]) -> Float[Array, " K"]:
    return jax.lax.map(density, points)


_search = Program(_search_all)
