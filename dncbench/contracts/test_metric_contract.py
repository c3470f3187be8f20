"""Laws of every registered metric: a function of two samples, lower is better, zero is perfect."""

import copy
import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from dncbench import registry
from dncbench.contracts.subjects import subjects
from dncbench.entry import Entry
from dncbench.metrics.sample import Figure, Sample, read

NUM_DRAWS = 1500


@pytest.fixture(params=[entry.name for entry in subjects("metric")])
def entry(request: pytest.FixtureRequest) -> Entry:
    return registry.get("metric", request.param)


@pytest.fixture
def metric(entry: Entry) -> Callable:
    return entry.target


def as_sample(eta: np.ndarray, ess: float = NUM_DRAWS) -> Sample:
    """Draws θ = exp(η), with all that a metric may read: log θ of exponentials has score 1 - θ.

    Codes are the deciles of the first coordinate; what is predicted are five numbers, of
    N(sum of the coordinates, 10²), up to a constant.
    """
    permutations = np.array(list(itertools.permutations(range(eta.shape[1]))))
    theta = np.exp(eta)
    codes = np.minimum(10 * (1 - np.exp(-theta[:, 0])), 9).astype(np.int64)
    predictions = -0.5 * ((theta.sum(1)[:, None] - np.arange(5.0)) / 10) ** 2
    score = lambda eta: 1 - np.exp(eta)  # noqa: E731
    return Sample(theta, ess, eta, score, permutations, codes, None, predictions)


def exponential(rng: np.random.Generator, dim: int) -> Sample:
    return as_sample(np.log(rng.exponential(1.0, (NUM_DRAWS, dim))))


@pytest.mark.parametrize("dim", [1, 3])
def test_gives_a_finite_figure(entry: Entry, metric: Callable, dim: int) -> None:
    rng = np.random.default_rng(1)
    figure = metric(exponential(rng, dim), exponential(rng, dim))
    assert isinstance(figure, Figure)
    assert np.isfinite(figure.value)
    assert np.isfinite(figure.standard_error)
    if "permutations" in entry.reads and dim == 1:
        return  # one coordinate has one permutation: the figure is zero
    assert figure.value > 0 or entry.log
    assert figure.standard_error > 0


def test_is_not_applicable_without_what_it_reads(entry: Entry) -> None:
    sample = exponential(np.random.default_rng(7), 2)
    for name in entry.reads:
        lacking = copy.copy(sample)
        object.__setattr__(lacking, name, None)  # frozen; and its type would not allow it
        assert read(entry, lacking, sample) is None


def test_is_zero_for_identical_samples(entry: Entry, metric: Callable) -> None:
    if entry.log:
        pytest.skip("a logarithm has no zero")
    sample = exponential(np.random.default_rng(2), 3)
    assert metric(sample, sample).value == pytest.approx(0.0, abs=1e-10)


def test_sees_a_grossly_wrong_sample(metric: Callable) -> None:
    # Another location, scale and shape, so that a metric of any of them must see it: more
    # than five standard errors above the largest of ten readings of perfect samples.
    rng = np.random.default_rng(3)
    reference = exponential(rng, 3)
    floor = max(metric(exponential(rng, 3), reference).value for _ in range(10))
    # The third coordinate is always the largest: one mode of six.
    noise = np.sort(rng.normal(size=(NUM_DRAWS, 3)), axis=1)
    far = dataclasses.replace(as_sample(2 + 0.5 * noise), values=20 + 5 * noise)
    wrong = metric(far, reference)
    assert wrong.value - floor > 5 * wrong.standard_error


def test_is_determined_by_its_samples(metric: Callable) -> None:
    rng = np.random.default_rng(4)
    samples = exponential(rng, 3), exponential(rng, 3)
    assert metric(*samples) == metric(*samples)


def test_leaves_its_samples_alone(metric: Callable) -> None:
    rng = np.random.default_rng(5)
    samples = exponential(rng, 3), exponential(rng, 3)
    copies = [sample.values.copy() for sample in samples]
    metric(*samples)
    for sample, kept in zip(samples, copies, strict=True):
        np.testing.assert_array_equal(sample.values, kept)


def test_fewer_effective_draws_mean_a_larger_error(metric: Callable) -> None:
    rng = np.random.default_rng(6)
    a, f = exponential(rng, 3), exponential(rng, 3)
    full = metric(a, f)
    poorer = metric(as_sample(a.eta, NUM_DRAWS / 10), f)
    assert poorer.value == full.value
    assert poorer.standard_error > full.standard_error
