"""Small hierarchical models, and sums over all combinations of particles by listing them."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dncbench.methods.massively_parallel._data import summarised
from dncbench.methods.massively_parallel._families import Bernoulli, Normal
from dncbench.methods.massively_parallel._indices import take
from dncbench.methods.massively_parallel._joint import generate, log_joint
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._particles import draw, estimate, randomness
from dncbench.methods.massively_parallel._qem import begin, laws
from dncbench.methods.massively_parallel._variables import Input, Latent, Observed, Summary

YEAR, BOROUGH, BUS = ("year",), ("year", "borough"), ("year", "borough", "bus")
STATE, HOME = ("state",), ("state", "home")


def standard() -> Normal:
    return Normal(0.0, 1.0)


def around(mean, log_scale) -> Normal:
    return Normal(mean, jnp.exp(log_scale))


def delay(alpha, phi, company) -> Bernoulli:
    return Bernoulli(alpha + company @ phi)


def buses() -> Model:
    """Four latents in three groups, on three levels: nine indices in all."""
    return Model(
        {"year": 2, "borough": 3, "bus": 5},
        [
            Latent("phi", Normal, standard, event=(3,), group="global"),
            Latent("mu", Normal, standard, group="global"),
            Latent("beta", Normal, lambda mu: Normal(mu, 0.7), YEAR, ("mu",), start=standard),
            Latent(
                "alpha",
                Normal,
                lambda beta: Normal(beta, 0.5),
                BOROUGH,
                ("beta",),
                start=lambda: Normal(0.2, 1.3),
            ),
        ],
        [Observed("late", delay, BUS, ("alpha", "phi"), ("company",))],
        [Input("company", BUS)],
    )


def bus_data(model: Model):
    company = jax.random.normal(jax.random.key(5), (2, 3, 5, 3))
    return generate(model, {"company": company}, jax.random.key(6))[1]


def home_statistics(log_radon, basement):
    features = jnp.stack([jnp.ones_like(basement), basement])
    return features @ features.T, features @ log_radon, log_radon @ log_radon


def summed(unit: float):
    def log_prob(mean, log_sigma, slope, statistics):
        squares, products, total = statistics
        coefficients = jnp.stack([mean / unit, slope])
        residual = total - 2 * coefficients @ products + coefficients @ squares @ coefficients
        constant = squares[0, 0] * (log_sigma + 0.5 * jnp.log(2 * jnp.pi))
        return -0.5 * residual * jnp.exp(-2 * log_sigma) - constant

    return log_prob


def radon(unit: float = 1.0, summary: bool = False) -> Model:
    """Homes in states, with the states' means in units of so much."""
    return Model(
        {"state": 3, "home": 8},
        [
            Latent("global_mean", Normal, standard, group="global"),
            Latent("global_log_sigma", Normal, standard, group="global"),
            Latent(
                "state_mean",
                Normal,
                lambda mean, log_sigma: Normal(unit * mean, unit * jnp.exp(log_sigma)),
                STATE,
                ("global_mean", "global_log_sigma"),
                start=lambda: Normal(0.0, unit),
            ),
            Latent("state_log_sigma", Normal, standard, STATE),
            Latent("slope", Normal, standard, STATE),
        ],
        [
            Observed(
                "log_radon",
                lambda mean, log_sigma, slope, basement: around(
                    mean / unit + slope * basement, log_sigma
                ),
                HOME,
                ("state_mean", "state_log_sigma", "slope"),
                ("basement",),
                summary=Summary(home_statistics, summed(unit)) if summary else None,
            )
        ],
        [Input("basement", HOME)],
    )


def radon_data(model: Model):
    basement = jax.random.bernoulli(jax.random.key(7), 0.4, (3, 8)).astype(float)
    return generate(model, {"basement": basement}, jax.random.key(8))[1]


def first_particles(model: Model, num_particles: int, seed: int = 1):
    numbers = randomness(model, jax.random.key(seed), num_particles)
    return draw(model, laws(model, begin(model)), numbers, num_particles)


def estimated(model: Model, particles, data, chunks=()):
    """Evidence and marginals of particles, compiled."""
    ready = summarised(model, data)
    return jax.jit(lambda particles: estimate(model, particles, ready, dict(chunks)))(particles)


class Listed(NamedTuple):
    """Every combination of indices.

    Attributes:
        indices: of each group, (combinations, *plates).
        log_weights: (combinations,) log of each term of P_MP.
    """

    indices: dict[str, np.ndarray]
    log_weights: np.ndarray


def every_combination(model: Model, particles, data) -> Listed:
    """All terms of P_MP, each from the joint density of one complete assignment."""
    shapes = {name: model.shape(each[0].plates) for name, each in model.groups.items()}
    slots = {name: np.prod(shape, dtype=int) for name, shape in shapes.items()}
    ranges = [range(len(particles.log_q[name])) for name in slots for _ in range(slots[name])]
    combinations = np.array(list(itertools.product(*ranges)))
    parts = np.split(combinations, np.cumsum([*slots.values()])[:-1], axis=1)
    indices = {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    values = take(model, particles, {name: jnp.asarray(each) for name, each in indices.items()})
    joint = np.asarray(jax.jit(jax.vmap(lambda z: log_joint(model, z, data)))(values))
    proposed = np.zeros(len(joint))
    for name, index in indices.items():
        log_q = np.take_along_axis(np.asarray(particles.log_q[name]), index, axis=0)
        proposed += log_q.reshape(len(joint), -1).sum(1)
    return Listed(indices, joint - proposed)
