"""The flow merge against closed-form products, and its densities and losses against NumPy."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dncbench.contracts.gaussian_shards import make_shards, product_of_gaussians
from dncbench.errors import UnknownNameError
from dncbench.method import Shard
from dncbench.methods.flow import Flow, _Product

KEY = jax.random.key(3)
FALSE_ALARM = 1e-4

# The same settings and shapes again and again: every product in two dimensions shares them,
# and with them one compiled program.
AFFINE = Flow(steps=800, layers=4, width=8)
NUM_SHARDS, NUM_DRAWS = 4, 4000


@functools.cache
def _programs(method):
    fit = jax.jit(jax.vmap(method.fit))
    return fit, jax.jit(method.merge, static_argnums=2)


def fitted(method, values, score=None):
    """The stacked messages of shards (S, T, d)."""
    values = jnp.asarray(values)
    ess = jnp.full(len(values), float(values.shape[1]))
    score = None if score is None else jnp.asarray(score)
    keys = jax.random.split(KEY, len(values))
    return _programs(method)[0](Shard(values=values, score=score, ess=ess), keys)


def merged(method, messages, num_draws=4000):
    draws, info = _programs(method)[1](messages, KEY, num_draws)
    return np.asarray(draws), info


# ---------------------------------------------------------------- one flow


@pytest.mark.parametrize(("transformer", "dim"), [("affine", 1), ("affine", 5), ("spline", 2)])
def test_an_untrained_flow_is_the_standard_normal(transformer: str, dim: int) -> None:
    x = np.random.default_rng(0).normal(0, 2, (50, dim)).astype(np.float32)
    method = Flow(transformer=transformer, layers=2)  # an even number of turns

    @jax.jit
    def untrained(x):
        flow = method.untrained(KEY, dim)
        return (
            flow.log_prob(x),
            jax.vmap(flow.bijection.transform)(x),
            eqx.filter(flow, eqx.is_inexact_array),
        )

    density, forwards, parameters = untrained(x)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {np.dtype("float32")}
    # A few roundings of float32, in the spline's rational functions more than in the affine.
    np.testing.assert_allclose(density, stats.norm.logpdf(x).sum(1), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(forwards, x, atol=2e-5)
    assert forwards.dtype == np.float32


def random_parameters(method: Flow, dim: int, size: float):
    """Parameters, N(0, size²), of a flow that is not the identity."""
    # Of the untrained flow only the shapes are wanted, and nothing is compiled for those.
    flow = eqx.filter_eval_shape(method.untrained, KEY, dim)
    is_float = lambda leaf: jnp.issubdtype(getattr(leaf, "dtype", int), jnp.floating)  # noqa: E731
    rng = np.random.default_rng(9)
    draw = lambda leaf: (size * rng.normal(size=leaf.shape)).astype(np.float32)  # noqa: E731
    return jax.tree.map(draw, eqx.filter(flow, is_float))


@functools.cache
def _density(method: Flow):
    return jax.jit(lambda parameters, x: method.trained(parameters, x.shape[1]).log_prob(x))


def log_prob(method: Flow, parameters, points: np.ndarray) -> np.ndarray:
    """flowjax's own log density of a trained flow."""
    return np.asarray(_density(method)(parameters, jnp.asarray(points, jnp.float32)))


@pytest.mark.parametrize(("transformer", "extent"), [("affine", 30), ("spline", 10)])
def test_a_flow_is_normalised_in_two_dimensions(transformer: str, extent: float) -> None:
    method = Flow(transformer=transformer, layers=2, width=8)
    parameters = random_parameters(method, 2, 0.3)
    grid = np.linspace(-extent, extent, 401)
    points = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    log_density = log_prob(method, parameters, points)
    # It is no Gaussian: the check is worth something.
    gaussian = stats.norm.logpdf(points).sum(1)
    assert np.max(np.abs(log_density - gaussian)[np.linalg.norm(points, axis=1) < 2]) > 0.3
    # A spline's density is only continuous, so the trapezoidal error is of order step².
    assert np.sum(np.exp(log_density)) * (grid[1] - grid[0]) ** 2 == pytest.approx(1, abs=2e-3)


def test_later_coordinates_follow_all_earlier_ones() -> None:
    # With two layers turned against each other, each coordinate depends on every other,
    # also where the width asked for is far below the dimension.
    method = Flow(layers=2, width=1)
    parameters = random_parameters(method, 7, 0.5)
    into_noise = lambda p, x: method.trained(p, 7).bijection.inverse(x)  # noqa: E731
    point = jnp.arange(7, dtype=jnp.float32) / 7
    jacobian = jax.jit(jax.jacobian(into_noise, argnums=1))(parameters, point)
    assert np.all(np.abs(jacobian) > 0)


# ---------------------------------------------------------------- the loss


def test_the_loss_of_the_identity_is_known() -> None:
    rng = np.random.default_rng(1)
    x, scores = rng.normal(size=(2, 200, 3))
    surprise = -stats.norm.logpdf(x).sum(1).mean()
    misfit = np.mean(np.sum((-x - scores) ** 2, axis=1))

    @jax.jit
    def losses(x, scores):
        plain, weighted = Flow(layers=1), Flow(layers=1, score_weight=0.3)
        flow = plain.untrained(KEY, 3)
        return plain.loss(flow, x), weighted.loss(flow, x, scores)

    plain, weighted = losses(jnp.asarray(x, jnp.float32), jnp.asarray(scores, jnp.float32))
    np.testing.assert_allclose(plain, surprise, rtol=1e-5)
    np.testing.assert_allclose(weighted, surprise + 0.3 * misfit, rtol=1e-5)


def test_the_gradient_of_the_score_term() -> None:
    method = Flow(score_weight=0.7, layers=2, width=6)
    # In float64, where central differences of step 1e-5 are good to about 1e-8.
    parameters = jax.tree.map(lambda a: a.astype(float), random_parameters(method, 2, 0.4))
    rng = np.random.default_rng(2)
    x, scores = jnp.asarray(rng.normal(size=(2, 20, 2)))
    directions = jax.tree.map(lambda a: rng.normal(size=a.shape), parameters)
    steps = np.array([0.0, 1e-5, -1e-5])
    moved = jax.tree.map(lambda p, u: p + np.multiply.outer(steps, u), parameters, directions)
    loss = lambda p: method.loss(method.trained(p, 2), x, scores)  # noqa: E731
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(moved)
    along = sum(
        np.vdot(slope[0], direction)
        for slope, direction in zip(
            jax.tree.leaves(slopes), jax.tree.leaves(directions), strict=True
        )
    )
    np.testing.assert_allclose(along, (values[1] - values[2]) / 2e-5, rtol=1e-6)


# ---------------------------------------------------------------- messages


@functools.cache
def _served(method: Flow):
    @jax.jit
    def run(messages, theta):
        product = _Product(method, messages)
        by_shard = jax.vmap(product.log_densities)(product.space.whitened(theta))
        return by_shard - jnp.linalg.slogdet(product.space.root)[1]

    return run


def served(messages, theta: np.ndarray) -> np.ndarray:
    """Log densities (N, S) at θ, as the server evaluates them."""
    return np.asarray(_served(AFFINE)(messages, theta))


def test_the_server_evaluates_what_the_shards_trained() -> None:
    rng = np.random.default_rng(4)
    values = rng.gamma(2.0, [100.0, 0.01], (NUM_SHARDS, NUM_DRAWS, 2)) + rng.normal(
        5.0, 0.02, (NUM_SHARDS, 1, 1)
    )
    messages = fitted(AFFINE, values)
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(messages))
    assert {leaf.dtype for leaf in jax.tree.leaves(messages.parameters)} == {np.dtype("float32")}
    theta = values[:, :40].reshape(-1, 2)
    by_shard = served(messages, theta)
    for s, draws in enumerate(values):
        mean, covariance = draws.mean(0), np.cov(draws.T)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        inverse_root = (vectors / np.sqrt(eigenvalues)) @ vectors.T
        furthest = np.linalg.norm((draws - mean) @ inverse_root, axis=1).max()
        np.testing.assert_allclose(messages.radius[s], furthest, rtol=1e-7)
        parameters = jax.tree.map(lambda leaf: leaf[s], messages.parameters)  # noqa: B023
        x = (theta - mean) @ inverse_root
        expected = log_prob(AFFINE, parameters, x) + np.linalg.slogdet(inverse_root)[1]
        gaussian = stats.multivariate_normal.logpdf(theta, mean, covariance)
        assert np.abs(expected - gaussian).max() > 0.5  # training has moved it
        # Single precision of values up to some tens, by two ways to x.
        np.testing.assert_allclose(by_shard[:, s], expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- products


def log_gamma(rng, shapes, rates, num_draws, dim):
    """Draws of the logarithms of Gamma variables, (S, num_draws, d), and their scores.

    Their densities are proportional to exp(a θ - b e^θ), so their product is that of
    a sum of shapes and a sum of rates: closed form, skewed, and on all of R.
    """
    shapes, rates = (np.asarray(a)[:, None, None] for a in (shapes, rates))
    values = np.log(rng.gamma(shapes, 1 / rates, (len(shapes), num_draws, dim)))
    return values, shapes - rates * np.exp(values)


SHAPES, RATES = [0.6, 0.8, 1.0, 1.2], [0.5, 1.5, 0.7, 1.3]


def misfit(draws: np.ndarray) -> float:
    """Largest Kolmogorov distance of a coordinate from the product of the log-Gammas."""
    exact = stats.loggamma(sum(SHAPES), loc=-np.log(sum(RATES)))
    return max(stats.kstest(column, exact.cdf).statistic for column in draws.T)


@pytest.mark.parametrize(
    ("method", "dim"),
    [
        (AFFINE, 2),
        (dataclasses.replace(AFFINE, score_weight=0.3), 2),
        (Flow(steps=400, layers=1, transformer="spline", sampler="importance"), 1),
    ],
    ids=["affine", "scores", "spline"],
)
def test_skewed_products_are_closer_than_gaussian_ones(method: Flow, dim: int) -> None:
    values, score = log_gamma(np.random.default_rng(6), SHAPES, RATES, NUM_DRAWS, dim)
    gaussian = product_of_gaussians(np.random.default_rng(5), values, NUM_DRAWS)
    messages = fitted(method, values, score if method.score_weight else None)
    draws, _ = merged(AFFINE if dim == 2 else method, messages)
    # The Gaussian product is 0.31 off. Some 0.02 is the Kolmogorov distance of 3000 exact
    # draws; the flows' own error adds as much again.
    assert misfit(gaussian) > 0.25
    assert misfit(draws) < 0.25 * misfit(gaussian)


def test_one_dimensional_affine_flows_are_gaussians_and_say_so() -> None:
    values, _ = log_gamma(np.random.default_rng(7), SHAPES, RATES, NUM_DRAWS, 1)
    method = Flow(steps=200, layers=1, sampler="importance")
    draws, info = merged(method, fitted(method, values))
    gaussian = product_of_gaussians(np.random.default_rng(5), values, NUM_DRAWS)
    assert stats.ks_2samp(draws[:, 0], gaussian[:, 0]).pvalue > FALSE_ALARM
    sentences = [sentence for sentence, flags in info["warnings"].items() if np.any(flags)]
    assert sentences == ["affine layers fit a Gaussian in one dimension: set transformer=spline"]


def test_importance_and_hmc_agree_where_shards_overlap() -> None:
    rng = np.random.default_rng(8)
    messages = fitted(AFFINE, make_shards(rng, NUM_SHARDS, 2).draws(rng, NUM_DRAWS))
    hmc, _ = merged(AFFINE, messages)
    importance, info = merged(dataclasses.replace(AFFINE, sampler="importance"), messages)
    assert info["weight_ess"] > 5000  # of 20 000 proposals
    # Both sample the same flows, so the fit's error cancels.
    for column in range(2):
        result = stats.ks_2samp(hmc[:, column], importance[:, column])
        assert result.pvalue > FALSE_ALARM / 2
    assert not any(np.any(flags) for flags in info["warnings"].values())


def test_importance_collapses_where_shards_do_not_overlap() -> None:
    rng = np.random.default_rng(10)
    centres = 12.0 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    values = rng.normal(size=(NUM_SHARDS, NUM_DRAWS, 2)) + centres[:, None]
    _, info = merged(dataclasses.replace(AFFINE, sampler="importance"), fitted(AFFINE, values))
    assert 0 < info["ess"] < 10  # below 100 the framework marks the cell unreliable
    (extrapolated,) = [flags for text, flags in info["warnings"].items() if "further" in text]
    assert np.sum(extrapolated) >= NUM_SHARDS - 1  # all but the one whose proposal won


def test_modes_are_bridged_and_their_chains_disagree() -> None:
    # A known failure. Two modes of equal mass, 14 standard deviations apart: a flow is a
    # continuous map of one Gaussian, so it leaves mass between them where there is none.
    rng = np.random.default_rng(12)
    signs = rng.choice([-1, 1], (NUM_SHARDS, NUM_DRAWS, 1))
    messages = fitted(AFFINE, rng.normal(size=(NUM_SHARDS, NUM_DRAWS, 2)) + 5 * signs)
    _, info = merged(AFFINE, messages)
    # At the centre, so many times over that no program is compiled for the shape.
    between = served(messages, np.zeros((40 * NUM_SHARDS, 2)))[0]
    truth = 2 * stats.norm.logpdf(0, 5)  # -26.8; the flows say -4 to -11
    assert np.all(between > truth + 10)
    assert info["max_rhat"] > 1.05  # where the framework marks the cell unreliable


# ---------------------------------------------------------------- settings


def test_scores_are_needed_only_where_they_have_a_weight() -> None:
    assert Flow().needs == {"draws", "covariance"}
    assert Flow(score_weight=0.1).needs == {"draws", "covariance", "score"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transformer": "spine"}, "did you mean.*spline"),
        ({"sampler": "hcm"}, "known: hmc, importance"),
        ({"layers": 0}, "layers=0; at least 1"),
        ({"score_weight": -1.0}, "must not be negative"),
        ({"learning_rate": 0.0}, "the second positive"),
    ],
)
def test_impossible_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        Flow(**settings)
