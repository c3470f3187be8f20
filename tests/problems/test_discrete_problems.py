"""Problems of enumerable objects: rewards computed another way, laws that are neither flat nor
points, and environments that do under JAX what their tables say."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import chi2, multivariate_t

from dncbench import run
from dncbench.configure import configure
from dncbench.contracts.real_data import real_data_folder
from dncbench.draws import one
from dncbench.posterior import full_posterior
from dncbench.precision import derive_key
from dncbench.problem import Data, load_data
from dncbench.problems.discrete._enumerated import Enumerated, entropy
from dncbench.problems.discrete._structures import _marginal, graph_scores, local_scores
from dncbench.problems.discrete._trees import Joining, nested, site_log_likelihoods
from dncbench.problems.discrete.phylogenetics import PhylogeneticsDS1
from dncbench.stategraph.graph import tabulate
from dncbench.stategraph.laws import balanced_policy, log_law

DEFAULTS = [
    "grid-world",
    "multisets",
    "multisets[reward=linear]",
    "multisets[reward=pairs]",
    "sequences",
    "sequences[reward=site]",
    "sequences[reward=long]",
    "phylogenetics",
    "phylogenetics[num_taxa=5,num_sites=500]",
    "phylogenetics-ds1",
    "bayes-net",
    "bayes-net[num_nodes=5]",
    "banana-grid",
]
SMALL = [
    "grid-world[size=6]",
    "multisets[num_items=5,size=4]",
    "multisets[num_items=5,size=4,reward=linear]",
    "multisets[num_items=5,size=4,reward=pairs]",
    "sequences[num_symbols=3,length=4,reward=long]",
    "sequences[num_symbols=3,length=4,building=both]",
    "phylogenetics[num_taxa=4,num_sites=100]",
    "bayes-net[num_nodes=3]",
    "banana-grid[size=6]",
]


def made(spec: str) -> tuple[Enumerated, Data]:
    """A problem and its data, as a run has them."""
    entry, problem, *_ = configure("problem", spec)
    if entry.dataset:
        real_data_folder(entry.dataset)
    return problem, load_data(problem, derive_key(0, entry.name, "data"))


def truth_of(spec: str) -> np.ndarray:
    problem, data = made(spec)
    return problem.truth(data, jax.random.key(0), 4).log_probs


@pytest.mark.parametrize("spec", DEFAULTS)
def test_the_target_is_neither_flat_nor_a_point(spec: str) -> None:
    log_probs = truth_of(spec)
    assert 1.5 < entropy(log_probs) < 0.8 * np.log(len(log_probs))


def test_how_sequences_are_built_changes_nothing_of_what_they_are() -> None:
    (tree, data), (many, same) = (
        made(f"sequences[building={name}]") for name in ("append", "both")
    )
    jax.tree.map(np.testing.assert_array_equal, data, same)
    np.testing.assert_array_equal(many.graph.objects, tree.graph.objects)
    np.testing.assert_array_equal(many.log_terms(data.train), tree.log_terms(data.train))
    np.testing.assert_array_equal(many.sites.values, tree.sites.values)
    assert many.space.names == tree.space.names
    pools = [problem.truth(data, jax.random.key(0), 4) for problem in (tree, many)]
    np.testing.assert_array_equal(pools[0].log_probs, pools[1].log_probs)
    np.testing.assert_array_equal(pools[0].pool, pools[1].pool)
    ways = tree.graph.num_trajectories(), many.graph.num_trajectories()
    assert ways == (4**6, 4**6 * 2**5)


@pytest.mark.parametrize("spec", ["multisets", "grid-world", "phylogenetics", "bayes-net"])
def test_a_balanced_policy_has_the_truth_as_its_law(spec: str) -> None:
    problem, data = made(spec)
    log_probs = problem.truth(data, jax.random.key(0), 4).log_probs
    policy = balanced_policy(problem.graph, log_probs)
    found = np.exp(np.asarray(log_law(problem.graph, policy)))
    assert np.abs(found - np.exp(log_probs)).sum() < 1e-9
    assert abs(found.sum() - 1) < 1e-9


@pytest.mark.parametrize("spec", SMALL)
def test_an_environment_does_under_jax_what_its_table_says(spec: str) -> None:
    problem, _ = made(spec)
    graph, environment = problem.graph, problem.environment
    states = jnp.asarray(graph.states, jnp.int32)
    np.testing.assert_array_equal(jax.jit(environment.allowed)(states), graph.allowed)
    np.testing.assert_array_equal(jax.jit(environment.features)(states), graph.features)
    source, action = np.nonzero(graph.allowed)
    after = jax.jit(environment.step)(states[source], jnp.asarray(action))
    np.testing.assert_array_equal(after, graph.states[graph.child[source, action]])


@pytest.mark.parametrize("spec", SMALL)
def test_clients_laws_multiply_to_the_truth(spec: str) -> None:
    problem, data = made(spec)
    for number in range(2):
        split = problem.split(data, "random", jax.random.key(number))
        product = log_softmax(problem.log_rewards(data, split).sum(0))
        expected = problem.truth(data, jax.random.key(0), 4).log_probs
        np.testing.assert_allclose(product, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["plain", "inflated"])
def test_draws_are_of_the_density_that_the_clients_have(kind: str) -> None:
    problem, data = made("grid-world[size=6]")
    split = problem.split(data, "random", jax.random.key(0))
    num = 20_000
    draws = problem.draws(data, split, kind, jax.random.key(1), num)
    power = 4 if kind == "inflated" else 1
    for values, rewards in zip(draws.values, problem.log_rewards(data, split), strict=True):
        expected = num * np.exp(log_softmax(power * rewards))
        counts = np.bincount(values, minlength=len(expected))
        # χ² of what is expected five times at least; the others are one group.
        group = np.where(expected > 5, np.arange(len(expected)), len(expected))
        expected, counts = (np.bincount(group, each) for each in (expected, counts))
        there = expected > 0
        statistic = np.sum((counts - expected)[there] ** 2 / expected[there])
        assert statistic < chi2.isf(1e-4, there.sum() - 1)


def test_coordinates_that_others_determine_are_left_out() -> None:
    names = {spec: made(spec)[0].space.names for spec in SMALL}
    assert names["multisets[num_items=5,size=4]"] == tuple(f"count[{item}]" for item in range(4))
    assert "x[0] is 2" not in names["sequences[num_symbols=3,length=4,reward=long]"]
    problem, _ = made("bayes-net[num_nodes=3]")
    assert problem.dim == 6
    for spec in SMALL:
        problem, _ = made(spec)
        points = problem.space.embed(np.arange(problem.graph.num_objects))
        assert np.linalg.matrix_rank(points - points.mean(0)) == problem.dim


# ---------------------------------------------------------------- rewards, computed another way


@pytest.mark.parametrize("reward", ["linear", "table", "pairs"])
def test_rewards_of_a_multiset(reward: str) -> None:
    problem, data = made(f"multisets[num_items=5,size=4,reward={reward}]")
    terms, bag = problem.log_terms(data.train), (1, 0, 2, 1, 0)
    code = problem.graph.objects.tolist().index(list(bag))
    for client in range(problem.num_shards):
        own = jax.tree.map(lambda leaf, client=client: np.asarray(leaf)[client], data.train)
        if reward == "linear":
            expected = sum(value * count for value, count in zip(own["value"], bag, strict=True))
        else:
            expected = sum(own["table"][item][count] for item, count in enumerate(bag))
        if reward == "pairs":
            expected += own["pair"][0, 2] + own["pair"][0, 3] + own["pair"][2, 3]
        assert terms[client, code] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reward", ["site", "bigram", "long"])
def test_rewards_of_a_sequence(reward: str) -> None:
    problem, data = made(f"sequences[num_symbols=3,length=4,reward={reward}]")
    terms, word = problem.log_terms(data.train), (2, 0, 1, 1)
    code = problem.graph.objects.tolist().index([symbol + 1 for symbol in word])
    for client in range(problem.num_shards):
        own = jax.tree.map(lambda leaf, client=client: np.asarray(leaf)[client], data.train)
        expected = sum(own["place"][i] * own["symbol"][word[i]] for i in range(4))
        if reward != "site":
            expected += sum(own["bigram"][word[i], word[i + 1]] for i in range(3))
        if reward == "long":
            far = [(0, 2), (0, 3), (1, 3)]
            expected += sum(own["long"][i, j, word[i], word[j]] for i, j in far)
        assert terms[client, code] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("reward", "separable"), [("site", True), ("bigram", False)])
def test_sites_alone_are_independent(reward: str, separable: bool) -> None:
    """The control: a product of laws of single places is exact, and only there."""
    problem, data = made(f"sequences[reward={reward}]")
    probs = np.exp(problem.truth(data, jax.random.key(0), 4).log_probs)
    symbols = problem.graph.objects - 1
    product = np.ones(len(probs))
    for place in symbols.T:
        product *= np.bincount(place, probs)[place]
    gap = 0.5 * np.abs(product - probs).sum()
    assert gap < 1e-12 if separable else gap > 0.3


def test_site_likelihoods_by_summing_over_ancestors() -> None:
    """Of the trees ((0 1) 2) and (0 (1 2)), over all nucleotides of the two inner nodes."""
    environment, length = Joining(3), 0.3
    graph = tabulate(environment)
    sites = np.array(list(itertools.product(range(5), repeat=3)))
    found = site_log_likelihoods(graph.objects, environment.clades, sites, length)
    stay = np.exp(-4 * length / 3)
    change = [[0.25 * (1 - stay) + stay * (a == b) for b in range(4)] for a in range(4)]
    change = np.column_stack([change, np.ones(4)])  # anything may be where nothing is known
    trees = [nested(environment.clades[row > 0].tolist()) for row in graph.objects]
    for tree in [((0, 1), 2), (0, (1, 2))]:
        (inner, outer) = sorted(tree, key=lambda part: isinstance(part, int))
        code = next(k for k, other in enumerate(trees) if set(other) == {inner, outer})
        for row, site in enumerate(sites):
            total = sum(
                0.25
                * change[root][site[outer]]
                * change[root][node]
                * change[node][site[inner[0]]]
                * change[node][site[inner[1]]]
                for root in range(4)
                for node in range(4)
            )
            assert found[row, code] == pytest.approx(np.log(total), rel=1e-12)


def test_the_branch_length_of_the_real_trees_is_the_most_likely_one() -> None:
    problem, data = made("phylogenetics-ds1")
    environment, trees = problem.environment, problem.graph.objects
    sites, often = np.unique(np.asarray(data.train["site"]), axis=0, return_counts=True)

    def worse(length: float) -> float:
        return -float(
            (often @ site_log_likelihoods(trees, environment.clades, sites, length)).max()
        )

    found = minimize_scalar(worse, bounds=(0.005, 0.03), method="bounded")
    assert PhylogeneticsDS1().length() == pytest.approx(found.x, rel=1e-3)


def test_the_score_of_one_variable_is_student_s() -> None:
    """x_i ~ N(μ, 1/w), μ ~ N(0, 1/w), w ~ Γ(3/2, rate 1/4): t with 3 degrees of freedom."""
    rows = np.random.default_rng(0).normal(1.0, 2.0, size=(6, 3))
    shape = (np.eye(6) + np.ones((6, 6))) * 0.5 / 3.0
    expected = multivariate_t(np.zeros(6), shape, df=3.0).logpdf(rows[:, 1])
    assert local_scores(rows)[1, 0] == pytest.approx(float(expected), rel=1e-12)


def test_a_variable_integrates_out_of_the_score() -> None:
    """∫ p(x1, x2) dx2 = p(x1), for one observation."""
    score = lambda x: np.exp(_marginal(np.array([[0.7, x, 0.0]]), [0, 1]))  # noqa: E731
    total = quad(score, -np.inf, np.inf, epsabs=1e-12)[0]
    assert np.log(total) == pytest.approx(_marginal(np.array([[0.7, 0.0, 0.0]]), [0]), rel=1e-8)


def test_equivalent_graphs_score_equally() -> None:
    rows = np.random.default_rng(1).normal(size=(30, 3)) @ np.array(
        [[1, 0.5, 0], [0, 1, 2], [0, 0, 1]]
    )
    chain = np.zeros((3, 3, 3), dtype=int)  # 0 → 1 → 2, 0 ← 1 ← 2, 0 ← 1 → 2: no collider
    for k, edges in enumerate([[(0, 1), (1, 2)], [(2, 1), (1, 0)], [(1, 0), (1, 2)]]):
        for edge in edges:
            chain[(k, *edge)] = 1
    collider = np.zeros((1, 3, 3), dtype=int)
    collider[0, 0, 1] = collider[0, 2, 1] = 1
    scores = local_scores(rows)
    same = graph_scores(chain, scores)
    np.testing.assert_allclose(same, same[0], rtol=1e-12)
    assert abs(graph_scores(collider, scores)[0] - same[0]) > 0.1


def test_the_certificate_tells_how_far_clients_are_from_all_rows_together() -> None:
    problem, data = made("bayes-net")
    checks = problem.truth(data, jax.random.key(0), 4).checks
    gap = next(check for check in checks if "all rows together" in check.name)
    assert gap.limit is None
    rows = np.asarray(data.train["x"]).reshape(1, -1, 4)
    pooled = np.exp(log_softmax(problem.log_terms({"x": rows})[0]))
    product = np.exp(problem.truth(data, jax.random.key(0), 4).log_probs)
    assert gap.value == pytest.approx(0.5 * np.abs(pooled - product).sum(), rel=1e-9)
    # One client alone has all rows, and no gap.
    alone, own = made("bayes-net[num_shards=1]")
    assert alone.truth(own, jax.random.key(0), 4).checks[-1].value < 1e-12


def test_cells_are_the_banana_at_their_centres() -> None:
    problem, data = made("banana-grid")
    banana = configure("problem", "banana")[1]
    density = full_posterior(banana, data)
    centres = problem.space.embed(np.arange(problem.graph.num_objects))
    expected = np.asarray(jax.vmap(one(density))(jnp.asarray(centres)))
    found = problem.log_rewards(data, problem.whole(data))[0]
    np.testing.assert_allclose(found - expected, found[0] - expected[0], atol=1e-8)
    # Nearly all of the posterior is inside the cells.
    points = banana.exact_draws(data.train, jax.random.key(0), 20_000)
    side = np.ptp(centres, axis=0) / 17
    inside = (points > centres.min(0) - side / 2) & (points < centres.max(0) + side / 2)
    assert np.mean(~inside.all(1)) < 0.004


@pytest.mark.parametrize(("num_sites", "status"), [(60, "ok"), (6000, "unreliable")])
def test_properties_that_no_draw_has_end_no_run(
    num_sites: int, status: str, tmp_path, session_cache
) -> None:
    """With many sites all draws of every shard are one tree, which is worth one draw."""
    spec = f"phylogenetics[num_taxa=4,num_sites={num_sites},branch_length=0.2]"
    problem, data = made(spec)
    split = problem.split(data, "random", derive_key(0, "phylogenetics", "random-0"))
    values = problem.draws(data, split, "plain", jax.random.key(0), 400).values
    seen = [np.ptp(problem.space.embed(shard), axis=0) > 0 for shard in values]
    assert not np.all(seen)
    assert np.any(seen) == (num_sites == 60)
    (record,) = run(
        spec, "empirical-product", splits=1, budget="smoke", results=tmp_path, cache=session_cache
    )
    assert record["status"] == status


@pytest.mark.parametrize(
    "spec",
    ["multisets[reward=tabel]", "sequences[reward=bigrams]", "sequences[building=apend]"],
)
def test_an_unknown_reward_is_refused_with_the_nearest(spec: str) -> None:
    with pytest.raises(Exception, match=r"did you mean (table|bigram|append)"):
        configure("problem", spec)
