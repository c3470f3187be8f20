"""Merges of coded objects: exact where their assumption holds, and only there."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.configure import configure
from dncbench.errors import NotApplicableError, UnknownNameError
from dncbench.merging.executors import Local
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Shard
from dncbench.methods.discrete.kernel_product import KernelProduct
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.stategraph.sites import Sites

SMALL_SEQUENCES = "num_symbols=3,length=4"


def given(spec: str, num_draws: int) -> tuple[Shard, np.ndarray]:
    """What the shards have, and the true law."""
    entry, problem, *_ = configure("problem", spec)
    data = load_data(problem, derive_key(0, entry.name, "data"))
    split = problem.split(data, "random", jax.random.key(0))
    draws = problem.draws(data, split, "plain", jax.random.key(1), num_draws)
    shard = Shard(
        values=jnp.asarray(draws.values),
        density=problem.density(data, split, "plain", problem.space),
        problem=problem,
        num_shards=problem.num_shards,
        ess=jnp.full(problem.num_shards, float(num_draws)),
    )
    return shard, np.exp(problem.truth(data, jax.random.key(2), 4).log_probs)


def merged(method: str, shard: Shard) -> MergeResult:
    configured = configure("method", method)[1]
    executor = Local(time_alone=False)
    return run_method(
        configured, method, shard, jax.random.key(3), 50, shard.problem.space, executor
    )


def distance(method: str, problem: str, num_draws: int = 100) -> float:
    """Total variation."""
    shard, law = given(problem, num_draws)
    return 0.5 * float(np.abs(np.exp(merged(method, shard).log_probs) - law).sum())


@pytest.mark.parametrize(
    ("reward", "least", "most"), [("site", 0.0, 1e-6), ("bigram", 0.2, 1.0), ("long", 0.2, 1.0)]
)
def test_pcvi_is_exact_for_independent_places(reward: str, least: float, most: float) -> None:
    found = distance("pcvi", f"sequences[{SMALL_SEQUENCES},reward={reward}]")
    assert least <= found < most


def test_pcvi_counts_orders_once_or_with_every_client() -> None:
    """Log rewards that are linear in the counts are a client's own law but for the orders."""
    shard, law = given("multisets[num_items=4,size=3,reward=linear]", 10)
    sites: Sites = shard.problem.sites
    natural = [
        np.asarray(merged(f"pcvi[base={base}]", shard).log_probs) for base in ("once", "each")
    ]
    # The orders are what the two differ by: three times more.
    gap = natural[1] - natural[0] - 3 * sites.log_orders()
    np.testing.assert_allclose(gap, gap[0], atol=1e-9)
    assert 0.01 < np.abs(np.exp(natural[0]) - law).sum() < np.abs(np.exp(natural[1]) - law).sum()


def test_pcvi_finds_the_least_divergence() -> None:
    """One client's law: whatever parameter is moved, the divergence grows."""
    shard, _ = given("sequences[num_shards=1,num_symbols=2,length=3]", 10)
    log_probs = np.asarray(merged("pcvi", shard).log_probs)
    aim = jax.nn.log_softmax(jax.vmap(jax.tree.map(lambda a: a[0], shard.density))(jnp.arange(8)))
    statistics = shard.problem.sites.statistics()

    def divergence(moved: np.ndarray) -> float:
        logs = np.asarray(jax.nn.log_softmax(jnp.asarray(log_probs + statistics @ moved)))
        return float(np.exp(logs) @ (logs - np.asarray(aim)))

    least = divergence(np.zeros(6))
    assert least > 1e-3  # bigrams are beyond it; a step of 0.01 makes some 1e-5
    for place, side in itertools.product(range(6), (-0.01, 0.01)):
        assert divergence(side * np.eye(6)[place]) > least


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("empirical-product", "multisets[num_items=4,size=3]"),
        ("markov-product", f"sequences[{SMALL_SEQUENCES}]"),
        ("kernel-product", f"sequences[{SMALL_SEQUENCES}]"),
        ("kernel-product[start=flat]", "multisets[num_items=4,size=3]"),
    ],
)
def test_what_is_consistent_comes_closer_with_more_draws(method: str, problem: str) -> None:
    """A hundred times the draws: a tenth of the error, and less than half for certain."""
    few, many = (distance(method, problem, num) for num in (400, 40_000))
    assert many < 0.5 * few
    assert many < 0.1


def test_a_markov_chain_is_not_enough_for_what_is_further_apart() -> None:
    assert distance("markov-product", f"sequences[{SMALL_SEQUENCES},reward=long]", 40_000) > 0.15


@pytest.mark.parametrize(
    "sites",
    [
        Sites(np.array(list(itertools.product(range(3), repeat=3)))),
        Sites(np.array(list(itertools.combinations_with_replacement(range(3), 3))), True),
    ],
    ids=["ordered", "exchangeable"],
)
def test_kernel_densities_are_sums_of_kernels(sites: Sites) -> None:
    codes = np.array([0, 3, 3, 7, 1, 9, 9, 9])
    found, h = KernelProduct()._log_density(sites, jnp.asarray(codes), len(sites.values))
    counts = np.bincount(codes, minlength=len(sites.values))
    start = np.exp(np.asarray(KernelProduct()._log_start(sites, jnp.asarray(counts, float))))
    bags = [np.bincount(row, minlength=3) for row in sites.values]

    def differ(x: int, y: int) -> Any:
        if sites.exchangeable:
            return 3 - np.minimum(bags[x], bags[y]).sum()
        return (sites.values[x] != sites.values[y]).sum()

    h = float(h)
    for x in range(len(start)):
        kernels = [(1 - h) ** (3 - differ(x, y)) * (h / 2) ** differ(x, y) for y in codes]
        expected = start[x] * np.sum(np.array(kernels) / start[codes])
        assert np.exp(found[x]) == pytest.approx(expected, rel=1e-5)  # single precision


def test_orders_of_a_multiset_are_counted() -> None:
    sites = Sites(np.array([[0, 0, 1], [0, 1, 2], [2, 2, 2]]), exchangeable=True)
    np.testing.assert_allclose(np.exp(sites.log_orders()), [3, 6, 1])


@pytest.mark.parametrize("method", ["pcvi", "markov-product", "kernel-product"])
def test_trees_are_no_values_at_places(method: str) -> None:
    shard, _ = given("phylogenetics[num_taxa=4,num_sites=100]", 20)
    with pytest.raises(NotApplicableError, match="no values at places"):
        merged(method, shard)


def test_one_shard_is_decoded_to_what_it_drew() -> None:
    """On a grid a point stays in its cell: the pooled draws of one shard come back."""
    shard, _ = given("banana-grid[size=6,num_shards=1]", 50)
    found = merged("pooled + decoded", shard).draws
    np.testing.assert_array_equal(np.sort(found), np.sort(np.asarray(shard.values)[0]))


def test_merges_of_points_aim_at_the_law_of_the_cells() -> None:
    """Nearly Gaussian peaks on a grid: the product of Gaussians is close, an average is not."""
    shard, law = given("banana-grid", 4000)

    def distance_of_draws(method: str) -> float:
        configured = configure("method", method)[1]
        executor = Local(time_alone=False)
        space = shard.problem.space
        draws = run_method(
            configured, method, shard, jax.random.key(3), 4000, space, executor
        ).draws
        return 0.5 * float(np.abs(np.bincount(draws, minlength=len(law)) / 4000 - law).sum())

    floor = np.sum(np.sqrt(law * (1 - law) / (2 * np.pi * 4000)))  # of as many perfect draws
    near, far = distance_of_draws("nonparametric + decoded"), distance_of_draws("pooled + decoded")
    assert floor < near < 0.7 * far


def test_codes_are_no_points_to_decode() -> None:
    shard, _ = given("banana-grid[size=6]", 50)
    with pytest.raises(NotApplicableError, match="empirical-product"):
        merged("empirical-product + decoded", shard)
    with pytest.raises(NotApplicableError, match="score"):
        merged("score-regression + decoded", shard)


@pytest.mark.parametrize("spec", ["pcvi[base=twice]", "kernel-product[start=nowhere]"])
def test_unknown_settings_are_refused(spec: str) -> None:
    with pytest.raises(UnknownNameError, match="known: "):
        configure("method", spec)
