"""Laws of every registered metric: a function of two samples, lower is better, zero is perfect."""

import numpy as np
import pytest

from dncbench import registry
from dncbench.metrics import Figure, Sample

NUM_DRAWS = 1500


@pytest.fixture(params=[entry.name for entry in registry.entries("metric")])
def metric(request: pytest.FixtureRequest):
    return registry.get("metric", request.param).target


def exponential(rng: np.random.Generator, dim: int) -> Sample:
    return Sample(rng.exponential(1.0, (NUM_DRAWS, dim)), NUM_DRAWS)


@pytest.mark.parametrize("dim", [1, 3])
def test_gives_a_finite_figure(metric, dim: int) -> None:
    rng = np.random.default_rng(1)
    figure = metric(exponential(rng, dim), exponential(rng, dim))
    assert isinstance(figure, Figure)
    assert np.isfinite(figure.value)
    assert np.isfinite(figure.standard_error)
    assert figure.value > 0
    assert figure.standard_error > 0


def test_is_zero_for_identical_samples(metric) -> None:
    sample = exponential(np.random.default_rng(2), 3)
    assert metric(sample, sample).value == pytest.approx(0.0, abs=1e-10)


def test_sees_a_grossly_wrong_sample(metric) -> None:
    # Another location, scale and shape, so that a metric of any of them must see it: more
    # than five standard errors above the largest of ten readings of perfect samples.
    rng = np.random.default_rng(3)
    reference = exponential(rng, 3)
    floor = max(metric(exponential(rng, 3), reference).value for _ in range(10))
    wrong = metric(Sample(20 - 5 * rng.normal(size=(NUM_DRAWS, 3)), NUM_DRAWS), reference)
    assert wrong.value - floor > 5 * wrong.standard_error


def test_is_determined_by_its_samples(metric) -> None:
    rng = np.random.default_rng(4)
    samples = exponential(rng, 3), exponential(rng, 3)
    assert metric(*samples) == metric(*samples)


def test_leaves_its_samples_alone(metric) -> None:
    rng = np.random.default_rng(5)
    samples = exponential(rng, 3), exponential(rng, 3)
    copies = [sample.values.copy() for sample in samples]
    metric(*samples)
    for sample, copy in zip(samples, copies, strict=True):
        np.testing.assert_array_equal(sample.values, copy)


def test_fewer_effective_draws_mean_a_larger_error(metric) -> None:
    rng = np.random.default_rng(6)
    a, f = exponential(rng, 3), exponential(rng, 3)
    full = metric(a, f)
    poorer = metric(Sample(a.values, NUM_DRAWS / 10), f)
    assert poorer.value == full.value
    assert poorer.standard_error > full.standard_error
