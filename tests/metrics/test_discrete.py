"""Total variation on a finite number of objects: closed forms, null law and standard error."""

import numpy as np
import pytest
from finite_laws import FALSE_ALARM, assert_honest_error, drawn, known, law, of_law
from scipy import stats

from dncbench import registry
from dncbench.metrics.discrete import total_variation
from dncbench.metrics.sample import Figure, Sample, read

# ---------------------------------------------------------------- values


def test_two_known_laws_are_read_exactly() -> None:
    p, q = law(1, 30), law(2, 30)
    figure = total_variation(known(p), known(q))
    # The largest difference of the probabilities of an event: of all objects likelier under p.
    assert figure.value == pytest.approx(np.sum(np.maximum(p - q, 0)), rel=1e-12)
    assert figure.standard_error == 0.0


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.5, 0.5], [0.5, 0.5], 0.0),
        ([1.0, 0.0], [0.0, 1.0], 1.0),
        ([0.2, 0.8], [0.5, 0.5], 0.3),
        ([0.25, 0.25, 0.5], [0.25, 0.75], 0.5),  # an object that the other law has not
    ],
)
def test_small_laws(p: list, q: list, expected: float) -> None:
    for pair in ((p, q), (q, p)):
        assert total_variation(*map(known, pair)).value == pytest.approx(expected, abs=1e-15)


def test_of_draws_the_shares_are_read() -> None:
    codes = np.array([0] * 40 + [3] * 60)
    p = np.array([0.5, 0.2, 0.0, 0.3])
    for figure in (
        total_variation(drawn(codes), known(p)),
        total_variation(known(p), drawn(codes)),
    ):
        assert figure.value == pytest.approx(0.5 * (0.1 + 0.2 + 0.0 + 0.3), rel=1e-12)
    others = np.array([0] * 10 + [7] * 90)  # an object that the first sample has not
    assert total_variation(drawn(codes), drawn(others)).value == pytest.approx(0.9, rel=1e-12)
    assert total_variation(drawn(others), drawn(codes)).value == pytest.approx(0.9, rel=1e-12)


def test_names_of_objects_mean_nothing() -> None:
    rng = np.random.default_rng(3)
    p, q = law(1, 20), law(2, 20)
    a, f = of_law(rng, p, 500), of_law(rng, q, 700)
    order = rng.permutation(20)
    plain = total_variation(a, f)
    renamed = total_variation(drawn(order[a.codes]), drawn(order[f.codes]))
    assert renamed.value == pytest.approx(plain.value, rel=1e-12)
    assert renamed.standard_error == pytest.approx(plain.standard_error, rel=1e-9)


def test_draws_that_are_no_objects_have_no_distance() -> None:
    entry = registry.get("metric", "tv")
    continuous = Sample(np.zeros((50, 1)), 50.0)
    codes = drawn(np.arange(50))
    assert read(entry, continuous, codes) is None
    assert read(entry, codes, continuous) is None
    assert isinstance(read(entry, codes, codes), Figure)


# ---------------------------------------------------------------- null law and standard error


@pytest.mark.parametrize("size", [5, 40])
def test_the_floor_of_many_draws_is_the_mean_of_half_normals(size: int) -> None:
    # A share of N draws is N(p, p (1 - p) / N) to first order; E|N(0, σ²)| = σ sqrt(2/π). With
    # 1 - p for 1 it is the docstring's formula, which neglects p beside 1.
    rng, p, num_draws, replicates = np.random.default_rng(4), law(5, size), 20_000, 300
    values = [total_variation(of_law(rng, p, num_draws), known(p)).value for _ in range(replicates)]
    expected = 0.5 * np.sum(np.sqrt(2 * p * (1 - p) / (np.pi * num_draws)))
    error = np.std(values, ddof=1) / np.sqrt(replicates)
    # The discreteness of counts: relative corrections of order 1 / (N p), of rare objects alone.
    rare = np.sum(np.minimum(p, 1 / num_draws))
    assert abs(np.mean(values) - expected) < stats.norm.isf(FALSE_ALARM / 2) * error + rare
    stated = 0.5 * np.sum(np.sqrt(2 * p / (np.pi * num_draws)))
    assert expected < stated < expected / np.sqrt(1 - p.max())


@pytest.mark.parametrize("against", ["law", "draws"])
def test_standard_error_is_the_spread_over_replicates(against: str) -> None:
    # Laws that differ in every object, so that no |difference| is at its kink.
    rng = np.random.default_rng(6)
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    figures = [
        total_variation(
            of_law(rng, p, 2000), known(q) if against == "law" else of_law(rng, q, 1000)
        )
        for _ in range(150)
    ]
    assert_honest_error(figures)
    # Σ of the signs' shares is binomial: half of the objects are likelier under p.
    up = p > q
    errors = [p[up].sum() * p[~up].sum() / 2000]
    errors += [q[up].sum() * q[~up].sum() / 1000] if against == "draws" else []
    claimed = np.mean([figure.standard_error**2 for figure in figures])
    # A jackknife variance of 20 groups has a relative standard error of sqrt(2 / 19).
    assert claimed == pytest.approx(sum(errors), rel=4 * np.sqrt(2 / 19 / 150))


def test_fewer_effective_draws_widen_the_error() -> None:
    rng = np.random.default_rng(7)
    a, q = of_law(rng, law(1, 6), 2000), known(law(2, 6))
    plain = total_variation(a, q)
    quarter = total_variation(drawn(a.codes, 500.0), q)
    assert quarter.value == plain.value
    assert quarter.standard_error == pytest.approx(2 * plain.standard_error, rel=1e-12)
