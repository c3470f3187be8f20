"""What merges on enumerable objects share: tables over all of them, and draws of a table."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import Arrays, categorical
from dncbench.errors import NotApplicableError
from dncbench.method import Shard
from dncbench.stategraph.graph import MOST_STATES
from dncbench.stategraph.sites import Sites


class Message(eqx.Module):
    """What a client sends, and the problem, which the server knows: it costs no bytes.

    Attributes:
        sent: arrays; stacked along a leading axis of S where they meet.
        problem: of the clients.
    """

    sent: Arrays
    problem: Any = eqx.field(static=True)


def num_objects(problem: Any) -> int:
    """K.

    Raises:
        NotApplicableError: nobody has counted them, or they are too many to be listed.
    """
    size: int | None = problem.space.size
    if size is None:
        raise NotApplicableError("nobody has counted the objects, and this merge weighs them all")
    if size > MOST_STATES:
        raise NotApplicableError(
            f"{size} objects are too many to be listed, and this merge weighs them all"
        )
    return size


def sites_of(problem: Any) -> Sites:
    """The objects as values at places.

    Raises:
        NotApplicableError: they are not made of such.
    """
    sites: Sites | None = getattr(problem, "sites", None)
    if sites is None:
        raise NotApplicableError(
            "the objects are no values at places, which this merge makes laws of"
        )
    return sites


def log_rewards(shard: Shard) -> Float[Array, " K"]:
    """A client's log density at every object."""
    assert shard.density is not None
    return jax.vmap(shard.density)(jnp.arange(num_objects(shard.problem)))


def own_draws(shard: Shard) -> Message:
    """A client's draws as they are."""
    assert shard.values is not None
    return Message(shard.values.astype(jnp.int32), shard.problem)


def counts(codes: Int[Array, " T"], size: int) -> Float[Array, " K"]:
    """How often each object is among the draws."""
    return jnp.zeros(size).at[codes].add(1.0)


def drawn(
    log_scores: Float[Array, " K"],
    of_clients: Float[Array, "S K"],
    key: PRNGKeyArray,
    num_draws: int,
) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
    """Draws of a law that is known up to a factor, and what is told of laws.

    Args:
        log_scores: log probabilities up to a constant.
        of_clients: likewise, of the law that each client sent.
        key: random key.
        num_draws: how many.
    """
    log_probs = jax.nn.log_softmax(log_scores)
    return categorical(key, log_probs, num_draws), {
        "log_probs": log_probs,
        "client_log_probs": jax.nn.log_softmax(of_clients, axis=1),
    }
