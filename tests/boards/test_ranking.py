"""Rank intervals and tie groups, against Student's t and simulated splits."""

import math

import numpy as np
import pytest
from scipy.special import ndtri, stdtrit
from scipy.stats import t as student_t

from dncbench.boards.ranking import NUM_RESAMPLES, _chance, resample, standings


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
    each = {"a": [1.0] * 3, "b": [1.1] * 3, "c": [3.0] * 3, "d": [3.1] * 3}
    found = standings(resample(figures(each, 0.1)))
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


@pytest.mark.parametrize("values", [[1.0], [1.0, 5.0]])
def test_fewer_than_three_splits_rank_nothing(values: list[float]) -> None:
    resampled = resample(figures({"a": values, "b": [9.0] * len(values)}, error=0.3))
    assert resampled.names == ()
    assert standings(resampled) == {}


@pytest.mark.parametrize("splits", [3, 5])
@pytest.mark.parametrize("gap", [0.1, 0.3])
def test_intervals_hold_the_true_rank(splits: int, gap: float) -> None:
    # Six methods a gap apart, each split with an effect of its own on each of sd 0.3, which the
    # Monte Carlo errors of 0.03 know nothing of. 100 studies of 6 intervals: where 95 % hold, the
    # share of a study's has an sd of at most 0.22, and its mean one of 0.022.
    rng = np.random.default_rng(splits)
    held, wide = [], []
    for _ in range(100):
        effects = 0.3 * rng.normal(size=(6, splits)) + rng.normal(size=splits)
        values = {f"m{m}": (gap * m + effects[m]).tolist() for m in range(6)}
        found = standings(resample(figures(values, 0.03)))
        held += [found[f"m{m}"].rank[0] <= m + 1 <= found[f"m{m}"].rank[1] for m in range(6)]
        wide += [found[f"m{m}"].rank[1] - found[f"m{m}"].rank[0] for m in range(6)]
    assert np.mean(held) > 0.95 - 3 * 0.022
    # Not by being as wide as can be: Student's t tells two methods apart from a gap of
    # t sqrt(2/n) 0.3 on, so many ranks on either side.
    either_side = student_t.ppf(0.975, splits - 1) * np.sqrt(2 / splits) * 0.3 / gap
    assert np.mean(wide) < min(2 * either_side, 5)


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


@pytest.mark.parametrize("splits", [3, 5, 8, 9])
def test_resamples_choose_splits_with_repetition(splits: int) -> None:
    """Each is a choice of as many splits as there are, and equal choices are made once."""
    choices, which, _ = _chance(0, splits, 2)
    assert choices.shape[0] == splits
    assert which.shape == (NUM_RESAMPLES,)
    drawn = np.random.default_rng(0).integers(splits, size=(NUM_RESAMPLES, splits))
    np.testing.assert_array_equal(np.sort(choices.T[which], 1), np.sort(drawn, 1))
    if splits <= 8:
        assert choices.shape[1] <= math.comb(2 * splits - 1, splits)
        assert len(np.unique(choices.T, axis=0)) == choices.shape[1]


def test_means_of_resamples_are_those_of_their_splits() -> None:
    values = np.random.default_rng(1).lognormal(size=(3, 5))
    given = figures({name: list(own) for name, own in zip("abc", values, strict=True)}, 0.0)
    drawn = np.random.default_rng(0).integers(5, size=(NUM_RESAMPLES, 5))
    centre = values.mean(1)
    widening = stdtrit(4, 0.975) / ndtri(0.975) * np.sqrt(5 / 4)
    expected = centre + widening * (values[:, drawn].mean(2).T - centre)
    np.testing.assert_allclose(resample(given).means, expected, rtol=1e-12)
