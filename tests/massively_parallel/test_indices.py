"""Draws of the posterior over indices, against a list of all combinations."""

import jax
import numpy as np
from hierarchies import bus_data, buses, every_combination, first_particles
from scipy.special import softmax
from scipy.stats import chi2

from dncbench.methods.massively_parallel._indices import posterior_indices, take


def test_draws_have_the_joint_law_of_the_indices() -> None:
    """Of one chain down the tree, by chi-squared; and every marginal, within five errors."""
    num = 20_000
    model = buses()
    data, particles = bus_data(model), first_particles(model, 2)
    # Nearer to one another than they were drawn, so that no combination is hopeless.
    particles = particles._replace(values=jax.tree.map(lambda x: 0.3 * x, particles.values))
    listed = every_combination(model, particles, data)
    weights = softmax(listed.log_weights)
    drawn = jax.jit(lambda particles, key: posterior_indices(model, particles, data, key, num))(
        particles, jax.random.key(3)
    )

    def chain(indices):
        return 4 * indices["global"] + 2 * indices["beta"][:, 1] + indices["alpha"][:, 1, 2]

    expected = num * np.bincount(chain(listed.indices), weights, 8)
    found = np.bincount(np.asarray(chain(drawn)), minlength=8)
    assert expected.min() > 5
    assert np.sum((found - expected) ** 2 / expected) < chi2(7).ppf(0.9999)
    for group, index in drawn.items():
        assert index.shape == (num, *listed.indices[group].shape[1:])
        mean = np.einsum("c,c...->...", weights, listed.indices[group])
        error = np.sqrt(mean * (1 - mean) / num)
        assert np.all(np.abs(np.mean(index, axis=0) - mean) <= 5 * error)


def test_values_are_taken_at_the_indices_of_their_group() -> None:
    model = buses()
    particles = first_particles(model, 3)
    rng = np.random.default_rng(0)
    indices = {
        "global": rng.integers(0, 3, 4),
        "beta": rng.integers(0, 3, (4, 2)),
        "alpha": rng.integers(0, 3, (4, 2, 3)),
    }
    found = take(model, particles, {name: jax.numpy.asarray(x) for name, x in indices.items()})
    phi, alpha = (np.asarray(particles.values[name]) for name in ("phi", "alpha"))
    np.testing.assert_array_equal(found["phi"], phi[indices["global"]])
    for draw in range(4):
        for year in range(2):
            for borough in range(3):
                k = indices["alpha"][draw, year, borough]
                assert found["alpha"][draw, year, borough] == alpha[k, year, borough]
