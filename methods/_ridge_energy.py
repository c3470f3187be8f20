"""Log densities fitted to scores alone: a quadratic plus ridge functions, or plus a network.

In coordinates x in which the points have mean 0 and covariance I,

    f(x) = b·x - ½ xᵀH x - Σ_k a_k softplus(w_k·x + c_k),

with score b - H x - Σ_k a_k sigmoid(w_k·x + c_k) w_k. The family decides the signs:

- "concave": H = L Lᵀ and a_k >= 0, so f is log-concave: it extrapolates without ever
  running off, and can be no other than log-concave.
- "free": H symmetric and a_k of either sign; fits more, and may run off where no draw was.
- "mlp": the ridges are replaced by a network of two hidden layers.

Every generalised linear model's log likelihood is a sum of ridge functions, for logistic
regression exactly of softplus ridges: there the family is well specified.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.methods._learning import in_stretches

FAMILIES = ("concave", "free", "mlp")
_WIDTH = 64  # of the network's layers
_ROBUST = 2.6  # times sqrt(d): row norms of the residual beyond it count linearly


class Energy(eqx.Module):
    """Trainable parameters, float32; ``network`` is None but for the family "mlp"."""

    linear: Float[Array, " d"]
    quadratic: Float[Array, "d d"]
    weights: Float[Array, "K d"]
    offsets: Float[Array, " K"]
    heights: Float[Array, " K"]
    network: Any
    family: str = eqx.field(static=True)

    def curvature(self) -> Float[Array, "d d"]:
        """H, (d, d) symmetric."""
        if self.family == "concave":
            return self.quadratic @ self.quadratic.T
        return 0.5 * (self.quadratic + self.quadratic.T)

    def amplitudes(self) -> Float[Array, " K"]:
        """a_k, (K,)."""
        return jax.nn.softplus(self.heights) if self.family == "concave" else self.heights

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """F(x), up to a constant."""
        value = self.linear @ x - 0.5 * x @ self.curvature() @ x
        if self.family == "mlp":
            return value + jnp.sum(self.network(x))
        return value - self.amplitudes() @ jax.nn.softplus(self.weights @ x + self.offsets)

    def scores(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """∇f at n points; in closed form for ridges, which spares a nested derivative."""
        if self.family == "mlp":
            return jax.vmap(jax.grad(self))(x)
        active = jax.nn.sigmoid(x @ self.weights.T + self.offsets[None, :])
        ridges = (active * self.amplitudes()[None, :]) @ self.weights
        return self.linear[None, :] - x @ self.curvature() - ridges


def initial(key: PRNGKeyArray, dim: int, num_ridges: int, family: str) -> Energy:
    """Half of N(0, I) in the quadratic, the rest in ridges of random directions."""
    key_weights, key_offsets, key_network = jax.random.split(key, 3)
    single = jnp.float32
    share = 0.5 if family != "mlp" else 1.0
    root = share**0.5 if family == "concave" else share
    height = math.log(math.expm1(0.8 * dim / num_ridges)) if family == "concave" else 0.0
    network = None
    if family == "mlp":
        network = eqx.nn.MLP(
            dim, 1, _WIDTH, 2, activation=jax.nn.silu, dtype=single, key=key_network
        )
    return Energy(
        linear=jnp.zeros(dim, single),
        quadratic=(root * jnp.eye(dim)).astype(single),
        weights=1.5 * jax.random.normal(key_weights, (num_ridges, dim), single) / dim**0.5,
        offsets=jax.random.normal(key_offsets, (num_ridges,), single),
        heights=jnp.full(num_ridges, height, single),
        network=network,
        family=family,
    )


def misfit(energy: Energy, x: Float[Array, "n d"], scores: Float[Array, "n d"]) -> Float[Array, ""]:
    """Mean Huber loss of the row norms of the residual scores, divided by d.

    Squares, up to a norm of 2.6 sqrt(d); linear beyond, so that single wrong scores
    cannot turn the fit. 1 is what a constant reads on Gaussian draws.
    """
    dim = x.shape[1]
    squares = jnp.sum((energy.scores(x) - scores) ** 2, axis=1)
    limit = _ROBUST * dim**0.5
    # sqrt has no derivative at zero; below the limit its branch is not used.
    norms = jnp.sqrt(jnp.maximum(squares, limit**2))
    losses = jnp.where(squares < limit**2, squares, 2.0 * limit * norms - limit**2)
    return jnp.mean(losses) / dim


def train(
    energy: Energy,
    key: PRNGKeyArray,
    x: Float[Array, "T d"],
    scores: Float[Array, "T d"],
    *,
    steps: int,
    learning_rate: float,
    batch: int = 128,
) -> tuple[Energy, Float[Array, ""], Float[Array, " points"]]:
    """Fit by Adam with a cosine schedule on random batches, in one scan.

    Args:
        energy: where to start.
        key: random key.
        x: (T, d) points, float32.
        scores: (T, d) scores with respect to x, float32.
        steps: updates.
        learning_rate: of the first update; zero at the last.
        batch: points in an update.

    Returns:
        The fitted energy, its misfit over all points, and those of batches in the course of
        training.
    """
    import optax

    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(50.0), optax.adam(schedule))

    arrays, static = eqx.partition(energy, eqx.is_inexact_array)

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, Array]:
        arrays, state = carry
        rows = jax.random.randint(key, (batch,), 0, len(x))
        loss = lambda arrays: misfit(eqx.combine(arrays, static), x[rows], scores[rows])  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(arrays)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(arrays, updates), state), value

    (arrays, _), losses = jax.lax.scan(
        step, (arrays, optimiser.init(arrays)), jax.random.split(key, steps)
    )
    fitted = eqx.combine(arrays, static)
    return fitted, _misfit_over_all(fitted, x, scores), in_stretches(losses)


_BLOCK = 500


def _misfit_over_all(energy: Energy, x: Array, scores: Array) -> Float[Array, ""]:
    """Block by block, for all points at once would fill memory with T x K activations."""
    blocks = max(1, len(x) // _BLOCK)
    rows = (jnp.arange(blocks * min(_BLOCK, len(x))) * len(x)) // (blocks * min(_BLOCK, len(x)))
    parts = rows.reshape(blocks, -1)
    return jnp.mean(jax.lax.map(lambda part: misfit(energy, x[part], scores[part]), parts))
