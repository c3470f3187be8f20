"""Learning curves of trained methods, as the report draws them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

POINTS = 50


def in_stretches(losses: Float[Array, " n"]) -> Float[Array, " points"]:
    """Means over equal stretches of the training, at most 50: single batches are noise.

    Args:
        losses: of batches or of stretches of them, in the order of training.
    """
    points = min(POINTS, len(losses))
    length = len(losses) // points
    # What is left over is left out at the start, of which a stretch shows least.
    return jnp.mean(losses[len(losses) - points * length :].reshape(points, length), axis=1)


def learning_curve(losses: Float[Array, "S points"]) -> Float[Array, " points"]:
    """The mean over shards; a loss beyond floats is shown as the largest float."""
    return jnp.nan_to_num(jnp.mean(losses, axis=0), nan=jnp.finfo(losses.dtype).max)
