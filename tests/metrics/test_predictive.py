"""The held-out log predictive density: a Gaussian closed form, its error, what must not matter."""

import numpy as np
import pytest
from scipy import stats

from dncbench import registry
from dncbench.metrics.predictive import log_predictive
from dncbench.metrics.sample import Figure, Sample, read

FALSE_ALARM = 1e-3
NOISE, SPREAD = 1.0, 0.6  # sds of an observation given θ, and of θ
HELD_OUT = np.array([-1.3, -0.2, 0.1, 0.9, 2.4])
TRUE = -np.mean(stats.norm(0.5, np.hypot(NOISE, SPREAD)).logpdf(HELD_OUT))
"""y given θ ~ N(θ, NOISE²) and θ ~ N(0.5, SPREAD²): y ~ N(0.5, NOISE² + SPREAD²)."""


def sample(theta: np.ndarray, ess: float | None = None) -> Sample:
    predictions = stats.norm(theta[:, None], NOISE).logpdf(HELD_OUT)
    ess = float(len(theta)) if ess is None else ess
    return Sample(theta[:, None], ess, predictions=predictions)


def posterior(rng: np.random.Generator, num_draws: int) -> np.ndarray:
    return 0.5 + SPREAD * rng.standard_normal(num_draws)


REFERENCE = sample(posterior(np.random.default_rng(0), 100))


def test_one_draw_predicts_by_its_likelihood() -> None:
    theta = np.full(200, 0.7)
    figure = log_predictive(sample(theta), REFERENCE)
    expected = -np.mean(stats.norm(0.7, NOISE).logpdf(HELD_OUT))
    assert figure.value == pytest.approx(expected, rel=1e-12)
    assert figure.standard_error == pytest.approx(0.0, abs=1e-12)


def test_two_draws_predict_by_the_mean_of_their_densities() -> None:
    # Not by the mean of their log densities, nor by the density at their mean.
    theta = np.tile([-2.0, 3.0], 100)
    densities = [stats.norm(mean, NOISE).pdf(HELD_OUT) for mean in (-2.0, 3.0)]
    expected = -np.mean(np.log(np.mean(densities, axis=0)))
    assert log_predictive(sample(theta), REFERENCE).value == pytest.approx(expected, rel=1e-12)


def test_many_draws_have_the_closed_form_within_the_stated_error() -> None:
    figure = log_predictive(sample(posterior(np.random.default_rng(1), 50_000)), REFERENCE)
    # The log of a mean is biased by half its squared error, which is far below the error.
    assert abs(figure.value - TRUE) < stats.norm.isf(FALSE_ALARM / 2) * figure.standard_error
    assert 0 < figure.standard_error < 0.005


def test_a_wrong_posterior_predicts_worse() -> None:
    rng = np.random.default_rng(2)
    right = log_predictive(sample(posterior(rng, 4000)), REFERENCE)
    for wrong in (posterior(rng, 4000) - 1.5, 0.5 + 4 * (posterior(rng, 4000) - 0.5)):
        figure = log_predictive(sample(wrong), REFERENCE)
        error = np.hypot(figure.standard_error, right.standard_error)
        assert figure.value - right.value > 5 * error


def test_standard_error_is_the_spread_over_replicates() -> None:
    rng = np.random.default_rng(3)
    figures = [log_predictive(sample(posterior(rng, 1000)), REFERENCE) for _ in range(150)]
    observed = np.var([figure.value for figure in figures], ddof=1)
    claimed = np.mean([figure.standard_error**2 for figure in figures])
    # As in test_metrics: 19 degrees of freedom in each jackknife variance.
    f = stats.f(len(figures) - 1, 19 * len(figures))
    assert f.ppf(FALSE_ALARM / 2) < observed / claimed < f.isf(FALSE_ALARM / 2)
    # To first order the error of a mean over draws of what each adds to every observation.
    theta = posterior(rng, 200_000)
    ratios = stats.norm(theta[:, None], NOISE).pdf(HELD_OUT)
    influence = (ratios / ratios.mean(0)).mean(1)
    assert claimed == pytest.approx(influence.var() / 1000, rel=4 * np.sqrt(2 / 19 / 150))


def test_the_order_of_draws_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    theta = posterior(rng, 1000)
    plain = log_predictive(sample(theta), REFERENCE)
    for order in (rng.permutation(1000), np.argsort(theta)):
        figure = log_predictive(sample(theta[order]), REFERENCE)
        assert figure.value == pytest.approx(plain.value, rel=1e-12)
        # Another order makes other groups: another estimate of the same error, with 19 degrees.
        ratio = (figure.standard_error / plain.standard_error) ** 2
        assert stats.f(19, 19).ppf(FALSE_ALARM / 2) < ratio < stats.f(19, 19).isf(FALSE_ALARM / 2)


def test_a_quarter_of_the_ess_doubles_the_error() -> None:
    theta = posterior(np.random.default_rng(5), 1000)
    plain, quarter = (log_predictive(sample(theta, ess), REFERENCE) for ess in (1000.0, 250.0))
    assert quarter.value == plain.value
    assert quarter.standard_error == pytest.approx(2 * plain.standard_error, rel=1e-12)


def test_densities_beyond_floats_are_added_up() -> None:
    theta = posterior(np.random.default_rng(6), 1000)
    plain = sample(theta)
    moved = Sample(plain.values, plain.ess, predictions=plain.predictions - 5000.0)
    figure, shifted = log_predictive(plain, REFERENCE), log_predictive(moved, REFERENCE)
    assert shifted.value == pytest.approx(figure.value + 5000.0, rel=1e-12)
    assert shifted.standard_error == pytest.approx(figure.standard_error, rel=1e-6)


def test_nothing_is_said_where_nothing_is_held_out() -> None:
    entry = registry.get("metric", "log-predictive")
    assert entry.log
    predicting = sample(np.arange(50.0))
    silent = Sample(predicting.values, 50.0)
    assert read(entry, silent, predicting) is None
    assert read(entry, predicting, silent) is None
    assert isinstance(read(entry, predicting, predicting), Figure)
