from dncbench import Method, register_method


@register_method("broken")
class Broken(Method):
    """Raises on every shard."""

    def fit(self, shard, key):
        raise RuntimeError("no luck on this shard")

    def merge(self, messages, key, num_draws):
        return messages, {}
