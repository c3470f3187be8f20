"""A problem of milliseconds: the mean of 60 points in the plane, in closed form."""

import jax
import jax.numpy as jnp

from dncbench import Posterior, register_problem


@register_problem("tiny")
class Tiny(Posterior):
    """Mean of 60 points in the plane, unit noise, prior N(0, 4), 3 shards."""

    num_shards: int = 3
    dim = 2

    def data(self, key):
        return jnp.array([[1.0, -2.0]]) + jax.random.normal(key, (60, 2))

    def log_prior(self, theta):
        return -0.5 * jnp.sum(theta**2) / 4.0

    def log_likelihood(self, theta, point):
        return -0.5 * jnp.sum((point - theta) ** 2)
