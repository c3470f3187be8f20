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
WIDTH, NUM_CELLS = 0.002, 5000  # so fine that draws lack some


@pytest.fixture(params=[entry.name for entry in subjects("metric")])
def entry(request: pytest.FixtureRequest) -> Entry:
    return registry.get("metric", request.param)


@pytest.fixture
def metric(entry: Entry) -> Callable:
    return lambda approximation, reference: figure_of(entry, approximation, reference)


def figure_of(entry: Entry, approximation: Sample, reference: Sample) -> Figure:
    """What a metric reads: of draws, of draws of many objects against a law, or of two laws."""
    for pair in (
        (approximation, reference),
        (in_cells(approximation), with_own_law(reference)),
        (with_law_of_draws(approximation), with_law_of_draws(reference)),
    ):
        figure = read(entry, *pair)
        if figure is not None:
            break
    assert figure is not None, f"metric {entry.name} does not apply to any of them"
    return figure


def has_error(entry: Entry) -> bool:
    """Of laws that are known exactly there is none."""
    return "log_probs" not in entry.reads


def as_sample(eta: np.ndarray, ess: float = NUM_DRAWS) -> Sample:
    """Draws θ = exp(η), with all that a metric may read: log θ of exponentials has score 1 - θ.

    Codes are the deciles of the first coordinate, described by two numbers; what is predicted are
    five numbers, of N(sum of the coordinates, 10²), up to a constant.
    """
    permutations = np.array(list(itertools.permutations(range(eta.shape[1]))))
    theta = np.exp(eta)
    codes = np.minimum(10 * (1 - np.exp(-theta[:, 0])), 9).astype(np.int64)
    objects = np.arange(10.0)[:, None] // np.array([[1.0, 4.0]])
    predictions = -0.5 * ((theta.sum(1)[:, None] - np.arange(5.0)) / 10) ** 2
    score = lambda eta: 1 - np.exp(eta)  # noqa: E731
    return Sample(theta, ess, eta, score, permutations, codes, None, predictions, objects)


def in_cells(sample: Sample) -> Sample:
    """The same with many objects: cells of the first coordinate."""
    codes = np.minimum(np.exp(sample.eta[:, 0]) / WIDTH, NUM_CELLS - 1).astype(np.int64)
    return dataclasses.replace(sample, codes=codes, objects=np.arange(NUM_CELLS)[:, None] * 1.0)


def with_own_law(sample: Sample) -> Sample:
    """The same with many objects and the law that exponentials have on them."""
    log_probs = -WIDTH * np.arange(NUM_CELLS)
    log_probs[:-1] += np.log(-np.expm1(-WIDTH))
    return dataclasses.replace(in_cells(sample), log_probs=log_probs)


def with_law_of_draws(sample: Sample) -> Sample:
    """The same with many objects and, as if it were known, a law that the draws determine."""
    cells = in_cells(sample)
    counts = np.bincount(cells.codes, minlength=NUM_CELLS) + 1.0
    return dataclasses.replace(cells, log_probs=np.log(counts / counts.sum()))


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
    assert (figure.standard_error > 0) == has_error(entry)


def test_is_not_applicable_without_what_it_reads(entry: Entry) -> None:
    sample = exponential(np.random.default_rng(7), 2)
    for name in entry.reads:
        lacking = copy.copy(sample)
        object.__setattr__(lacking, name, None)  # frozen; and its type would not allow it
        assert read(entry, lacking, sample) is None


def test_is_zero_for_identical_samples(entry: Entry) -> None:
    if entry.log:
        pytest.skip("a logarithm has no zero")
    sample = exponential(np.random.default_rng(2), 3)
    figures = [read(entry, one, one) for one in (sample, with_law_of_draws(sample))]
    applied = [figure.value for figure in figures if figure is not None]
    assert applied
    np.testing.assert_allclose(applied, 0.0, atol=1e-10)


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


def test_fewer_effective_draws_mean_a_larger_error(entry: Entry, metric: Callable) -> None:
    rng = np.random.default_rng(6)
    a, f = exponential(rng, 3), exponential(rng, 3)
    full = metric(a, f)
    poorer = metric(as_sample(a.eta, NUM_DRAWS / 10), f)
    assert poorer.value == full.value
    assert (poorer.standard_error > full.standard_error) == has_error(entry)
