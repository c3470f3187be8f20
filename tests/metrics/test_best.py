"""What 10 000 draws of a law find: closed forms, simulation, saturation and missing objects."""

import numpy as np
import pytest
from finite_laws import FALSE_ALARM, assert_honest_error, drawn, known, law, of_law
from scipy import stats

from dncbench.errors import DrawsError
from dncbench.metrics.best import BEST, NUM_DRAWS, modes_missed, top_log_prob

SIZE = 400


def value(metric, p: np.ndarray, q: np.ndarray) -> float:
    figure = metric(known(p), known(q))
    assert figure.standard_error == 0.0
    return figure.value


def tilted(p: np.ndarray, power: float) -> np.ndarray:
    return p**power / np.sum(p**power)


# ---------------------------------------------------------------- the best draws


def top_mean(p: np.ndarray, q: np.ndarray, rng: np.random.Generator) -> float:
    """Of one set of draws of p, sorted by q."""
    logs = np.log(q)[rng.choice(len(p), NUM_DRAWS, p=p)]
    return np.sort(logs)[-BEST:].mean()


@pytest.mark.parametrize("power", [0.5, 1.3])
def test_the_best_draws_are_those_of_a_simulation(power: float) -> None:
    rng, q = np.random.default_rng(1), law(1, SIZE)
    p, num_sets = tilted(q, power), 100
    found = [[top_mean(each, q, rng) for _ in range(num_sets)] for each in (p, q)]
    error = np.sqrt(np.sum(np.var(found, axis=1, ddof=1)) / num_sets)
    expected = abs(np.mean(found[0]) - np.mean(found[1]))
    assert expected > 20 * error  # it has something to see
    assert abs(value(top_log_prob, p, q) - expected) < stats.norm.isf(FALSE_ALARM / 2) * error


def test_the_best_of_two_objects_by_the_binomial_law() -> None:
    q = np.array([0.95, 0.05])
    number = np.arange(NUM_DRAWS + 1)

    def expected(share: float) -> float:
        often = stats.binom.pmf(number, NUM_DRAWS, share) @ np.minimum(number, BEST) / BEST
        return often * np.log(0.95) + (1 - often) * np.log(0.05)

    for share in (0.02, 0.08, 0.085, 0.5):
        found = value(top_log_prob, np.array([share, 1 - share]), q)
        # The largest error is that of SciPy's probabilities, relative to one of 10 000.
        assert found == pytest.approx(abs(expected(share) - expected(0.95)), abs=1e-10)


def test_one_object_with_more_than_the_best_share_is_all_of_it() -> None:
    # 8 % are the best; of 10 000 draws 20 % are fewer than that with a probability of 1e-220.
    p, q = np.array([0.2, 0.0, 0.8]), np.array([0.9, 0.05, 0.05])
    assert value(top_log_prob, p, q) == pytest.approx(0.0, abs=1e-14)


def test_better_draws_than_those_of_the_posterior_are_an_error_too() -> None:
    q = law(2, SIZE)
    mode = np.zeros(SIZE)
    mode[np.argmax(q)] = 1.0
    flat = np.full(SIZE, 1 / SIZE)
    assert value(top_log_prob, mode, q) > 0.1
    assert value(top_log_prob, flat, q) > 0.1
    assert value(top_log_prob, q, q) == 0.0
    # Under a flat posterior all draws are as good as any.
    assert value(top_log_prob, mode, flat) == pytest.approx(0.0, abs=1e-12)


def test_best_draws_that_the_posterior_rules_out_are_infinitely_bad() -> None:
    q = np.array([0.5, 0.5, 0.0])
    with pytest.raises(DrawsError, match="infinite: the best 800 of 10000 draws may hold objects"):
        top_log_prob(known(np.array([0.0, 0.01, 0.99])), known(q))
    # Where there are always 800 better ones it does not matter.
    assert value(top_log_prob, np.array([0.0, 0.5, 0.5]), q) == pytest.approx(0.0, abs=1e-12)


# ---------------------------------------------------------------- modes


def test_modes_by_hand() -> None:
    # 2 of 20 objects are to be found, and all that are as probable.
    q, p = np.full(20, 0.05), np.full(20, 0.05)
    p[:4] = 0.0, 0.0, 1e-4, 0.0999
    expected = (2 + (1 - 1e-4) ** 10_000) / 20
    assert value(modes_missed, p, q) == pytest.approx(expected, abs=1e-12)


def test_the_most_probable_tenth_is_to_be_found_and_at_most_a_hundred() -> None:
    for size, most in ((50, 5), (1000, 100), (1800, 100)):
        q = np.linspace(1.5, 0.5, size) / size  # all above 1 / 3600, those to be found above 1 %
        for lost in (1, most // 2, most, most + 7):
            p = q.copy()
            p[:lost] = 0.0
            missed = (1 - (1 - q[:lost]) ** NUM_DRAWS)[:most].sum() / most
            assert value(modes_missed, p, q) == pytest.approx(missed, abs=1e-12)


def test_it_is_the_share_that_draws_miss() -> None:
    q, rng = law(3, 1500), np.random.default_rng(6)
    modes = np.argsort(-q)[:100]
    assert (1 - q[modes].min()) ** NUM_DRAWS < 1e-6  # perfect draws have them all
    p = tilted(q, 12.0)
    seen = [np.isin(modes, rng.choice(len(p), NUM_DRAWS, p=p)).mean() for _ in range(100)]
    error = np.std(seen, ddof=1) / 10
    found = value(modes_missed, p, q)
    assert 0.1 < found < 0.9
    assert abs(1 - np.mean(seen) - found) < stats.norm.isf(FALSE_ALARM / 2) * error


def test_objects_that_perfect_draws_may_miss_need_not_be_found() -> None:
    # (1 - p)^10 000 is 1 % at p = 4.604e-4.
    common, rare = 4.61e-4, 4.60e-4
    q = np.array([*[common] * 5, *[rare] * 95, *np.full(900, 1e-4), 0.0])
    q[-1] = 1 - q.sum()  # the sixth that is to be found
    p = q.copy()
    p[3:100] = 0.0
    lost = 2 * (1 - (1 - common) ** NUM_DRAWS)
    assert value(modes_missed, p, q) == pytest.approx(lost / 6, abs=1e-12)
    assert value(modes_missed, q, q) == 0.0


def test_where_there_are_no_modes_it_does_not_apply() -> None:
    flat = known(np.full(5000, 1 / 5000))
    assert modes_missed(flat, flat) is None


def test_fewer_draws_miss_what_they_do_not_hold() -> None:
    q = np.full(10, 0.1)
    codes = np.repeat(np.arange(9), 20)  # the tenth is missing
    figure = modes_missed(drawn(codes), known(q))
    assert figure.value == pytest.approx(0.1, abs=1e-12)


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("metric", [top_log_prob, modes_missed])
def test_without_the_posteriors_law_they_do_not_apply(metric) -> None:
    rng, q = np.random.default_rng(7), law(4, 50)
    draws = of_law(rng, q, 500)
    assert metric(draws, draws) is None
    assert metric(known(q), draws) is None
    assert metric(draws, known(q)) is not None


def test_draws_come_to_the_law() -> None:
    rng, q = np.random.default_rng(8), law(5, SIZE)
    p = tilted(q, 0.5)
    figures = [top_log_prob(of_law(rng, p, 20_000), known(q)) for _ in range(60)]
    assert_honest_error(figures)
    values = np.array([figure.value for figure in figures])
    error = values.std(ddof=1) / np.sqrt(len(values))
    exact = value(top_log_prob, p, q)
    assert error < 0.05 * exact
    assert abs(values.mean() - exact) < stats.norm.isf(FALSE_ALARM / 2) * error


def test_names_of_objects_mean_nothing() -> None:
    q, order = law(6, SIZE), np.random.default_rng(9).permutation(SIZE)
    p = tilted(q, 8.0)
    for metric in (top_log_prob, modes_missed):
        found = value(metric, p, q)
        assert found > 0
        assert value(metric, p[order], q[order]) == pytest.approx(found, rel=1e-9)
