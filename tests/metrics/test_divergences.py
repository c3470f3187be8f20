"""Distances and divergences of laws on objects: closed forms, identities, missing objects."""

import itertools

import numpy as np
import pytest
from finite_laws import FALSE_ALARM, assert_honest_error, drawn, known, law, of_law
from scipy import stats
from scipy.spatial.distance import jensenshannon

from dncbench import registry
from dncbench.errors import DrawsError
from dncbench.metrics.discrete import (
    jensen_shannon,
    l1_distance,
    marginal_total_variation,
    total_variation,
)
from dncbench.metrics.relative_entropy import forward, jeffreys, reverse
from dncbench.metrics.sample import Sample, read

ENTROPIES = (forward, reverse, jeffreys)
LOG_2 = np.log(2)
GRID = np.array(list(itertools.product(range(3), range(4))), dtype=float)  # 12 objects


def value(metric, p, q, objects=None) -> float:
    figure = metric(known(p, objects), known(q, objects))
    assert figure.standard_error == 0.0
    return figure.value


# ---------------------------------------------------------------- closed forms


def test_relative_entropies_by_hand() -> None:
    p, q = [0.25, 0.75], [0.5, 0.5]
    there, back = 0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.25 * np.log(1 / 2) + 0.75 * np.log(3 / 2)
    assert value(forward, p, q) == pytest.approx(there, rel=1e-12)
    assert value(reverse, p, q) == pytest.approx(back, rel=1e-12)
    assert value(jeffreys, p, q) == pytest.approx(0.25 * np.log(3), rel=1e-12)


def test_they_add_up_over_independent_places() -> None:
    p, q = (np.stack([law(seed, 3) for seed in range(start, start + 4)]) for start in (0, 4))
    whole = lambda laws: np.einsum("a,b,c,d->abcd", *laws).ravel()  # noqa: E731
    for metric in ENTROPIES:
        summed = sum(value(metric, a, b) for a, b in zip(p, q, strict=True))
        assert value(metric, whole(p), whole(q)) == pytest.approx(summed, rel=1e-12)


def test_probabilities_below_those_of_floating_point_count() -> None:
    half, far = np.full(2, -LOG_2), np.array([0.0, -900.0])
    assert np.exp(far[1]) == 0.0
    of = lambda log_probs: Sample(np.zeros((2, 1)), 2.0, codes=np.arange(2), log_probs=log_probs)  # noqa: E731
    assert reverse(of(half), of(far)).value == pytest.approx(450 - LOG_2, rel=1e-12)
    assert forward(of(far), of(half)).value == pytest.approx(450 - LOG_2, rel=1e-12)
    assert reverse(of(far), of(half)).value == pytest.approx(LOG_2, rel=1e-12)


def test_laws_that_share_no_object() -> None:
    p, q = [0.3, 0.7, 0.0, 0.0], [0.0, 0.0, 0.1, 0.9]
    assert value(jensen_shannon, p, q) == pytest.approx(LOG_2, rel=1e-12)
    assert value(l1_distance, p, q) == pytest.approx(2.0, rel=1e-12)


def test_jensen_shannon_is_that_of_scipy() -> None:
    for seed in range(5):
        p, q = law(seed, 20), law(seed + 5, 20)
        assert value(jensen_shannon, p, q) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-10)


def test_marginals_by_hand() -> None:
    p, q = law(1, 12), law(2, 12)
    gap = (p - q).reshape(3, 4)
    expected = 0.5 * np.mean([np.abs(gap.sum(1)).sum(), np.abs(gap.sum(0)).sum()])
    assert value(marginal_total_variation, p, q, GRID) == pytest.approx(expected, rel=1e-12)
    # What the coordinates are called, and that a third is a function of the others, is nothing.
    named = np.column_stack([np.exp(GRID[:, 0]), -7 * GRID[:, 1]])
    assert value(marginal_total_variation, p, q, named) == pytest.approx(expected, rel=1e-12)


def test_of_two_values_the_difference_of_probabilities() -> None:
    objects = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    p, q = law(3, 8), law(4, 8)
    expected = np.mean(np.abs(p @ objects - q @ objects))
    assert value(marginal_total_variation, p, q, objects) == pytest.approx(expected, rel=1e-12)


def test_marginals_do_not_tell_all() -> None:
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    same, other = [0.5, 0.0, 0.0, 0.5], [0.0, 0.5, 0.5, 0.0]
    assert value(marginal_total_variation, same, other, square) == 0.0
    assert value(total_variation, same, other) == 1.0


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("seed", range(8))
def test_inequalities_hold(seed: int) -> None:
    p, q = law(seed, 12), law(seed + 100, 12)
    tv, l1, jsd = (value(each, p, q) for each in (total_variation, l1_distance, jensen_shannon))
    there, back, both = (value(each, p, q) for each in ENTROPIES)
    assert l1 == pytest.approx(2 * tv, rel=1e-12)
    assert both == pytest.approx(there + back, rel=1e-12)
    assert value(forward, q, p) == pytest.approx(back, rel=1e-12)
    for each in (there, back):  # Pinsker; Bretagnolle and Huber
        assert tv <= min(np.sqrt(each / 2), np.sqrt(-np.expm1(-each)))
    # Lin (1991), theorems 2 and 3; tv² / 2 is Pinsker's bound of both halves.
    assert tv**2 / 2 <= jsd <= min(tv * LOG_2, both / 4)
    # A marginal law cannot be further off than the whole.
    assert 0 < value(marginal_total_variation, p, q, GRID) <= tv


def test_l1_of_draws_is_twice_tv() -> None:
    rng = np.random.default_rng(1)
    a, f = of_law(rng, law(1, 9), 400), of_law(rng, law(2, 9), 300)
    l1, tv = l1_distance(a, f), total_variation(a, f)
    assert l1 == pytest.approx((2 * tv.value, 2 * tv.standard_error), rel=1e-12)


def test_names_of_objects_mean_nothing() -> None:
    p, q, order = law(1, 12), law(2, 12), np.random.default_rng(2).permutation(12)
    for metric in (l1_distance, jensen_shannon, *ENTROPIES, marginal_total_variation):
        again = value(metric, p[order], q[order], GRID[order])
        assert again == pytest.approx(value(metric, p, q, GRID), rel=1e-10)


# ---------------------------------------------------------------- missing objects


def test_what_is_ruled_out_makes_them_infinite() -> None:
    p, q = known([0.0, 0.6, 0.4, 0.0]), known([0.1, 0.5, 0.2, 0.2])
    told = "infinite: the merge rules out 2 objects, which have probability 0.3 of the posterior"
    for metric in (forward, jeffreys):
        with pytest.raises(DrawsError, match=told):
            metric(p, q)
    with pytest.raises(DrawsError, match=r"the posterior rules out 2 objects.* 0.3 of the merge"):
        reverse(q, p)
    # An object that p has not costs nothing where q has it, and what neither has nothing at all.
    expected = 0.6 * np.log(0.6 / 0.5) + 0.4 * np.log(0.4 / 0.2)
    assert reverse(p, q).value == pytest.approx(expected, rel=1e-12)
    assert forward(p, p).value == 0.0


@pytest.mark.parametrize("name", ["kl-forward", "kl-reverse", "jeffreys"])
def test_of_draws_there_are_none(name: str) -> None:
    entry = registry.get("metric", name)
    exact, draws = known(law(1, 5)), of_law(np.random.default_rng(3), law(1, 5), 1000)
    assert read(entry, draws, exact) is None
    assert read(entry, exact, draws) is None
    assert read(entry, exact, exact) == (0.0, 0.0)


def test_draws_that_miss_objects_have_a_jensen_shannon_divergence() -> None:
    figure = jensen_shannon(drawn(np.array([0] * 50 + [1] * 50)), known([0.0, 0.5, 0.5]))
    # m is (¼, ½, ¼): the halves are ½ log 2 each.
    assert figure.value == pytest.approx(0.5 * LOG_2, rel=1e-12)
    unlike = drawn(np.full(100, 7)), drawn(np.arange(100) % 3)
    assert jensen_shannon(*unlike).value == pytest.approx(LOG_2, rel=1e-12)


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize(
    "metric", [l1_distance, jensen_shannon, marginal_total_variation], ids=lambda m: m.__name__
)
def test_draws_come_to_the_law(metric) -> None:
    p, q, rng = law(1, 12), law(2, 12), np.random.default_rng(4)
    exact = value(metric, p, q, GRID)
    figures = [metric(of_law(rng, p, 20_000, GRID), known(q, GRID)) for _ in range(60)]
    assert_honest_error(figures)
    values = np.array([figure.value for figure in figures])
    error = values.std(ddof=1) / np.sqrt(len(values))
    # Shares are off by some sqrt(p / N): convex functions of them by the order of K / N more.
    bias = 12 / 20_000
    assert abs(values.mean() - exact) < stats.norm.isf(FALSE_ALARM / 2) * error + bias


def test_the_floor_of_jensen_shannon_is_an_eighth_of_chi_squared() -> None:
    # To second order it is Σ (p̂ - p)² / (8 p), and N Σ (p̂ - p)² / p has mean K - 1.
    p, rng, num_draws = np.full(10, 0.1), np.random.default_rng(5), 5000
    values = [jensen_shannon(of_law(rng, p, num_draws), known(p)).value for _ in range(150)]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    allowed = stats.norm.isf(FALSE_ALARM / 2) * error
    assert abs(np.mean(values) - 9 / (8 * num_draws)) < allowed + 9 / (8 * num_draws) * 1e-2
