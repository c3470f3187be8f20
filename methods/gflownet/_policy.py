"""A GFlowNet's network: scores of actions forwards, and, where learned, backwards and flows."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from dncbench.stategraph.moves import Moves

_OUT = 1e-2  # the last layer starts at this share of its size: policies start nearly uniform
_FORBIDDEN = -1e9  # as a score; -inf would make gradients NaN


class Network(eqx.Module):
    """Two hidden layers on the features of a state, float32.

    What comes out, in this order: a score for each action; where the backward policy is
    learned, a score for each action that may have led here; and the log flow through the
    state.

    Attributes:
        weights: of each layer, (inputs, outputs).
        biases: of each layer.
        log_normaliser: () log Z, which trajectory balance learns beside the network.
        learned_backward: whether the backward policy is the network's, or uniform.
    """

    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "..."], ...]
    log_normaliser: Float[Array, ""]
    num_actions: int = eqx.field(static=True)
    learned_backward: bool = eqx.field(static=True)

    def __init__(self, moves: Moves, width: int, learned_backward: bool, key: PRNGKeyArray) -> None:
        outputs = moves.num_actions * (2 if learned_backward else 1) + 1
        sizes = (moves.num_features, width, width, outputs)
        shapes = list(itertools.pairwise(sizes))
        # One draw for all: each would cost as long to compile.
        numbers = jax.random.uniform(key, (sum(a * b for a, b in shapes),), jnp.float32, -1.0, 1.0)
        parts = jnp.split(numbers, list(itertools.accumulate(a * b for a, b in shapes[:-1])))
        spread = [(3.0 / a) ** 0.5 for a, _ in shapes]
        spread[-1] *= _OUT
        self.weights = tuple(
            size * part.reshape(shape)
            for size, part, shape in zip(spread, parts, shapes, strict=True)
        )
        self.biases = tuple(jnp.zeros(b, jnp.float32) for _, b in shapes)
        self.log_normaliser = jnp.zeros((), jnp.float32)
        self.num_actions, self.learned_backward = moves.num_actions, learned_backward

    def outputs(self, moves: Moves, states: Shaped[Array, "N ..."]) -> Float[Array, "N outputs"]:
        """Of the last layer."""
        x = moves.features(states)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jax.nn.relu(x @ weight + bias[None])
        return x @ self.weights[-1] + self.biases[-1][None]

    def forward(
        self, outputs: Float[Array, "N outputs"], allowed: Bool[Array, "N A"]
    ) -> Float[Array, "N A"]:
        """Log probabilities of the actions; what a complete state says means nothing."""
        return _log_softmax(outputs[:, : self.num_actions], allowed)

    def backward(
        self, outputs: Float[Array, "N outputs"] | None, entered: Bool[Array, "N A"]
    ) -> Float[Array, "N A"]:
        """Log probabilities of the actions that may have led here; outputs where learned."""
        if outputs is None or not self.learned_backward:
            count = jnp.sum(entered, axis=1, keepdims=True)
            flat = -jnp.log(jnp.maximum(count, 1).astype(jnp.float32))
            return jnp.broadcast_to(flat, entered.shape)
        return _log_softmax(outputs[:, self.num_actions : 2 * self.num_actions], entered)

    def log_flow(self, outputs: Float[Array, "N outputs"]) -> Float[Array, " N"]:
        """Through each state; means something where detailed balance trained it."""
        return outputs[:, -1]


def _log_softmax(scores: Float[Array, "N A"], which: Bool[Array, "N A"]) -> Float[Array, "N A"]:
    return jax.nn.log_softmax(jnp.where(which, scores, _FORBIDDEN), axis=1)
