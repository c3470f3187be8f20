"""A problem of milliseconds whose truth and draws are known: nothing is sampled."""

import jax
import jax.numpy as jnp
import numpy as np

from dncbench import Posterior, register_problem
from dncbench.draws import Check, Draws, Truth

PRIOR_VARIANCE = 4.0
OFFSET, NOISE = 0.0, 1.0


@register_problem("known")
class Known(Posterior):
    """Mean of 60 points in the plane, in closed form."""

    num_shards: int = 3
    dim = 2

    def data(self, key):
        return OFFSET + NOISE * (jnp.array([[1.0, -2.0]]) + jax.random.normal(key, (60, 2)))

    def log_prior(self, theta):
        return -0.5 * jnp.sum(theta**2) / PRIOR_VARIANCE

    def log_likelihood(self, theta, point):
        return -0.5 * jnp.sum((point - theta) ** 2) / NOISE**2

    def _drawn(self, points, prior, power, key, num_draws):
        """Draws of prior^prior likelihood^power."""
        precision = power * len(points) / NOISE**2 + prior / PRIOR_VARIANCE
        mean = power * np.asarray(points).sum(0) / NOISE**2 / precision
        noise = np.asarray(jax.random.normal(key, (num_draws, 2)))
        return mean + noise / np.sqrt(precision)

    def truth(self, data, key, num_draws):
        pool = self._drawn(data.train, 1.0, 1.0, key, num_draws)
        return Truth(pool, num_draws, None, (Check("closed form", 0.0, 1.0),))

    def draws(self, data, split, kind, key, num_draws):
        prior, power = (1 / split.num_shards, 1.0) if kind == "plain" else (1.0, split.num_shards)
        points = np.asarray(data.train)
        shards = [
            (points[split.rows(s)], jax.random.fold_in(key, s)) for s in range(split.num_shards)
        ]
        values = np.stack([self._drawn(rows, prior, power, own, num_draws) for rows, own in shards])
        to_points = [rows[:, None] - draws for (rows, _), draws in zip(shards, values, strict=True)]
        log_density = [
            -0.5 * power * np.sum(gaps**2, (0, 2)) / NOISE**2
            - 0.5 * prior * np.sum(draws**2, 1) / PRIOR_VARIANCE
            for gaps, draws in zip(to_points, values, strict=True)
        ]
        score = [
            power * gaps.sum(0) / NOISE**2 - prior * draws / PRIOR_VARIANCE
            for gaps, draws in zip(to_points, values, strict=True)
        ]
        return Draws(values, np.stack(log_density), np.stack(score))
