"""Twenty objects, four clients with a reward table each, and a merge of tables."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dncbench import Method, Problem, register_method, register_problem
from dncbench.draws import Check, Draws, Truth
from dncbench.space import Codes


@register_problem("reward-tables")
class RewardTables(Problem):
    """The product of four clients' laws on twenty objects, known by enumeration: grade A."""

    num_shards: int = 4
    headline = ("tv",)

    @property
    def space(self):
        return Codes(("number",), "codes", 20, lambda codes: codes[:, None].astype(float))

    def tables(self):  # (S, K) normalised log rewards
        rewards = jax.random.normal(jax.random.key(0), (self.num_shards, 20))
        return jax.nn.log_softmax(rewards, axis=1)

    def density(self, data, split, kind, space):
        tables = self.tables()
        return Table(tables.sum(0, keepdims=True) if kind == "full" else tables)

    def draws(self, data, split, kind, key, num_draws):
        draw = jax.random.categorical(key, self.tables()[:, None], shape=(4, num_draws))
        return Draws(np.asarray(draw), np.asarray(jnp.take_along_axis(self.tables(), draw, 1)))

    def truth(self, data, key, num_draws):
        log_probs = np.asarray(jax.nn.log_softmax(self.tables().sum(0)))
        pool = np.asarray(jax.random.categorical(key, log_probs, shape=(num_draws,)))
        enumerated = Check("objects enumerated", 20)
        return Truth(pool, num_draws, log_probs, (enumerated,))


class Table(eqx.Module):
    """A stacked log density of codes: a table, in which it is looked up."""

    log_rewards: jax.Array

    def __call__(self, code):
        return self.log_rewards[code]


@register_method("add-tables")
class AddTables(Method):
    """Each client sends its log density at every object; sums are exact."""

    needs = frozenset({"model"})
    spaces = frozenset({"codes"})

    def fit(self, shard, key):
        return jax.vmap(shard.density)(jnp.arange(20))

    def merge(self, messages, key, num_draws):
        log_probs = jax.nn.log_softmax(messages.sum(0))
        return jax.random.categorical(key, log_probs, shape=(num_draws,)), {"log_probs": log_probs}
