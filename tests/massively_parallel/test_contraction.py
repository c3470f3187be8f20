"""Evidence and posterior marginals of particles, against lists of all combinations."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hierarchies import (
    STATE,
    bus_data,
    buses,
    estimated,
    every_combination,
    first_particles,
    radon,
    radon_data,
    standard,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from dncbench.methods.massively_parallel._contraction import log_sum_exp
from dncbench.methods.massively_parallel._families import Bernoulli, Normal
from dncbench.methods.massively_parallel._joint import generate, log_joint
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._particles import (
    effective_sample_size,
    estimate,
    moments,
)
from dncbench.methods.massively_parallel._qem import begin, laws
from dncbench.methods.massively_parallel._variables import Latent, ModelError, Observed


@functools.cache
def two_particles():
    model = buses()
    data = bus_data(model)
    particles = first_particles(model, 2)
    return (
        model,
        data,
        particles,
        estimated(model, particles, data),
        every_combination(model, particles, data),
    )


def test_the_evidence_is_the_sum_over_all_512_combinations() -> None:
    *_, found, listed = two_particles()
    assert len(listed.log_weights) == 512
    assert found.log_evidence == pytest.approx(logsumexp(listed.log_weights), abs=1e-9)


def test_gradients_are_the_marginals_of_the_indices() -> None:
    *_, found, listed = two_particles()
    weights = np.exp(listed.log_weights - logsumexp(listed.log_weights))
    for group, index in listed.indices.items():
        expected = np.stack([np.einsum("c,c...->...", weights, index == k) for k in range(2)])
        np.testing.assert_allclose(found.weights[group], expected, atol=1e-12)
        assert np.all(np.asarray(found.weights[group]) >= 0)
        np.testing.assert_allclose(np.sum(found.weights[group], axis=0), 1.0, atol=1e-12)


def test_moments_are_the_sums_over_all_combinations() -> None:
    model, _, particles, found, listed = two_particles()
    weights = np.exp(listed.log_weights - logsumexp(listed.log_weights))
    new = moments(model, laws(model, begin(model)), particles, found.weights)
    for latent in model.latents:
        index = listed.indices[latent.group].reshape(512, -1)
        values = np.asarray(particles.values[latent.name])
        flat = values.reshape(2, index.shape[1], -1)
        chosen = flat[index, np.arange(index.shape[1])[None]]
        mean = np.einsum("c,c...->...", weights, chosen)
        square = np.einsum("c,c...->...", weights, chosen**2)
        np.testing.assert_allclose(np.ravel(new[latent.name].mean), np.ravel(mean), atol=1e-12)
        np.testing.assert_allclose(
            np.ravel(new[latent.name].spread), np.ravel(square - mean**2), atol=1e-12
        )


def test_one_particle_weighs_the_joint_density_against_the_proposals() -> None:
    model, data, *_ = two_particles()
    particles = first_particles(model, 1)
    found = estimated(model, particles, data)
    values = {name: value[0] for name, value in particles.values.items()}
    proposed = sum(float(jnp.sum(each)) for each in particles.log_q.values())
    expected = log_joint(model, values, data) - proposed
    assert found.log_evidence == pytest.approx(float(expected), abs=1e-9)
    assert all(np.all(effective_sample_size(each) == 1.0) for each in found.weights.values())


def test_one_group_is_global_importance_weighting() -> None:
    model = Model(
        {"row": 4},
        [
            Latent("loc", Normal, standard, group="all"),
            Latent("log_scale", Normal, standard, group="all"),
        ],
        [Observed("y", lambda a, b: Normal(a, jnp.exp(b)), ("row",), ("loc", "log_scale"))],
    )
    _, data = generate(model, {}, jax.random.key(0))
    particles = first_particles(model, 5)
    found = estimated(model, particles, data)
    joint = jax.jit(jax.vmap(lambda values: log_joint(model, values, data)))(particles.values)
    log_weights = np.asarray(joint - particles.log_q["all"])
    assert found.log_evidence == pytest.approx(logsumexp(log_weights), abs=1e-12)
    expected = np.exp(log_weights - logsumexp(log_weights))
    np.testing.assert_allclose(found.weights["all"], expected, atol=1e-12)


def test_the_evidence_is_unbiased() -> None:
    """On a linear Gaussian model: within four standard errors over 10 000 seeds."""
    model = Model(
        {"state": 2, "home": 2},
        [
            Latent("mu", Normal, standard, start=lambda: Normal(0.3, 1.2)),
            Latent("z", Normal, lambda mu: Normal(mu, 0.6), STATE, ("mu",), start=standard),
        ],
        [Observed("y", lambda z: Normal(z, 0.8), ("state", "home"), ("z",))],
    )
    data = {"y": jnp.array([[0.5, 1.1], [-0.4, 0.3]])}
    same_state = np.kron(np.eye(2), np.ones((2, 2)))
    covariance = np.ones((4, 4)) + 0.36 * same_state + 0.64 * np.eye(4)
    truth = multivariate_normal(np.zeros(4), covariance).logpdf(np.ravel(data["y"]))

    def one(seed):
        return estimate(model, first_particles(model, 3, seed), data, {}).log_evidence

    ratios = np.exp(np.asarray(jax.jit(jax.vmap(one))(jnp.arange(10_000))) - truth)
    error = ratios.std() / 100
    assert error < 0.02
    assert abs(ratios.mean() - 1.0) < 4 * error


@pytest.mark.parametrize(
    "chunks", [{"borough": 2}, {"bus": 2}, {"year": 1, "borough": 1, "bus": 5}]
)
def test_plates_in_chunks_give_the_same_evidence_and_marginals(chunks: dict) -> None:
    model, data, particles, found, _ = two_particles()
    there = estimated(model, particles, data, chunks)
    assert there.log_evidence == pytest.approx(float(found.log_evidence), rel=1e-13)
    for group, weights in found.weights.items():
        np.testing.assert_allclose(there.weights[group], weights, atol=1e-13)


@pytest.mark.parametrize("chunks", [{"town": 2}, {"bus": 0}])
def test_chunks_of_nothing_are_refused(chunks: dict) -> None:
    model, data, particles, *_ = two_particles()
    with pytest.raises(ModelError, match=f"chunks of .*'{next(iter(chunks))}'.*year, borough, bus"):
        estimated(model, particles, data, chunks)


def test_sufficient_statistics_say_the_same_as_single_observations() -> None:
    singly, by_sums = radon(), radon(summary=True)
    data = radon_data(singly)
    particles = first_particles(singly, 3)
    first, second = (estimated(model, particles, data) for model in (singly, by_sums))
    assert second.log_evidence == pytest.approx(float(first.log_evidence), abs=1e-9)
    for group, weights in first.weights.items():
        np.testing.assert_allclose(second.weights[group], weights, atol=1e-10)


def seen(a, site) -> Model:
    """Whether each of six sites is occupied, and what three visits to it saw."""
    return Model(
        {"site": 6, "visit": 3},
        [Latent("a", Normal, standard), *site],
        [a],
    )


def test_an_enumerated_latent_is_summed_out_exactly() -> None:
    """Against a likelihood in which the sum over it is written by hand."""
    site, visit = ("site",), ("site", "visit")
    enumerated = seen(
        Observed("seen", lambda z: Bernoulli(3.0 * z - 2.0), visit, ("occupied",)),
        [
            Latent(
                "occupied",
                Bernoulli,
                lambda a: Bernoulli(a),
                site,
                ("a",),
                start=lambda: Bernoulli(0.0),
                enumerated=2,
            )
        ],
    )
    _, data = generate(enumerated, {}, jax.random.key(4))
    particles = first_particles(enumerated, 3)
    found = estimated(enumerated, particles, data)

    a, y = np.asarray(particles.values["a"]), np.asarray(data["seen"])
    prior = np.stack([-np.logaddexp(0, a), a - np.logaddexp(0, a)])  # (z, K)
    logits = np.array([-2.0, 1.0])[:, None, None]
    likelihood = (y * logits - np.logaddexp(0, logits)).sum(2)  # (z, site)
    both = prior[:, :, None] + likelihood[:, None]
    by_particle = logsumexp(both, axis=0).sum(1) - 0.5 * a**2 - 0.5 * math.log(2 * math.pi)
    log_weights = by_particle - np.asarray(particles.log_q["a"])
    assert found.log_evidence == pytest.approx(logsumexp(log_weights), abs=1e-10)
    weights = np.exp(log_weights - logsumexp(log_weights))
    given = np.exp(both[1] - logsumexp(both, axis=0))
    new = moments(enumerated, laws(enumerated, begin(enumerated)), particles, found.weights)
    np.testing.assert_allclose(new["occupied"], weights @ given, atol=1e-10)
    in_chunks = estimated(enumerated, particles, data, {"site": 4})
    assert in_chunks.log_evidence == pytest.approx(float(found.log_evidence), rel=1e-13)
    listed = every_combination(enumerated, particles, data)
    assert found.log_evidence == pytest.approx(logsumexp(listed.log_weights), abs=1e-10)


def test_impossible_particles_have_no_weight_and_no_gradient() -> None:
    x = jnp.array([[0.0, -jnp.inf], [-jnp.inf, -jnp.inf], [1.0, 2.0]])
    value, gradient = jax.value_and_grad(lambda x: log_sum_exp(log_sum_exp(x, (1,)), (0,)))(x)
    assert value == pytest.approx(math.log(1.0 + math.e + math.e**2), rel=1e-14)
    expected = np.exp([[0.0, -np.inf], [-np.inf, -np.inf], [1.0, 2.0]] - np.float64(value))
    np.testing.assert_allclose(gradient, expected, rtol=1e-14)
