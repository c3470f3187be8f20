"""Rank intervals and tie groups, against Student's t and simulated splits."""

import numpy as np
import pytest
from scipy.stats import t as student_t

from dncbench.boards.ranking import NUM_RESAMPLES, resample, standings


def figures(values: dict[str, list[float]], error: float = 0.0) -> dict:
    return {name: dict(enumerate((v, error) for v in each)) for name, each in values.items()}


def test_clear_differences_have_ranks_of_one_number() -> None:
    found = standings(resample(figures({"b": [2, 2.1, 2], "a": [1, 1.1, 1], "c": [9, 9.1, 9]})))
    assert {name: standing.rank for name, standing in found.items()} == {
        "a": (1, 1),
        "b": (2, 2),
        "c": (3, 3),
    }
    assert {name: standing.group for name, standing in found.items()} == {"a": 1, "b": 2, "c": 3}


def test_groups_start_anew_below_each_leader() -> None:
    # a and b differ by 2 errors of their difference or less, c and d likewise.
    found = standings(resample(figures({"a": [1.0], "b": [1.1], "c": [3.0], "d": [3.1]}, 0.1)))
    assert [found[name].group for name in "abcd"] == [1, 1, 2, 2]
    assert [found[name].rank for name in "abcd"] == [(1, 2), (1, 2), (3, 4), (3, 4)]


def test_the_same_figures_give_the_same_standings() -> None:
    given = figures({"a": [1, 2, 3], "b": [1.5, 2.2, 2.9], "c": [3, 1, 2]}, 0.2)
    assert standings(resample(given)) == standings(resample(dict(reversed(given.items()))))


def test_resamples_are_as_wide_as_students_t() -> None:
    values = np.random.default_rng(0).normal(size=5)
    resampled = resample(figures({"a": values.tolist()}))
    expected = values.std(ddof=1) / np.sqrt(5) * student_t.ppf(0.975, 4) / 1.96
    # A sd of 4000 resamples has a relative standard error of 1 / sqrt(8000), about.
    assert resampled.means.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * NUM_RESAMPLES))
    assert resampled.centre == pytest.approx(values.mean(), rel=1e-12)


def test_two_splits_leave_the_monte_carlo_error_alone() -> None:
    resampled = resample(figures({"a": [1.0, 5.0]}, error=0.3))
    expected = 0.3 / np.sqrt(2)
    assert resampled.means.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * NUM_RESAMPLES))


def test_equal_methods_are_rarely_told_apart() -> None:
    # 200 studies of two equal methods over five normal splits: at 95% the lower-ranked is
    # put into another group in 2.5% of the studies for each side, 5% together, with a
    # standard error of sqrt(0.05 * 0.95 / 200) = 0.015.
    rng = np.random.default_rng(3)
    apart = 0
    for _ in range(200):
        shared = rng.normal(size=5)
        given = {name: (shared + rng.normal(size=5)).tolist() for name in "ab"}
        found = standings(resample(figures(given)))
        apart += found["a"].group != found["b"].group
    assert apart / 200 < 0.05 + 3 * 0.0154


def test_nothing_to_rank() -> None:
    assert standings(resample({})) == {}
    assert standings(resample({"a": {}})) == {}
