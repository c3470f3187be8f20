"""Multisets that nobody lists: laws without enumeration, against enumeration where it is small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import chi2

from dncbench.configure import configure
from dncbench.draws import one
from dncbench.errors import NotApplicableError, UnknownNameError
from dncbench.methods.discrete._objects import num_objects
from dncbench.precision import derive_key
from dncbench.problem import Data, load_data
from dncbench.problems.discrete._counts import Bag, CountLaw
from dncbench.problems.discrete.multisets_large import LargeMultisets, _largest_z
from dncbench.stategraph.graph import tabulate

BAG = Bag(4, 5)
FALSE_ALARM = 1e-4


def made(spec: str) -> tuple[LargeMultisets, Data]:
    problem = configure("problem", spec)[1]
    return problem, load_data(problem, derive_key(0, "multisets-large", "data"))


def listed(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All objects of the small bag, and their log rewards."""
    counts = tabulate(BAG).objects.astype(int)
    return counts, table[np.arange(4)[None], counts].sum(1)


def assert_drawn(codes: np.ndarray, log_rewards: np.ndarray) -> None:
    """χ² over objects that are expected five times at least, the others as one."""
    expected = len(codes) * np.exp(log_softmax(log_rewards))
    group = np.where(expected > 5, np.arange(len(expected)), len(expected))
    counts = np.bincount(group[codes], minlength=len(expected) + 1)
    expected = np.bincount(group, expected, minlength=len(expected) + 1)
    there = expected > 0
    statistic = np.sum((counts - expected)[there] ** 2 / expected[there])
    assert statistic < chi2.isf(FALSE_ALARM, there.sum() - 1)


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("bag", [Bag(4, 5), Bag(2, 7), Bag(10, 8)], ids=repr)
def test_codes_are_the_places_in_the_state_graph(bag: Bag) -> None:
    objects = tabulate(bag).objects
    assert bag.num_objects == len(objects)
    np.testing.assert_array_equal(bag.code(objects), np.arange(len(objects)))
    np.testing.assert_array_equal(bag.counts(np.arange(len(objects))), objects)


def test_codes_go_both_ways_where_nothing_is_listed() -> None:
    bag = Bag(20, 15)
    assert bag.num_objects == 1_855_967_520  # 34! / (15! 19!)
    ends = np.array([0, bag.num_objects - 1])
    codes = np.append(np.random.default_rng(0).integers(0, bag.num_objects, 200), ends)
    counts = bag.counts(codes)
    assert (counts.sum(1) == 15).all()
    assert (counts >= 0).all()
    np.testing.assert_array_equal(bag.code(counts.astype(np.int8)), codes)
    traced = jax.jit(bag.counts)(jnp.asarray(codes))
    np.testing.assert_array_equal(traced, counts)
    np.testing.assert_array_equal(jax.jit(bag.code)(traced.astype(jnp.int8)), codes)


# ---------------------------------------------------------------- laws


def test_the_law_of_counts_is_that_of_all_objects() -> None:
    table = np.random.default_rng(1).normal(size=(4, 6))
    counts, log_rewards = listed(table)
    law = CountLaw(table)
    assert law.log_normaliser == pytest.approx(logsumexp(log_rewards), rel=1e-12)
    probs = np.exp(log_softmax(log_rewards))
    expected = [[probs[counts[:, u] == c].sum() for c in range(6)] for u in range(4)]
    np.testing.assert_allclose(law.marginals, expected, atol=1e-12)
    draws = law.draws(np.random.default_rng(2).random((20_000, 4)))
    assert_drawn(BAG.code(draws), log_rewards)


def test_uniform_numbers_at_their_ends_draw_counts() -> None:
    law = CountLaw(np.random.default_rng(3).normal(size=(4, 6)))
    ends = np.array([np.zeros(4), np.full(4, np.nextafter(1.0, 0.0))])
    found = law.draws(ends)
    assert (found.sum(1) == 5).all()
    assert found.tolist() == [[0, 0, 0, 5], [5, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["plain", "inflated"])
def test_densities_and_draws_are_of_the_clients_tables(kind: str) -> None:
    problem, data = made("multisets-large[num_items=4,size=5,num_shards=2]")
    split = problem.split(data, "random", jax.random.key(0))
    density = problem.density(data, split, kind, problem.space)
    draws = problem.draws(data, split, kind, jax.random.key(1), 20_000)
    at = jax.jit(lambda own, codes: jax.vmap(own)(codes))
    every = jnp.arange(problem.space.size)
    for shard in range(2):
        table = np.asarray(data.train["table"])[split.rows(shard)].sum(0)
        log_rewards = (2 if kind == "inflated" else 1) * listed(table)[1]
        np.testing.assert_allclose(at(one(density, shard), every), log_rewards, rtol=1e-12)
        assert_drawn(draws.values[shard], log_rewards)
        expected = log_rewards[draws.values[shard]]
        np.testing.assert_allclose(draws.log_density[shard], expected, rtol=1e-12)


def test_the_truth_is_the_product_of_the_clients() -> None:
    problem, data = made("multisets-large[num_items=4,size=5]")
    counts, log_rewards = listed(np.asarray(data.train["table"]).sum(0))
    truth = problem.truth(data, jax.random.key(2), 20_000)
    assert_drawn(truth.pool, log_rewards)
    told = {check.name: check.value for check in truth.checks}
    log_probs = log_softmax(log_rewards)
    assert told["entropy"] == pytest.approx(-np.exp(log_probs) @ log_probs, rel=1e-9)
    assert told["log normaliser"] == pytest.approx(logsumexp(log_rewards), rel=1e-9)
    np.testing.assert_array_equal(problem.space.embed(truth.pool), counts[truth.pool][:, :-1])


def test_the_certificate_sees_draws_of_another_law() -> None:
    """One item's first copy is worth half a nat more: its mean is off by about 0.1."""
    table = np.random.default_rng(4).normal(size=(4, 6))
    other = table + 0.5 * (np.indices(table.shape) == [[[0]], [[1]]]).all(0)
    uniform = np.random.default_rng(5).random((20_000, 4))
    law = CountLaw(table)
    assert _largest_z(law, law.draws(uniform)) < 5.0
    assert _largest_z(law, CountLaw(other).draws(uniform)) > 6.0


def test_the_target_is_neither_flat_nor_a_point_and_nobody_lists_it() -> None:
    problem, data = made("multisets-large")
    truth = problem.truth(data, jax.random.key(0), 1000)
    told = {check.name: check.value for check in truth.checks}
    assert 1.5 < told["entropy"] < 0.8 * told["entropy of the flat law"]
    assert not any(check.failed for check in truth.checks)
    assert truth.log_probs is None
    with pytest.raises(NotApplicableError, match="1855967520 objects are too many to be listed"):
        num_objects(problem)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("num_items=1", "num_items is 1, size 15; from 2"),
        ("size=128", "size 128; from 2, and from 1 to 127"),
        ("num_items=120,size=30", "more than 2\\^63 objects"),
    ],
)
def test_what_has_no_codes_is_refused(settings: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        configure("problem", f"multisets-large[{settings}]")
