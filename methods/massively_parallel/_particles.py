"""Particles: draws of proposals for every group and plate element, and what they are worth."""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from dncbench.methods.massively_parallel._contraction import contract
from dncbench.methods.massively_parallel._counts import Finite
from dncbench.methods.massively_parallel._factors import Terms
from dncbench.methods.massively_parallel._family import Family, Mean
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._normal import Gaussian


class Particles(NamedTuple):
    """Values of latents, and the density that they were drawn with.

    Attributes:
        values: of each latent, (K, *plates, *event); all its n values (n,) where enumerated.
        log_q: of each group, (K, *plates): log density of the proposal, and log K. If proposals
            had parents, it would be the density of the mixture over the parents' particles.
            Zero where enumerated.
    """

    values: dict[str, Shaped[Array, "K ..."]]
    log_q: dict[str, Float[Array, "K ..."]]


class Estimate(NamedTuple):
    """What particles say of the posterior.

    Attributes:
        log_evidence: log P_MP, whose expectation over particles is the ELBO.
        weights: of each group, (K, *plates): the posterior marginal over the index of its
            particle, at each element of its plates.
    """

    log_evidence: Float[Array, ""]
    weights: dict[str, Float[Array, "K ..."]]


class Randomness(NamedTuple):
    """What particles are made of.

    Attributes:
        noise: standard Normal numbers, of all Gaussian latents.
        keys: of the other latents.
    """

    noise: Float[Array, " numbers"]
    keys: PRNGKeyArray


def randomness(model: Model, key: PRNGKeyArray, num_particles: int) -> Randomness:
    """Random numbers for one set of particles, whatever their proposals.

    All noise is drawn in one call, because each would be compiled anew; and apart from the
    particles, because a compiler that may merge the two evaluates the noise in every place where
    a particle is used.
    """
    own, others = jax.random.split(key)
    total = sum(math.prod(shape) for shape in _noise_shapes(model, num_particles).values())
    keys = jax.random.split(others, len(model.latents))
    return Randomness(jax.random.normal(own, (total,)), keys)


def draw(
    model: Model, laws: Mapping[str, Family], numbers: Randomness, num_particles: int
) -> Particles:
    """Draw particles of independent proposals.

    Args:
        model: whose latents to draw.
        laws: the proposal of each latent, for all elements of its plates.
        numbers: of this model and as many particles.
        num_particles: K.
    """
    shapes = _noise_shapes(model, num_particles)
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes.values()))
    parts = dict(zip(shapes, jnp.split(numbers.noise, ends[:-1]), strict=True)) if shapes else {}
    values: dict[str, Array] = {}
    log_q: dict[str, Array] = {}
    for latent, key in zip(model.latents, numbers.keys, strict=True):
        name, law, plates = latent.name, laws[latent.name], model.shape(latent.plates)
        if latent.enumerated:
            values[name] = cast(type[Finite], latent.family).support(latent.enumerated)
            log_q[latent.group] = jnp.zeros((latent.enumerated, *plates))
            continue
        if isinstance(law, Gaussian):
            x, density = law.move(parts[name].reshape(shapes[name]), latent.event)
        else:
            x, density = law.draw(key, num_particles, plates, latent.event)
        values[name] = x
        log_q[latent.group] = density + log_q.get(latent.group, math.log(num_particles))
    return Particles(values, log_q)


def _noise_shapes(model: Model, num_particles: int) -> dict[str, tuple[int, ...]]:
    return {
        latent.name: (num_particles, *model.shape(latent.plates), *latent.event)
        for latent in model.latents
        if issubclass(latent.family, Gaussian)
    }


def estimate(
    model: Model,
    particles: Particles,
    data: Mapping[str, PyTree[Array]],
    chunks: Mapping[str, int],
) -> Estimate:
    """Evidence and posterior marginals of particles, by one forward and one backward pass.

    The derivative of log P_MP with respect to a term J_g[k, plates] that is added to a group's log
    weights is the posterior probability of that particle; every moment of single groups is a
    weighted sum with these (the source-term trick).

    Args:
        model: of the particles.
        particles: from :func:`draw`.
        data: from ``summarised``.
        chunks: how many elements of a plate to look at together, of those that are named.
    """

    def log_evidence(offsets: dict[str, Array]) -> Array:
        return contract(model, Terms(particles.values, offsets, dict(data)), chunks)[0]

    offsets = {group: -log_q for group, log_q in particles.log_q.items()}
    return Estimate(*jax.value_and_grad(log_evidence)(offsets))


def moments(
    model: Model,
    laws: Mapping[str, Family],
    particles: Particles,
    weights: Mapping[str, Float[Array, "K ..."]],
) -> dict[str, Mean]:
    """Mean parameters of each latent under the posterior marginals of its group."""
    found = {}
    for latent in model.latents:
        x, weight = particles.values[latent.name], weights[latent.group]
        if latent.enumerated:
            x = jnp.broadcast_to(x.reshape(-1, *(1 for _ in latent.plates)), weight.shape)
        found[latent.name] = laws[latent.name].moments(x, weight)
    return found


def effective_sample_size(weights: Float[Array, "K ..."]) -> Float[Array, "..."]:
    """1 / Σ_k w_k², for each element of the plates: from 1 to K."""
    return 1.0 / jnp.sum(weights**2, axis=0)
