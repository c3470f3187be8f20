"""What every registered merge method does with draws that are not Gaussian, or not in order.

The other contracts hold methods to Gaussian shards; these to skewed ones, to heavy tails,
to too few draws and to a corrupted score. All shards have the shapes of that file, so that a
method's programs are compiled once for both.
"""

import functools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from dncbench.contracts.gaussian_shards import product_of_gaussians
from dncbench.contracts.test_method_contract import (
    ACCURATE,
    CONTROLS,
    DIM,
    FEW_ASKED,
    FEW_GIVEN,
    METHODS,
    NUM_DRAWS,
    NUM_SHARDS,
    SMALL,
    is_oracle,
    run,
)
from dncbench.errors import DrawsError
from dncbench.merging.run import MergeResult
from dncbench.method import Shard
from dncbench.metrics.discrepancy import mahalanobis
from dncbench.metrics.sample import Sample

ANY_SHARDS = [name for name, method in METHODS.items() if not is_oracle(method)]
"""The oracle has no shards: it returns the truth."""


def needs(name: str, *what: str) -> bool:
    """Whether a method needs all of these."""
    return set(what) <= set(METHODS[name].needs)


def fits_densities(name: str) -> bool:
    """Whether a method uses log densities or scores, and means to come closer by them."""
    return name not in CONTROLS and (needs(name, "log_density") or needs(name, "score"))


class LogGamma(eqx.Module):
    """Log density of Rᵀθ = log Gamma(a, b), each coordinate by itself: skewed, on all of R^d."""

    a: Float[Array, " d"]
    b: Float[Array, " d"]
    turn: Float[Array, "d d"]

    def __call__(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        u = theta @ self.turn
        return self.a @ u - self.b @ jnp.exp(u)


class StudentT(eqx.Module):
    """Log density of Student's t with three degrees of freedom: no fourth moment."""

    centre: Float[Array, " d"]

    def __call__(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        squared = jnp.sum((theta - self.centre) ** 2)
        return -0.5 * (3.0 + len(theta)) * jnp.log1p(squared / 3.0)


def shards_of(density: eqx.Module, values: np.ndarray, inflated: np.ndarray) -> Shard:
    """Everything that a method may ask for, of stacked densities and their draws."""

    def evaluated(density: eqx.Module, draws: Array) -> tuple[Array, Array]:
        return jax.vmap(jax.value_and_grad(density))(draws)

    log_density, score = eqx.filter_vmap(evaluated)(density, jnp.asarray(values))
    ess = jnp.full(len(values), float(values.shape[1]))
    return Shard(jnp.asarray(values), log_density, score, jnp.asarray(inflated), density, ess)


@functools.cache
def skewed(num_draws: int = NUM_DRAWS, dim: int = DIM) -> tuple[Shard, np.ndarray]:
    """Log-Gamma shards with skewness about -0.8, and independent draws of their product.

    Densities multiply: exponents a and rates b add up.
    """
    rng = np.random.default_rng(21)
    a, b = rng.uniform(1.0, 2.0, (2, NUM_SHARDS, dim))
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    draws = lambda a, b: np.log(rng.gamma(a, size=(NUM_SHARDS, num_draws, dim)) / b)  # noqa: E731
    values = draws(a[:, None], b[:, None])
    inflated = draws(NUM_SHARDS * a[:, None], NUM_SHARDS * b[:, None])
    exact = draws(a.sum(0), b.sum(0)).reshape(-1, dim)
    density = LogGamma(*jax.tree.map(jnp.asarray, (a, b, np.stack([turn] * NUM_SHARDS))))
    return shards_of(density, values @ turn.T, inflated @ turn.T), exact @ turn.T


@functools.cache
def heavy_tailed() -> Shard:
    """Shards of t(3) on a line. Their inflated densities, t(15) but for scale, have light tails."""
    rng = np.random.default_rng(22)
    centre = 0.3 * rng.standard_normal((NUM_SHARDS, 1))

    def draws(freedom: float) -> np.ndarray:
        chi = np.sqrt(rng.chisquare(freedom, (NUM_SHARDS, FEW_GIVEN, 1)))
        return rng.standard_normal((NUM_SHARDS, FEW_GIVEN, 1)) / chi

    # (1 + r²/3)^(-S (3 + 1)/2) = (1 + r²/3)^(-(f + 1)/2).
    freedom = NUM_SHARDS * 4.0 - 1.0
    values = centre[:, None] + np.sqrt(3.0) * draws(3.0)
    inflated = centre[:, None] + np.sqrt(3.0) * draws(freedom)
    return shards_of(StudentT(jnp.asarray(centre)), values, inflated)


@functools.cache
def merged_skewed(name: str) -> MergeResult:
    """With small settings, and in one dimension, where no law asks for accuracy."""
    if fits_densities(name):
        return run(ACCURATE[name], skewed()[0])
    return run(SMALL[name], skewed(FEW_GIVEN, 1)[0], FEW_ASKED)


@functools.cache
def merged_by_gaussians() -> np.ndarray:
    """The product of the shards' Gaussian approximations, the merge that others must beat."""
    values = np.asarray(skewed()[0].values)
    return product_of_gaussians(np.random.default_rng(23), values, NUM_DRAWS)


@pytest.mark.parametrize("name", ANY_SHARDS)
def test_skewed_shards_give_finite_draws(name: str) -> None:
    result = merged_skewed(name)
    assert np.isfinite(result.draws).all()
    assert np.all(result.draws.std(0) > 0)


@pytest.mark.parametrize("name", [name for name in ANY_SHARDS if fits_densities(name)])
def test_fitted_densities_halve_the_error_of_gaussians(name: str) -> None:
    """In fact they read 0.02 to 0.06, exact draws 0.01 to 0.03, and the Gaussians 0.73."""
    truth = Sample(skewed()[1], NUM_SHARDS * NUM_DRAWS)
    result = merged_skewed(name)
    figures = [
        mahalanobis(Sample(*sample), truth).value
        for sample in ((result.draws, result.info["ess"]), (merged_by_gaussians(), NUM_DRAWS))
    ]
    assert figures[0] < 0.5 * figures[1]


@pytest.mark.parametrize("name", ANY_SHARDS)
def test_heavy_tails_are_refused_or_survived(name: str) -> None:
    """And where the method relies on moments of such draws, the reader is told."""
    try:
        result = run(SMALL[name], heavy_tailed(), FEW_ASKED)
    except DrawsError as refused:
        if not re.search(r"shard \d", str(refused)):  # not what was given: what was returned
            raise
        return
    assert np.isfinite(result.draws).all()
    # Without a covariance there is none to be uncertain.
    if needs(name, "draws", "covariance"):
        assert any("heavy tails" in warning for warning in result.info["warnings"])


@pytest.mark.parametrize("name", [name for name in ANY_SHARDS if needs(name, "covariance")])
@pytest.mark.parametrize("num_draws", [1, DIM])
def test_no_more_draws_than_dimensions_are_refused(name: str, num_draws: int) -> None:
    """The shard is named. Methods without covariances (average, pooled) can go on."""
    shards = skewed(FEW_GIVEN)[0]
    few = jax.tree.map(lambda leaf: leaf[:, :num_draws], (shards.values, shards.inflated))
    log_density, score = shards.log_density[:, :num_draws], shards.score[:, :num_draws]
    given = Shard(few[0], log_density, score, few[1], shards.density, shards.ess)
    with pytest.raises(DrawsError, match=f"shard 0 has {num_draws} draws in {DIM} dimensions"):
        run(SMALL[name], given)


@pytest.mark.parametrize("name", [name for name in ANY_SHARDS if needs(name, "score")])
def test_a_corrupted_score_is_reported(name: str) -> None:
    shards = skewed(FEW_GIVEN, 1)[0]
    score = shards.score.at[2, 100].set(1e3)
    spoilt = eqx.tree_at(lambda shards: shards.score, shards, score)
    result = run(SMALL[name], spoilt, FEW_ASKED)
    assert np.isfinite(result.draws).all()
    assert any("shard 2" in warning and "score" in warning for warning in result.info["warnings"])
