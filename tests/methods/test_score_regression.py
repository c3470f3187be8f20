"""Score regression against closed forms, and where it is known to fail."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, polygamma

import dncbench
from dncbench.contracts.gaussian_shards import product_of_gaussians
from dncbench.errors import UnknownNameError
from dncbench.methods._gaussian import whitening
from dncbench.methods._ridge_energy import FAMILIES, Energy, initial, misfit
from dncbench.methods.score_regression import ScoreRegression, _Message

KEY = jax.random.key(4)

# The same settings and shapes in all merges, and with them the same compiled programs.
NUM_SHARDS, NUM_DRAWS, STEPS = 4, 4000, 2000


def rotated(angle: float = 0.7) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def log_gammas() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Rotated pairs of logs of Gamma variates, whose product is such a pair again.

    A shard's density is exp(a·u - b·e^u), u = Rᵀθ; the product has Σ a and Σ b, so that u has
    mean ψ(Σ a) - log Σ b and variance ψ'(Σ a). The skewness of a shard is near -1.
    """
    rng = np.random.default_rng(6)
    shapes = rng.uniform(0.8, 1.6, (NUM_SHARDS, 2))
    rates = rng.uniform(0.5, 2.0, (NUM_SHARDS, 2))
    u = np.log(rng.gamma(shapes[:, None], 1 / rates[:, None], (NUM_SHARDS, NUM_DRAWS, 2)))
    score = shapes[:, None] - rates[:, None] * np.exp(u)
    parts = {"values": u @ rotated().T, "score": score @ rotated().T}
    total = shapes.sum(0)
    mean = digamma(total) - np.log(rates.sum(0))
    return parts, rotated() @ mean, rotated() @ np.diag(polygamma(1, total)) @ rotated().T


def mahalanobis(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    shift = draws.mean(0) - mean
    return float(np.sqrt(shift @ np.linalg.solve(covariance, shift)))


# ---------------------------------------------------------------- the family


def random_energy(dim: int, ridges: int, family: str, stack: tuple[int, ...] = ()) -> Energy:
    """One that training could end at: all parameters N(0, 0.3²), so none where it starts."""
    # Of the initial one only the shapes are wanted, and nothing is compiled for those.
    shapes = eqx.filter_eval_shape(initial, KEY, dim, ridges, family)
    rng = np.random.default_rng(1)

    def draw(leaf: object) -> object:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jnp.asarray(0.3 * rng.standard_normal((*stack, *leaf.shape)), leaf.dtype)

    return jax.tree.map(draw, shapes)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_gradient(family: str) -> None:
    energy = random_energy(3, 16, family)
    both = eqx.filter_jit(lambda energy, x: (energy.scores(x), jax.vmap(jax.grad(energy))(x)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    found, expected = both(energy, x)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_the_concave_family_is_concave() -> None:
    curvature = eqx.filter_jit(lambda energy, x: jax.vmap(jax.hessian(energy))(x))
    x = jnp.asarray(3.0 * np.random.default_rng(0).normal(size=(20, 3)), jnp.float32)
    assert np.linalg.eigvalsh(curvature(random_energy(3, 16, "concave"), x)).max() < 0


def test_one_wrong_score_counts_linearly() -> None:
    @eqx.filter_jit
    def losses(energy, x, errors):
        good = energy.scores(x)
        return jax.vmap(lambda error: misfit(energy, x, good.at[3, 0].add(error)))(errors)

    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    errors = np.array([0.0, 1e3, 1e4], np.float32)
    none, small, large = losses(random_energy(2, 8, "concave"), x, errors)
    assert none < 1e-10
    # Beyond the limit c the loss is 2 c |e| - c²: a tenfold error costs about tenfold.
    assert large / small == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sum_in_one_place_is_the_sum_of_the_shards(family: str) -> None:
    method = ScoreRegression(family=family, ridges=8)

    @eqx.filter_jit
    def both(energies, values, z):
        shards = jax.vmap(whitening)(values)
        arrays = eqx.filter(energies, eqx.is_inexact_array)
        unused = jnp.zeros(NUM_SHARDS), jnp.zeros((NUM_SHARDS, 1))
        space, total = method._summed(_Message(arrays, shards, *unused))
        theta = space.original(z)
        each = eqx.filter_vmap(lambda energy, own: jax.vmap(energy)(own.positions(theta)))
        return jax.vmap(total)(z.astype(jnp.float32)), jnp.sum(each(energies, shards), axis=0)

    z = np.array([[0.3, -0.4], [1.0, 2.0]])
    parts, *_ = log_gammas()
    found, expected = both(random_energy(2, 8, family, (NUM_SHARDS,)), parts["values"], z)
    # Equal up to one constant.
    assert float(found[0] - found[1]) == pytest.approx(float(expected[0] - expected[1]), rel=1e-3)


# ---------------------------------------------------------------- merging


def merged(parts: dict[str, np.ndarray], settings: str = "", **given) -> dncbench.MergeResult:
    method = f"score-regression[steps={STEPS}{settings}]"
    return dncbench.merge(method=method, num_draws=NUM_DRAWS, **parts, **given)


def test_skewed_shards_merge_to_their_product() -> None:
    parts, mean, covariance = log_gammas()
    result = merged(parts)
    gaussian = product_of_gaussians(np.random.default_rng(4), parts["values"], NUM_DRAWS)
    # Independent draws of the product read sqrt(d / n) = 0.022; the fit may double it. For
    # five keys 0.015 to 0.042, where the mean of the Gaussian product is 0.74 off.
    assert mahalanobis(result.draws, mean, covariance) < 3 * np.sqrt(2 / NUM_DRAWS)
    assert mahalanobis(gaussian, mean, covariance) > 0.5
    assert result.info["loss"] < 0.01
    assert result.info["warnings"] == []


def test_a_corrupted_score_hardly_moves_the_merge() -> None:
    parts, mean, covariance = log_gammas()
    parts["score"][2, 100] += 1e3
    result = merged(parts)
    assert mahalanobis(result.draws, mean, covariance) < 3 * np.sqrt(2 / NUM_DRAWS)
    assert any("score row(s) far outside" in line for line in result.info["warnings"])


def bananas() -> dict[str, np.ndarray]:
    """θ₁ ~ N(0, S), θ₂ given θ₁ ~ N(θ₁², S/4): the product is the same with S = 1."""
    rng = np.random.default_rng(9)
    first = np.sqrt(NUM_SHARDS) * rng.standard_normal((NUM_SHARDS, NUM_DRAWS))
    spread = NUM_SHARDS / 4
    second = first**2 + np.sqrt(spread) * rng.standard_normal(first.shape)
    pull = (second - first**2) / spread
    score = np.stack([-first / NUM_SHARDS + 2 * first * pull, -pull], axis=-1)
    return {"values": np.stack([first, second], axis=-1), "score": score}


def test_a_banana_is_refused_by_the_concave_family_and_fitted_by_a_network() -> None:
    # Their losses are about 12 and 0.2. The merged means tell little: the product is as wide as
    # the family's errors.
    parts = bananas()
    concave = merged(parts)
    assert any("training loss" in line for line in concave.info["warnings"])
    assert any("training loss above 1" in line for line in concave.info["unreliable"])
    network = merged(parts, ",family=mlp,learning_rate=0.01")
    assert network.info["unreliable"] == []
    assert network.info["loss"] < 0.2 * concave.info["loss"]


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
        jnp.asarray(rng.uniform(0.8, 1.6, (NUM_SHARDS, 2))),
        jnp.asarray(rng.uniform(0.5, 2.0, (NUM_SHARDS, 2))),
    )
    first = merged(parts)
    second = merged(parts, ",rounds=2", density=density)
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
