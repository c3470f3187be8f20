"""Shards whose product is known in closed form, so that nothing needs to be sampled.

Coordinates η_j are logarithms of Gamma variables: subposterior s has the log density
Σ_j a_sj η_j - b_sj exp(η_j). Such log densities add up: the product has a = Σ_s a_s and
b = Σ_s b_s, an inflated subposterior S a_s and S b_s. Small a_j is skewed, large a_j nearly
Gaussian; the coordinates go from one to the other.
"""

import dataclasses
import inspect
from typing import Any

import numpy as np
from jaxtyping import Float

NUM_SHARDS, NUM_DRAWS, DIM = 4, 2000, 5
"""S, T and d; T is also how many draws are merged and how many they are scored against."""

Shards = dict[str, Float[np.ndarray, "..."]]


class WithShards:
    """A benchmark that asv hands the shards to; all such benchmarks share one copy."""

    def setup_cache(self) -> Shards:
        """Once for each commit."""
        return make_shards()


def make_shards(seed: int = 0) -> Shards:
    """All that a merge may ask for, float64.

    Returns:
        ``values`` (S, T, d), ``log_density`` (S, T), ``score`` (S, T, d), ``inflated``
        (S, T, d); ``shape`` a and ``rate`` b, (S, d) each; ``truth`` and ``fresh``
        (T, d), two independent samples of the product.
    """
    rng = np.random.default_rng(seed)
    shape = np.geomspace(0.5, 8.0, DIM) * rng.uniform(0.7, 1.4, (NUM_SHARDS, DIM))
    rate = rng.uniform(0.7, 1.4, (NUM_SHARDS, DIM))
    values = _draws(rng, shape, rate)
    slope = rate[:, None] * np.exp(values)
    return {
        "values": values,
        "log_density": np.sum(shape[:, None] * values - slope, axis=-1),
        "score": shape[:, None] - slope,
        "inflated": _draws(rng, NUM_SHARDS * shape, NUM_SHARDS * rate),
        "shape": shape,
        "rate": rate,
        "truth": _draws(rng, shape.sum(0, keepdims=True), rate.sum(0, keepdims=True))[0],
        "fresh": _draws(rng, shape.sum(0, keepdims=True), rate.sum(0, keepdims=True))[0],
    }


def _draws(
    rng: np.random.Generator, shape: Float[np.ndarray, "S d"], rate: Float[np.ndarray, "S d"]
) -> Float[np.ndarray, "S T d"]:
    gamma = rng.gamma(shape[:, None], size=(len(shape), NUM_DRAWS, DIM))
    return np.log(gamma / rate[:, None])


def product_score(shards: Shards, eta: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Gradient of the product's log density at η."""
    return shards["shape"].sum(0) - shards["rate"].sum(0) * np.exp(eta)


def given_to(method: Any, shards: Shards) -> dict[str, Any]:
    """What :func:`dncbench.merge` of the installed commit is to be given, as far as it takes it.

    What needs the reference itself, the oracle, gets it as its only shard.
    """
    import dncbench

    if "reference" in method.needs:
        return {"values": shards["fresh"][None]}
    known = inspect.signature(dncbench.merge).parameters
    given: dict[str, Any] = {name: shards[name] for name in shards if name in known}
    if "density" in known:
        given["density"] = _density(shards)
    return given


def _density(shards: Shards) -> Any:
    """The subposteriors' log densities, for a method that evaluates them."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class LogGamma(eqx.Module):
        shape: jax.Array
        rate: jax.Array

        def __call__(self, eta: jax.Array) -> jax.Array:
            return jnp.sum(self.shape * eta - self.rate * jnp.exp(eta))

    return LogGamma(jnp.asarray(shards["shape"]), jnp.asarray(shards["rate"]))


def as_sample(values: Float[np.ndarray, "n d"], shards: Shards, ess: float | None = None) -> Any:
    """The installed commit's ``Sample``, with those fields that it knows.

    Two coordinates are declared exchangeable, so that metrics of modes have something to read.
    """
    from dncbench import Sample

    swapped = np.arange(DIM)
    swapped[:2] = 1, 0
    given: dict[str, Any] = {
        "values": values,
        "ess": float(len(values)) if ess is None else ess,
        "eta": values,
        "score": lambda eta: product_score(shards, eta),
        "permutations": np.stack([np.arange(DIM), swapped]),
    }
    known = {field.name for field in dataclasses.fields(Sample)}
    return Sample(**{name: value for name, value in given.items() if name in known})
