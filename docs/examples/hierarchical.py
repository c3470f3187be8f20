"""Groups with a mean of their own each, which stays on the shard that holds the group."""

import jax
import jax.numpy as jnp
import numpy as np

from dncbench import Problem, register_problem
from dncbench.draws import Check, Draws, Truth
from dncbench.space import Real


@register_problem("group-means")
class GroupMeans(Problem):
    """y ~ N(z_g, 1), z_g ~ N(μ, 1), μ ~ N(0, 3²): 60 groups of 5 on 4 shards; only μ is shared."""

    num_shards: int = 4
    space = Real(("mu",), "unconstrained")

    def data(self, key):
        key_z, key_y = jax.random.split(key)
        group = jnp.repeat(jnp.arange(60), 5)
        y = 1.0 + jax.random.normal(key_z, (60,))[group] + jax.random.normal(key_y, (300,))
        return {"group": group, "y": y}

    def groups(self, observations):  # what a split deals out
        return np.asarray(observations["group"])

    def shared(self, observations, num_shards):  # precision and mean of μ; its locals are gone
        means = np.asarray(observations["y"]).reshape(-1, 5).mean(1)
        precision = 1 / 9 / num_shards + len(means) / (1 + 1 / 5)
        return precision, means.sum() / (1 + 1 / 5) / precision, means

    def draws(self, data, split, kind, key, num_draws):
        power = {"plain": 1, "inflated": self.num_shards}[kind]
        values, scores = [], []
        for shard in range(self.num_shards):
            rows = {name: array[split.rows(shard)] for name, array in data.train.items()}
            precision, mean, means = self.shared(rows, self.num_shards)
            key_mu, key_z = jax.random.split(jax.random.fold_in(key, shard))
            mu = mean + jax.random.normal(key_mu, (num_draws,)) / jnp.sqrt(power * precision)
            # z_g given μ and the data; the score of the joint density, by Fisher's identity.
            noise = jax.random.normal(key_z, (num_draws, len(means))) / jnp.sqrt(6.0)
            z = (5 * means[None, :] + mu[:, None]) / 6 + noise
            values.append(mu[:, None])
            scores.append(
                -mu[:, None] / 9 / self.num_shards + (z - mu[:, None]).sum(1, keepdims=True)
            )
        return Draws(np.array(values), None, np.array(scores), conditional_score=True)

    def truth(self, data, key, num_draws):
        precision, mean, means = self.shared(data.train, 1)
        pool = mean + np.asarray(jax.random.normal(key, (num_draws, 1))) / np.sqrt(precision)
        return Truth(pool, num_draws, None, (Check("closed form: groups", len(means)),))
