"""Learning curves: what trained methods report of their training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.configure import configure
from dncbench.method import Shard
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
    given = {"values": draws, "score": 1.0 - np.exp(draws), "ess": np.full(2, 1000.0)}
    shards = Shard(**jax.tree.map(jnp.asarray, given))
    configured = configure("method", method)[1]

    @jax.jit
    def curve_of(shards: Shard, key: jax.Array) -> jax.Array:
        # A program that returns nothing else: the merge's sampling is not compiled.
        messages = jax.vmap(configured.fit)(shards, jax.random.split(key, 2))
        return configured.merge(messages, key, 200)[1]["learning_curve"]

    curve = np.asarray(curve_of(shards, jax.random.key(0)))
    fifth = len(curve) // 5
    assert POINTS <= len(curve) <= POINTS + 1
    # What neighbours differ by is mostly the noise of batches; a fall is more than that.
    noise = np.std(np.diff(curve)) / 2**0.5 * (2 / fifth) ** 0.5
    assert curve[:fifth].mean() - curve[-fifth:].mean() > 3 * noise
