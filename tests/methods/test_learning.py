"""Learning curves: what trained methods report of their training."""

import jax.numpy as jnp
import numpy as np
import pytest

import dncbench
from dncbench.methods._learning import POINTS, in_stretches, learning_curve

TRAINED = ("flow[steps=400]", "score-regression[steps=400]")


@pytest.mark.parametrize("number", [7, POINTS, 1049])
def test_stretches_are_means_in_order(number: int) -> None:
    losses = np.arange(float(number))
    points = min(number, POINTS)
    found = np.asarray(in_stretches(jnp.asarray(losses)))
    assert found.shape == (points,)
    np.testing.assert_allclose(found, losses[number % points :].reshape(points, -1).mean(1))


def test_a_loss_beyond_floats_can_be_recorded() -> None:
    losses = jnp.array([[jnp.inf, 1.0, jnp.nan], [1.0, 3.0, 1.0]], jnp.float32)
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(learning_curve(losses), np.float32([largest, 2.0, largest]))


@pytest.mark.parametrize("method", TRAINED)
def test_the_curve_falls(method: str) -> None:
    # a u - b exp(u) in each coordinate: skewed, so that there is something to learn.
    draws = np.log(np.random.default_rng(3).gamma(1.0, size=(2, 1000, 2)))
    info = dncbench.merge(draws, method, score=1.0 - np.exp(draws), num_draws=200).info
    curve = np.array(info["learning_curve"])
    fifth = len(curve) // 5
    assert POINTS <= len(curve) <= POINTS + 1
    # What neighbours differ by is mostly the noise of batches; a fall is more than that.
    noise = np.std(np.diff(curve)) / 2**0.5 * (2 / fifth) ** 0.5
    assert curve[:fifth].mean() - curve[-fifth:].mean() > 3 * noise
