"""The diffusion model of one subposterior: its SDE, its energy network and their training.

Shared by ``diffusion``, which samples from the sum of the energies, and by its negative
control ``score-sum-sde``, which puts the sum of their gradients into a reverse SDE.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.methods._learning import in_stretches

OBJECTIVES = ("combined", "dsm", "tsm")

BETA_MIN, BETA_MAX = 0.1, 20.0
EARLIEST = 1e-5
"""Training times are U(EARLIEST, 1 - EARLIEST): both targets blow up, one at either end."""

_WIDTH = 32
_UPDATES_AT_ONCE = 125
_LARGEST_SCORE = 20  # median lengths

SHORTENED = f"scores longer than {_LARGEST_SCORE} times the median length were shortened"
"""The warning for what :func:`bounded_scores` does."""


class Training(NamedTuple):
    """How a network is trained with Adam.

    Attributes:
        num_updates: parameter updates, a multiple of 125.
        batch_size: draws in each, taken with replacement, each with a time and a noise of its own.
        learning_rate: of the first update.
        average: decay of the exponential moving average of the parameters that is kept in
            the end, with a learning rate that falls to 0 along a cosine; None for a constant
            rate and the last parameters.
    """

    num_updates: int
    batch_size: int
    learning_rate: float
    average: float | None


TRAININGS = {
    # 500 epochs of 10 000 draws, as Trojan et al. (2024), appendix A.6.
    "paper": Training(156_250, 32, 1e-3, None),
    "fast": Training(20_000, 32, 5e-3, 0.999),
    "brief": Training(250, 32, 5e-3, 0.9),
}


def integrated_rate(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """∫_0^t β for β(t) = BETA_MIN + t (BETA_MAX - BETA_MIN)."""
    return t * (BETA_MIN + 0.5 * t * (BETA_MAX - BETA_MIN))


def time_of(integral: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The t at which :func:`integrated_rate` has a value."""
    slope = BETA_MAX - BETA_MIN
    return 2 * integral / (BETA_MIN + jnp.sqrt(BETA_MIN**2 + 2 * slope * integral))


def signal(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """m(t): X_t given X_0 = x is N(m x, s² I) under the variance-preserving SDE, m² + s² = 1."""
    return jnp.exp(-0.5 * integrated_rate(t))


def noise(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """s(t) of the same; no digits are lost near t = 0."""
    return jnp.sqrt(-jnp.expm1(-integrated_rate(t)))


class Energy(eqx.Module):
    """log p_t(x) ≈ -½ |x - ψ(x, s(t))|² + constant, ψ a residual MLP.

    Trojan et al. (2024), equation 14 (m² + s² = 1) and appendix A.5: a hidden layer, one
    block of two with a skip connection, SiLU, s(t) appended to the input of every layer.
    ψ starts at zero, so an untrained model is the Gaussian that the coordinates whiten.

    Attributes:
        layers: d + 1 to 32, twice 33 to 32, 33 to d, in float32.
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, dim: int, key: PRNGKeyArray) -> None:
        sizes = [(dim, _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, dim)]
        *hidden, last = (
            eqx.nn.Linear(size_in + 1, size_out, dtype=jnp.float32, key=key)
            for (size_in, size_out), key in zip(sizes, jax.random.split(key, 4), strict=True)
        )
        self.layers = (*hidden, jax.tree.map(jnp.zeros_like, last))

    def displacement(self, x: Float[Array, " d"], noise: Float[Array, ""]) -> Float[Array, " d"]:
        """ψ(x, s)."""

        def layer(i: int, values: Array) -> Array:
            return self.layers[i](jnp.append(values, noise))

        hidden = jax.nn.silu(layer(0, x))
        hidden = hidden + jax.nn.silu(layer(2, jax.nn.silu(layer(1, hidden))))
        return layer(3, hidden)

    def log_density(self, x: Float[Array, " d"], noise: Float[Array, ""]) -> Float[Array, ""]:
        """Unnormalised log p_t at x, given s(t)."""
        return -0.5 * jnp.sum((x - self.displacement(x, noise)) ** 2)

    def score(self, x: Float[Array, " d"], noise: Float[Array, ""]) -> Float[Array, " d"]:
        """Its gradient, -(I - ∂ψ/∂x)ᵀ (x - ψ)."""
        displacement, pull_back = jax.vjp(lambda x: self.displacement(x, noise), x)
        residual = x - displacement
        return pull_back(residual)[0] - residual


def bounded_scores(
    score: Float[Array, "T d"],
) -> tuple[Float[Array, "T d"], Float[Array, ""]]:
    """The scores, none longer than 20 times the median length; the share that was shortened.

    One score that is wrong by orders of magnitude would otherwise own the squared loss.
    Tails as steep as a Gumbel density's stay below the limit.
    """
    length = jnp.linalg.norm(score, axis=1)
    limit = _LARGEST_SCORE * jnp.median(length)
    shortened = score * jnp.minimum(1.0, limit / jnp.maximum(length, limit))[:, None]
    return shortened, jnp.mean(length > limit)


def scaled(
    t: Float[Array, "*n"], variances: Float[Array, " d"] | None = None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(a, c) with which a x + c ε is x at time t, scaled to a² + c² = 1.

    Args:
        t: time.
        variances: the noise is added not to x but to x * sqrt(variances), and the sum is
            scaled back to unit variance; None for 1, which is the VP SDE on x itself.
    """
    m, s = signal(t), noise(t)
    if variances is None:
        return m, s
    total = jnp.sqrt(m**2 * variances + s**2)
    return m * jnp.sqrt(variances) / total, s / total


def target(objective: str, score: Array, epsilon: Array, a: Array, c: Array) -> Array:
    """What the gradient of the energy is regressed on, at a x + c ε.

    κ (-ε/c) + (1 - κ) score/a, whose mean given a x + c ε is the noised score for every κ:
    denoising score matching for κ = 1, target score matching for κ = 0, and with κ = c² the
    combination of Trojan et al. (2024), equations 12 and 13. That one is best for
    x ~ N(0, I) and, unlike its parts, of bounded variance: ε/c explodes at t = 0 and
    score/a at t = 1.

    Args:
        objective: "combined", "dsm" or "tsm".
        score: gradient (d,) of the log density of x, at x.
        epsilon: the noise (d,).
        a: how much is left of x.
        c: and how much noise was added, a² + c² = 1.
    """
    if objective == "dsm":
        return -epsilon / c
    return score / a if objective == "tsm" else a * score - c * epsilon


def train(
    values: Float[Array, "T d"],
    score: Float[Array, "T d"] | None,
    key: PRNGKeyArray,
    training: Training,
    objective: str = "combined",
    variances: Float[Array, " d"] | None = None,
) -> tuple[Energy, Float[Array, " points"]]:
    """Fit the energy's gradient to :func:`target` at noised draws, over all times alike.

    Args:
        values: draws x, best of mean 0 and covariance I.
        score: gradients g of the log density of x at them; None for "dsm".
        key: random key.
        training: updates, batch, learning rate.
        objective: "combined", "dsm" or "tsm".
        variances: as for :func:`scaled`.

    Returns:
        The trained network; its losses in the course of training.
    """
    values = values.astype(jnp.float32)
    score = jnp.zeros_like(values) if score is None else score.astype(jnp.float32)
    num_draws, dim = values.shape
    key_network, key_batches = jax.random.split(key)
    network = Energy(dim, key_network)
    rate = (
        training.learning_rate
        if training.average is None
        else optax.cosine_decay_schedule(training.learning_rate, training.num_updates)
    )
    optimizer = optax.adam(rate)

    def residual(network: Energy, row: Array, t: Array, epsilon: Array) -> Array:
        x, g = values[row], score[row]
        a, c = scaled(t, variances)
        found = network.score(a * x + c * epsilon, noise(t))
        return found - target(objective, g, epsilon, a, c)

    def loss(network: Energy, batch: tuple[Array, Array, Array]) -> Array:
        residuals = jax.vmap(residual, (None, 0, 0, 0))(network, *batch)
        return jnp.mean(jnp.sum(residuals**2, axis=1))

    def update(carry: tuple, batch: tuple[Array, Array, Array]) -> tuple[tuple, Array]:
        network, state, average = carry
        value, gradient = jax.value_and_grad(loss)(network, batch)
        changes, state = optimizer.update(gradient, state)
        network = optax.apply_updates(network, changes)
        if training.average is not None:
            average = optax.incremental_update(network, average, 1 - training.average)
        return (network, state, average), value

    def several_updates(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, Array]:
        # Random numbers for many batches at once: a fifth faster than batch by batch.
        key_rows, key_times, key_noise = jax.random.split(key, 3)
        shape = (_UPDATES_AT_ONCE, training.batch_size)
        rows = jax.random.randint(key_rows, shape, 0, num_draws, jnp.int32)
        times = jax.random.uniform(key_times, shape, jnp.float32, EARLIEST, 1 - EARLIEST)
        epsilon = jax.random.normal(key_noise, (*shape, dim), jnp.float32)
        carry, losses = jax.lax.scan(update, carry, (rows, times, epsilon))
        return carry, jnp.mean(losses)

    keys = jax.random.split(key_batches, training.num_updates // _UPDATES_AT_ONCE)
    carry = (network, optimizer.init(network), network)
    (network, _, average), losses = jax.lax.scan(several_updates, carry, keys)
    return network if training.average is None else average, in_stretches(losses)
