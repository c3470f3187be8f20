"""The shipped problems: the laws of their data, and a likelihood that is exact in its tails."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_expit

from dncbench import posterior as posterior_module
from dncbench.errors import DataError
from dncbench.posterior import full_posterior, subposteriors
from dncbench.precision import derive_key
from dncbench.problem import Data, Split, load_data
from dncbench.problems._logistic import bernoulli_log_likelihood
from dncbench.problems.logistic_tall import LogisticTall
from dncbench.problems.spambase import SpambaseTwin
from dncbench.problems.toy_logistic import ToyLogistic

FALSE_ALARM = 1e-4
NUM_FREQUENCIES = 54

LOGITS = np.concatenate(
    [[0.0, 1e-300, -1e-300, 700.0, -700.0, 36.7, -36.7], np.linspace(-700, 700, 101)]
)


# ---------------------------------------------------------------- likelihood


def _of_a_million(logit, label):
    """LogisticTall's own program for the same function."""
    theta = jnp.zeros(5).at[0].set(logit)
    return LogisticTall().log_likelihood(theta, {"x": jnp.eye(5)[0], "y": label})


likelihoods = pytest.mark.parametrize("likelihood", [bernoulli_log_likelihood, _of_a_million])


@likelihoods
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_log_likelihood_is_exact_for_every_logit(label: float, likelihood) -> None:
    values = jax.vmap(likelihood, (0, None))(jnp.asarray(LOGITS), jnp.asarray(label))
    expected = log_expit(LOGITS if label else -LOGITS)
    # log(1 + exp(-|x|)) to 1e-16, and the rounding error of a difference of numbers near x.
    error = np.abs(np.asarray(values) - expected)
    assert np.all(error <= 2.3e-16 * np.maximum(1.0, np.abs(LOGITS)))


@likelihoods
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_its_gradient_is_exact_for_every_logit(label: float, likelihood) -> None:
    gradient = jax.grad(likelihood)
    values = jax.vmap(gradient, (0, None))(jnp.asarray(LOGITS), jnp.asarray(label))
    np.testing.assert_allclose(values, label - expit(LOGITS), rtol=0, atol=3e-16)


@likelihoods
def test_its_curvature_is_exact_for_every_logit(likelihood) -> None:
    curvature = jax.grad(jax.grad(likelihood))
    values = jax.vmap(curvature, (0, None))(jnp.asarray(LOGITS), jnp.asarray(1.0))
    np.testing.assert_allclose(values, -expit(LOGITS) * expit(-LOGITS), rtol=0, atol=3e-16)


# ---------------------------------------------------------------- toy-logistic


@pytest.fixture(scope="module")
def toy() -> tuple[ToyLogistic, Data]:
    problem = ToyLogistic()
    return problem, load_data(problem, derive_key(0, "toy-logistic", "data"))


def test_toy_covariates(toy) -> None:
    x = np.asarray(toy[1].train["x"])
    assert x.shape == (1000, 2)
    np.testing.assert_array_equal(x[:, 0], 1.0)
    assert stats.kstest(x[:, 1], stats.norm(0.5, 1).cdf).pvalue > FALSE_ALARM


def test_toy_labels(toy) -> None:
    x, y = (np.asarray(toy[1].train[name]) for name in ("x", "y"))
    assert set(np.unique(y)) == {0.0, 1.0}
    # Given x, the score of the true coefficients is N(0, Xᵀ W X) to first order.
    p = expit(x @ [-3.0, -3.0])
    score, information = x.T @ (y - p), x.T @ (x * (p * (1 - p))[:, None])
    assert score @ np.linalg.solve(information, score) < stats.chi2.isf(FALSE_ALARM, 2)
    # About one in ten: E expit(-3 - 3x) = 0.107, standard error sqrt(0.107 x 0.893 / 1000).
    grid = np.linspace(-9, 10, 20_001)
    rate = np.trapezoid(expit(-3 - 3 * grid) * stats.norm.pdf(grid, 0.5), grid)
    assert rate == pytest.approx(0.1, abs=0.02)
    error = np.sqrt(rate * (1 - rate) / 1000)
    assert abs(y.mean() - rate) < stats.norm.isf(FALSE_ALARM / 2) * error


def test_toy_shards_use_all_rows(toy) -> None:
    problem, data = toy
    split = problem.split(data, "random", derive_key(0, "toy-logistic", "random-0"))
    densities = subposteriors(problem, data, split)
    sizes = np.asarray(densities.mask.sum(1)).astype(int)
    assert len(sizes) == 15
    assert set(sizes) == {66, 67}
    assert sizes.sum() == 1000


def test_toy_prior(toy) -> None:
    theta = jnp.array([1.2, -3.4])
    gap = toy[0].log_prior(theta) - toy[0].log_prior(jnp.zeros(2))
    expected = stats.norm(0, np.sqrt(5)).logpdf([1.2, -3.4]) - stats.norm(0, np.sqrt(5)).logpdf(0)
    assert float(gap) == pytest.approx(expected.sum(), rel=1e-12)


# ---------------------------------------------------------------- spambase-twin


@pytest.fixture(scope="module")
def twin() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariates, labels, and the parameters that the labels were drawn with."""
    problem = SpambaseTwin()
    key = derive_key(0, "spambase-twin", "data")
    data = load_data(problem, key).train
    truth = problem.known_parameters(jax.random.split(key, 3)[1], data["x"])
    return np.asarray(data["x"]), np.asarray(data["y"]), np.asarray(truth)


def test_twin_shape(twin) -> None:
    x, y, truth = twin
    assert x.shape == (4601, 58)
    assert y.shape == (4601,)
    assert truth.shape == (58,)
    np.testing.assert_array_equal(x[:, 0], 1.0)
    assert set(np.unique(y)) == {0.0, 1.0}


def test_twin_columns_are_zero_inflated(twin) -> None:
    zeros = np.mean(twin[0][:, 1:] == 0, axis=0)
    # The rates lie in [0.5, 0.97]; a column's standard error is at most sqrt(1/4/4601).
    reach = stats.norm.isf(FALSE_ALARM / NUM_FREQUENCIES) * np.sqrt(0.25 / 4601)
    assert zeros[:NUM_FREQUENCIES].min() > 0.5 - reach
    assert zeros[:NUM_FREQUENCIES].max() < 0.97 + reach
    assert np.ptp(zeros[:NUM_FREQUENCIES]) > 0.3
    np.testing.assert_array_equal(zeros[NUM_FREQUENCIES:], 0.0)


def test_twin_columns_are_log_normal_where_not_zero(twin) -> None:
    for column in twin[0][:, 1:].T:
        logs = np.log(column[column > 0])
        # Location unknown, scale 1: the variance against its χ² law.
        ratio = logs.var(ddof=1) * (len(logs) - 1)
        law = stats.chi2(len(logs) - 1)
        assert law.ppf(FALSE_ALARM / 114) < ratio < law.isf(FALSE_ALARM / 114)
        assert stats.kstest(logs, stats.norm(logs.mean(), 1).cdf).pvalue > FALSE_ALARM / 57


def test_twin_positive_rate_is_spambases(twin) -> None:
    x, y, truth = twin
    p = expit(x @ truth)
    assert p.sum() == pytest.approx(1813, rel=1e-9)
    error = np.sqrt(np.sum(p * (1 - p)))
    assert abs(y.sum() - 1813) < stats.norm.isf(FALSE_ALARM / 2) * error


def test_twin_parameters_are_those_of_its_labels(twin) -> None:
    x, y, truth = twin
    p = expit(x @ truth)
    score, information = x.T @ (y - p), x.T @ (x * (p * (1 - p))[:, None])
    assert score @ np.linalg.solve(information, score) < stats.chi2.isf(FALSE_ALARM, 58)
    # And of no others: with the slopes halved, the same statistic is far off.
    p = expit(x @ (truth * np.r_[1.0, np.full(57, 0.5)]))
    score = x.T @ (y - p)
    assert score @ np.linalg.solve(information, score) > 10 * stats.chi2.isf(FALSE_ALARM, 58)


# ---------------------------------------------------------------- many observations


@pytest.mark.parametrize("shard_sizes", [(700,), (300, 333, 67)])
def test_blocks_sum_to_the_same_density(monkeypatch, shard_sizes: tuple[int, ...]) -> None:
    problem = LogisticTall(num_shards=len(shard_sizes), num_observations=sum(shard_sizes))
    data = load_data(problem, derive_key(0, "tall", "data"))
    split = Split(np.repeat(np.arange(len(shard_sizes)), shard_sizes), len(shard_sizes))
    eta = jax.random.normal(jax.random.key(1), (3, problem.dim))

    def read() -> list[np.ndarray]:
        stack = subposteriors(problem, data, split)
        each = eqx.filter_vmap(
            lambda density, point: (
                density(point),
                jax.grad(density)(point),
                jax.hessian(density)(point),
            ),
            in_axes=(eqx.if_array(0), None),
        )
        return [np.stack(parts) for parts in zip(*(each(stack, one) for one in eta), strict=True)]

    at_once = read()
    monkeypatch.setattr(posterior_module, "UNBLOCKED", 10)
    monkeypatch.setattr(posterior_module, "BLOCK", 64)
    for blocked, direct in zip(read(), at_once, strict=True):
        # Sums of 700 terms in another order.
        np.testing.assert_allclose(blocked, direct, rtol=1e-12, atol=1e-10)


def test_rows_that_no_block_would_count_are_refused(monkeypatch) -> None:
    problem = LogisticTall(num_shards=1, num_observations=200)
    density = full_posterior(problem, load_data(problem, derive_key(0, "tall", "data")))
    one = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, density)
    monkeypatch.setattr(posterior_module, "UNBLOCKED", 10)
    monkeypatch.setattr(posterior_module, "BLOCK", 64)
    with pytest.raises(DataError, match="200 rows are not a whole number of blocks of 64"):
        one(jnp.zeros(problem.dim))
