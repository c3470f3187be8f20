import jax.numpy as jnp

from dncbench import Method, register_method


@register_method("median")
class Median(Method):
    """Median over shards of one draw each."""

    def fit(self, shard, key):
        return shard.values

    def merge(self, messages, key, num_draws):
        return jnp.median(messages[:, :num_draws], axis=0), {}
