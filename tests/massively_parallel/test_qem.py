"""QEM: invariance, convergence to exact posteriors, steps, guards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hierarchies import radon, radon_data, standard

from dncbench.methods.massively_parallel._families import (
    Categorical,
    Dirichlet,
    Gamma,
    Normal,
    Poisson,
)
from dncbench.methods.massively_parallel._joint import generate
from dncbench.methods.massively_parallel._model import Model
from dncbench.methods.massively_parallel._particles import draw, estimate, moments, randomness
from dncbench.methods.massively_parallel._qem import Schedule, begin, constant, laws, run
from dncbench.methods.massively_parallel._variables import Latent, ModelError, Observed


def test_a_smaller_unit_gives_the_same_trajectory() -> None:
    """Means of states in thousandths, for equal random numbers: equal to 1e-6."""
    natural, thousandth = radon(), radon(unit=1e-3)
    data = radon_data(natural)
    first, second = begin(natural), begin(thousandth)
    for _ in range(4):
        (first, trace), (second, other) = (
            run(
                model,
                data,
                jax.random.key(0),
                iterations=25,
                num_particles=3,
                schedule=constant(0.1),
                state=state,
            )
            for model, state in ((natural, first), (thousandth, second))
        )
        np.testing.assert_allclose(trace.elbo, other.elbo, rtol=1e-6)
        for name, mean in first.means.items():
            unit = 1e-3 if name == "state_mean" else 1.0
            np.testing.assert_allclose(second.means[name].mean, unit * mean.mean, rtol=1e-6)
            np.testing.assert_allclose(second.means[name].spread, unit**2 * mean.spread, rtol=1e-6)


def test_a_run_in_stretches_is_the_same_run() -> None:
    model = radon()
    data = radon_data(model)
    settings = {"num_particles": 3, "schedule": Schedule(0.2, 2, 0.5, 0.9)}
    whole, trace = run(model, data, jax.random.key(0), iterations=25, **settings)
    half = begin(model)
    for _ in range(5):
        half, last = run(model, data, jax.random.key(0), iterations=5, state=half, **settings)
    np.testing.assert_array_equal(last.elbo, trace.elbo[-5:])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), half, whole))


def test_the_bias_of_one_iterations_moments_is_that_of_self_normalised_weights() -> None:
    """One conjugate latent: -E_q[w² (x - m)] / K, with w = p / q, and O(1 / K²)."""
    model = Model(
        {"row": 2},
        [Latent("mu", Normal, standard)],
        [Observed("y", lambda mu: Normal(mu, 1.0), ("row",), ("mu",))],
    )
    data = {"y": jnp.array([1.4, 0.7])}
    mean, variance = 0.7, 1.0 / 3.0
    # p² / q is a Gaussian of this precision and mean, times a constant.
    precision = 2.0 / variance - 1.0
    centre = 2.0 * mean / variance / precision
    exponent = 0.5 * precision * centre**2 - mean**2 / variance
    square = np.exp(exponent) / (variance * np.sqrt(precision))
    num, proposals = 20_000, laws(model, begin(model))

    def one(key, num_particles):
        numbers = randomness(model, key, num_particles)
        particles = draw(model, proposals, numbers, num_particles)
        weights = estimate(model, particles, data, {}).weights
        return moments(model, proposals, particles, weights)["mu"].mean

    errors = {}
    for num_particles in (20, 80):
        keys = jax.random.split(jax.random.key(num_particles), num)
        found = np.asarray(jax.jit(jax.vmap(lambda key, k=num_particles: one(key, k)))(keys))
        error = found.std() / np.sqrt(num)
        leading = square * (mean - centre) / num_particles
        assert abs(found.mean() - mean - leading) < 4 * error + 2.0 / num_particles**2
        errors[num_particles] = leading / error
    assert abs(errors[20]) > 10  # many standard errors: a bias that is there


def two_levels() -> Model:
    return Model(
        {"state": 3},
        [
            Latent("mu", Normal, standard),
            Latent("z", Normal, lambda mu: Normal(mu, 0.6), ("state",), ("mu",), start=standard),
        ],
        [Observed("y", lambda z: Normal(z, 0.5), ("state",), ("z",))],
    )


def test_moments_of_a_linear_model_approach_the_exact_ones_with_more_particles() -> None:
    """Variances of a Q whose groups are independent, where the posterior's are not."""
    model, y = two_levels(), np.array([0.5, 1.1, -0.4])
    precision = np.diag([1.0 + 3 / 0.36] + 3 * [1 / 0.36 + 1 / 0.25])
    precision[0, 1:] = precision[1:, 0] = -1 / 0.36
    covariance = np.linalg.inv(precision)
    exact = covariance @ [0.0, *(y / 0.25)]
    shortfall = {}
    for num_particles in (4, 16):
        found = average_states(model, {"y": jnp.asarray(y)}, num_particles)
        mean, spread = (
            np.concatenate([np.asarray(found["mu"][i])[:, None], np.asarray(found["z"][i])], axis=1)
            for i in range(2)
        )
        ratio = spread / np.diag(covariance)[None]
        offset = (mean - exact[None]) / np.sqrt(np.diag(covariance))[None]
        error = ratio.std(axis=0) / np.sqrt(len(ratio))
        assert np.all(error < 0.01)
        assert np.all(np.abs(offset.mean(axis=0)) < 0.02)
        shortfall[num_particles] = 1.0 - ratio.mean(axis=0)
    assert np.all(shortfall[4] > 0.03)
    assert np.all(np.abs(shortfall[16]) < 0.015)
    assert np.all(shortfall[4] / shortfall[16] > 4.0)


def average_states(model: Model, data, num_particles: int):
    """Of 8 runs: states averaged over 5000 iterations, after 300 to forget the start."""
    settings = {"num_particles": num_particles, "schedule": constant(0.02)}

    def one(key):
        state, _ = run(model, data, key, iterations=300, **settings)

        def stretch(state, _):
            state, _ = run(model, data, key, iterations=10, state=state, **settings)
            return state, state.means

        _, means = jax.lax.scan(stretch, state, length=500)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), means)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 8))


def test_qem_finds_conjugate_posteriors_of_other_families() -> None:
    """Within 3 %: one group each, whose exact posterior is in the family."""
    model = Model(
        {"row": 10},
        [
            Latent("rate", Gamma, lambda: Gamma(2.0, 1.0)),
            Latent("shares", Dirichlet, lambda: Dirichlet(jnp.ones(3)), event=(3,)),
        ],
        [
            Observed("count", Poisson, ("row",), ("rate",)),
            Observed("kind", lambda p: Categorical(jnp.log(p)), ("row",), ("shares",)),
        ],
    )
    _, data = generate(model, {}, jax.random.key(3))
    state, trace = run(
        model,
        data,
        jax.random.key(4),
        iterations=1000,
        num_particles=30,
        schedule=Schedule(),
    )
    exact = {
        "rate": Gamma(2.0 + data["count"].sum(), 11.0),
        "shares": Dirichlet(1.0 + jnp.bincount(data["kind"], length=3)),
    }
    found = laws(model, state)
    for name, law in exact.items():
        for parameter, expected in zip(
            jax.tree.leaves(found[name]), jax.tree.leaves(law), strict=True
        ):
            np.testing.assert_allclose(parameter, expected, rtol=0.03)
        assert trace.smallest_ess[name][-1] > 29.0


def test_steps_fall_after_the_burn_in() -> None:
    schedule = Schedule(0.1, 50, 0.1, 0.7)
    found = [float(schedule(jnp.array(t))) for t in (0, 50, 60, 150)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.1 * 2**-0.7, 0.1 * 11**-0.7], rtol=1e-12)
    assert constant(0.3)(jnp.array(10_000)) == pytest.approx(0.3, rel=1e-14)


def radon_run(num_particles: int, step: float):
    """25 iterations with the same step."""
    model = radon()
    settings = {"num_particles": num_particles, "schedule": constant(step)}
    return run(model, radon_data(model), jax.random.key(0), iterations=25, **settings)


def test_no_step_lets_a_variance_vanish() -> None:
    """One particle has no variance, and a step of 1 would keep nothing of the old one."""
    state, trace = radon_run(num_particles=1, step=1.0)
    for mean in state.means.values():
        assert np.all(np.asarray(mean.spread) > 0)
        assert np.all(np.isfinite(mean.mean))
    assert np.all(np.isfinite(trace.elbo))
    assert all(np.all(share == 1.0) for share in trace.collapsed.values())


def test_effective_sizes_lie_between_one_and_k() -> None:
    _, trace = radon_run(num_particles=3, step=0.1)
    assert set(trace.smallest_ess) == {"global", "state_mean", "state_log_sigma", "slope"}
    for group, smallest in trace.smallest_ess.items():
        assert smallest.shape == (25,)
        assert np.all((smallest >= 1.0 - 1e-12) & (smallest <= 3.0 + 1e-12))
        np.testing.assert_array_equal(smallest < 1.5, trace.collapsed[group] > 0)


def test_data_of_another_shape_are_refused() -> None:
    model = radon()
    data = {**radon_data(model), "basement": jnp.zeros(3)}
    with pytest.raises(ModelError, match="'basement'"):
        run(
            model,
            data,
            jax.random.key(0),
            iterations=1,
            num_particles=2,
            schedule=constant(0.1),
        )


def test_a_run_of_nothing_is_refused() -> None:
    model = radon()
    with pytest.raises(ModelError, match="iterations=0 of num_particles=3; both must be"):
        run(
            model,
            radon_data(model),
            jax.random.key(0),
            iterations=0,
            num_particles=3,
            schedule=constant(0.1),
        )
