"""Score regression against closed forms, and where it is known to fail."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma

import dncbench
from dncbench.errors import UnknownNameError
from dncbench.method import Shard
from dncbench.methods._ridge_energy import FAMILIES, initial, misfit
from dncbench.methods.score_regression import ScoreRegression

KEY = jax.random.key(4)
NUM_DRAWS = 4000


def rotated(angle: float = 0.7) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def log_gammas(num_shards: int = 6) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Rotated pairs of logs of Gamma variates, whose product is such a pair again.

    A shard's density is exp(a·u - b·e^u), u = Rᵀθ; the product has Σ a and Σ b, so that u has
    mean ψ(Σ a) - log Σ b and variance ψ'(Σ a). The skewness of a shard is near -1.
    """
    rng = np.random.default_rng(6)
    shapes = rng.uniform(0.8, 1.6, (num_shards, 2))
    rates = rng.uniform(0.5, 2.0, (num_shards, 2))
    u = np.log(rng.gamma(shapes[:, None], 1 / rates[:, None], (num_shards, NUM_DRAWS, 2)))
    score = shapes[:, None] - rates[:, None] * np.exp(u)
    parts = {"values": u @ rotated().T, "score": score @ rotated().T}
    total = shapes.sum(0)
    mean = digamma(total) - np.log(rates.sum(0))
    return parts, rotated() @ mean, rotated() @ np.diag(polygamma(1, total)) @ rotated().T


def mahalanobis(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    shift = draws.mean(0) - mean
    return float(np.sqrt(shift @ np.linalg.solve(covariance, shift)))


# ---------------------------------------------------------------- the family


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_gradient(family: str) -> None:
    energy = initial(KEY, 3, 16, family)
    noise = lambda leaf: leaf + 0.3 * jax.random.normal(KEY, leaf.shape, leaf.dtype)  # noqa: E731
    arrays, static = eqx.partition(energy, eqx.is_inexact_array)
    energy = eqx.combine(jax.tree.map(noise, arrays), static)
    x = jax.random.normal(KEY, (5, 3), jnp.float32)
    expected = jax.vmap(jax.grad(energy))(x)
    np.testing.assert_allclose(energy.scores(x), expected, rtol=2e-4, atol=2e-5)


def test_the_concave_family_is_concave() -> None:
    energy = initial(KEY, 3, 16, "concave")
    x = 3.0 * jax.random.normal(KEY, (20, 3), jnp.float32)
    curvature = jax.vmap(jax.hessian(energy))(x)
    assert np.linalg.eigvalsh(curvature).max() < 0


def test_one_wrong_score_counts_linearly() -> None:
    energy = initial(KEY, 2, 8, "concave")
    x = jax.random.normal(KEY, (100, 2), jnp.float32)
    good = energy.scores(x)
    assert misfit(energy, x, good) < 1e-10
    # Beyond the limit c the loss is 2 c |e| - c²: a tenfold error costs about tenfold.
    losses = [misfit(energy, x, good.at[3, 0].add(size)) for size in (1e3, 1e4)]
    assert losses[1] / losses[0] == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sum_in_one_place_is_the_sum_of_the_shards(family: str) -> None:
    parts, *_ = log_gammas(3)
    method = ScoreRegression(family=family, steps=5, ridges=8)
    shards = Shard(**jax.tree.map(jnp.asarray, parts))
    keys = jax.random.split(KEY, 3)
    messages = eqx.filter_jit(eqx.filter_vmap(method.fit))(shards, keys)
    space, total = method._summed(messages)
    z = jnp.array([[0.3, -0.4], [1.0, 2.0]])
    static = method._skeleton(KEY, 2)
    expected = np.zeros(2)
    for s in range(3):
        own = jax.tree.map(lambda leaf, s=s: leaf[s], messages)
        energy = eqx.combine(own.energy, static)
        expected += jax.vmap(energy)(own.shard.positions(space.original(z)))
    found = jax.vmap(total)(z.astype(jnp.float32))
    # Equal up to one constant.
    assert float(found[0] - found[1]) == pytest.approx(float(expected[0] - expected[1]), rel=1e-3)


# ---------------------------------------------------------------- merging


def test_skewed_shards_merge_to_their_product() -> None:
    parts, mean, covariance = log_gammas()
    result = dncbench.merge(method="score-regression[steps=4000]", num_draws=NUM_DRAWS, **parts)
    gaussian = dncbench.merge(parts["values"], "parametric", num_draws=NUM_DRAWS)
    # Independent draws of the product read sqrt(d / n) = 0.022; the fit may double it.
    assert mahalanobis(result.draws, mean, covariance) < 3 * np.sqrt(2 / NUM_DRAWS)
    assert mahalanobis(gaussian.draws, mean, covariance) > 0.5
    assert result.info["loss"] < 0.01
    assert result.info["warnings"] == []


def test_a_corrupted_score_hardly_moves_the_merge() -> None:
    parts, mean, covariance = log_gammas()
    parts["score"][2, 100] += 1e3
    result = dncbench.merge(method="score-regression[steps=4000]", num_draws=NUM_DRAWS, **parts)
    assert mahalanobis(result.draws, mean, covariance) < 3 * np.sqrt(2 / NUM_DRAWS)
    assert any("score row(s) far outside" in line for line in result.info["warnings"])


def bananas(num_shards: int = 4) -> dict[str, np.ndarray]:
    """θ₁ ~ N(0, S), θ₂ given θ₁ ~ N(θ₁², S/4): the product is the same with S = 1."""
    rng = np.random.default_rng(9)
    first = np.sqrt(num_shards) * rng.standard_normal((num_shards, NUM_DRAWS))
    spread = num_shards / 4
    second = first**2 + np.sqrt(spread) * rng.standard_normal(first.shape)
    pull = (second - first**2) / spread
    score = np.stack([-first / num_shards + 2 * first * pull, -pull], axis=-1)
    return {"values": np.stack([first, second], axis=-1), "score": score}


def test_a_banana_is_refused_by_the_concave_family_and_fitted_by_a_network() -> None:
    parts = bananas()
    mean, covariance = np.array([0.0, 1.0]), np.diag([1.0, 2.25])  # Var θ₂ = Var θ₁² + 1/4
    concave = dncbench.merge(method="score-regression[steps=2000]", num_draws=NUM_DRAWS, **parts)
    assert any("training loss" in line for line in concave.info["warnings"])
    network = dncbench.merge(
        method="score-regression[family=mlp,steps=2000,learning_rate=0.01]",
        num_draws=NUM_DRAWS,
        **parts,
    )
    assert network.info["loss"] < 0.2 * concave.info["loss"]
    assert mahalanobis(network.draws, mean, covariance) < 0.5 * mahalanobis(
        concave.draws, mean, covariance
    )


class LogGammas(eqx.Module):
    """The shards' own log densities, for a second round."""

    shapes: jax.Array
    rates: jax.Array

    def __call__(self, theta: jax.Array) -> jax.Array:
        u = jnp.asarray(rotated()).T @ theta
        return self.shapes @ u - self.rates @ jnp.exp(u)


def test_a_second_round_repairs_a_wrong_first() -> None:
    # Stored scores tilted by a constant shift the first round's product; the second asks the
    # densities themselves.
    parts, mean, covariance = log_gammas()
    parts["score"] += 0.3
    rng = np.random.default_rng(6)
    density = LogGammas(
        jnp.asarray(rng.uniform(0.8, 1.6, (6, 2))), jnp.asarray(rng.uniform(0.5, 2.0, (6, 2)))
    )
    settings = {"steps": 4000, "num_draws": NUM_DRAWS}
    first = dncbench.merge(method="score-regression", **settings, **parts)
    second = dncbench.merge(
        method="score-regression[rounds=2]", density=density, **settings, **parts
    )
    floor = np.sqrt(2 / NUM_DRAWS)
    assert mahalanobis(first.draws, mean, covariance) > 10 * floor
    # The surrogate is fitted at 2000 points.
    assert mahalanobis(second.draws, mean, covariance) < 3 * np.sqrt(2 / NUM_DRAWS + 2 / 2000)
    assert second.info["first_round_ess_share"] < 0.9
    assert second.bytes_communicated > first.bytes_communicated


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("family=convex", "did you mean concave"),
        ("rounds=3", "rounds=3 must be 1 or 2"),
        ("steps=0", "steps and learning_rate positive"),
    ],
)
def test_wrong_settings_are_named(settings: str, complaint: str) -> None:
    with pytest.raises(UnknownNameError, match=complaint):
        dncbench.merge(np.zeros((2, 5, 2)), f"score-regression[{settings}]")
