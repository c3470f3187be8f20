"""Particles: draws of proposals for every group and plate element, and what they are worth."""

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


def draw(
    model: Model, laws: Mapping[str, Family], key: PRNGKeyArray, num_particles: int
) -> Particles:
    """Draw particles of independent proposals.

    Args:
        model: whose latents to draw.
        laws: the proposal of each latent, for all elements of its plates.
        key: random key.
        num_particles: K.
    """
    values: dict[str, Array] = {}
    log_q: dict[str, Array] = {}
    for latent, each in zip(model.latents, jax.random.split(key, len(model.latents)), strict=True):
        plates = model.shape(latent.plates)
        if latent.enumerated:
            values[latent.name] = cast(type[Finite], latent.family).support(latent.enumerated)
            log_q[latent.group] = jnp.zeros((latent.enumerated, *plates))
            continue
        x, density = laws[latent.name].draw(each, num_particles, plates, latent.event)
        values[latent.name] = x
        log_q[latent.group] = density + log_q.get(latent.group, math.log(num_particles))
    return Particles(values, log_q)


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
