"""float64 for the whole suite, and the one way of deriving random keys.

Importing this module turns on ``jax_enable_x64`` for the process. A benchmark's
own arithmetic must not be what separates two methods: posterior standard
deviations of one problem span 1e-4 to 1, log densities are sums of thousands of
terms, and covariances are inverted. A method that wants float32 (a neural
network, say) casts its inputs itself.
"""

import zlib
from contextlib import AbstractContextManager

import jax
from jaxtyping import PRNGKeyArray

jax.config.update("jax_enable_x64", True)


def third_party() -> AbstractContextManager:
    """A context for calls of other libraries, some of which broadcast over axes not written out.

    dncbench's own code writes every axis, and its tests make JAX refuse any other.
    """
    return jax.numpy_rank_promotion("allow")


def derive_key(seed: int, *names: str | int) -> PRNGKeyArray:
    """Return the random key of one named place in the benchmark.

    Args:
        seed: the run's seed.
        names: what the draw may depend on, outermost first, e.g.
            ``("toy-logistic", "random-0", "consensus")``. Strings enter by their
            CRC-32, so a key depends on names and never on the order of registration.

    Returns:
        A JAX key; equal arguments give equal keys on every machine.
    """
    key = jax.random.key(seed)
    for name in names:
        number = name if isinstance(name, int) else zlib.crc32(name.encode())
        key = jax.random.fold_in(key, number)
    return key
