"""A regression that holds out observations, so that merges are judged by their predictions."""

import jax
import jax.numpy as jnp

from dncbench import Data, Posterior, register_problem


@register_problem("held-out-regression")
class HeldOutRegression(Posterior):
    """y ~ N(θ·x, 1), θ ~ N(0, 2² I) in three dimensions, 90 rows on 3 shards, 50 held out."""

    num_shards: int = 3
    dim = 3
    headline = ("log-predictive", "mah")

    def data(self, key):
        key_x, key_y = jax.random.split(key)
        x = jax.random.normal(key_x, (140, 3))
        y = x @ jnp.array([1.0, -1.0, 0.5]) + jax.random.normal(key_y, (140,))
        train, held_out = ({"x": x[rows], "y": y[rows]} for rows in (slice(90), slice(90, None)))
        return Data(train, held_out)

    def log_prior(self, theta):
        return -0.5 * jnp.sum((theta / 2.0) ** 2)

    def log_likelihood(self, theta, observation):  # with its constant: it predicts
        residual = observation["y"] - observation["x"] @ theta
        return -0.5 * residual**2 - 0.5 * jnp.log(2 * jnp.pi)
