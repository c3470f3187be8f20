"""Published data sets that are simulated from a JAX seed, regenerated exactly.

Trojan et al. (2024) simulate with JAX in single precision, in the stream that JAX's
generator gave before version 0.5 (``jax_threefry_partitionable=False``); the present
stream makes other data of the same keys. A checksum tells whether a JAX yet to come
still gives the published numbers.
"""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np

from dncbench.errors import DataError


@contextlib.contextmanager
def original_stream() -> Iterator[None]:
    """JAX's random numbers as the papers' code saw them: the old stream, single precision."""
    with jax.enable_x64(False), jax.threefry_partitionable(False):
        yield


def checked(
    name: str, data: dict[str, np.ndarray], checksums: dict[str, tuple[float, float, float]]
) -> dict[str, np.ndarray]:
    """The data as float64, if they are the published ones.

    Args:
        name: for the message.
        data: arrays in single precision.
        checksums: of each array; sums as :func:`checksum` makes them. They are compared
            to a part in 1e5, because processors differ in the last digit of a float32.

    Raises:
        DataError: they are not the published ones.
    """
    for key, expected in checksums.items():
        found = checksum(data[key])
        if not np.allclose(found, expected, rtol=1e-5, atol=1e-3):
            raise DataError(
                f"{name}: this JAX ({jax.__version__}) does not regenerate the published data "
                f"({key}: {found} instead of {expected}); use the versions of "
                "requirements.lock, or leave out --data published"
            )
    return {key: np.asarray(value, dtype=np.float64) for key, value in data.items()}


def checksum(array: np.ndarray) -> tuple[float, float, float]:
    """Σ x_i, Σ x_i² and Σ x_i i/n over all n numbers: values and their order."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    ramp = np.arange(len(flat)) / len(flat)
    return float(flat.sum()), float(flat @ flat), float(flat @ ramp)
