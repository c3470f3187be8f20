"""Laws of every registered problem; a new one is held to them without being named here."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench import registry
from dncbench.contracts.real_data import real_data_folder
from dncbench.contracts.subjects import everything, subjects
from dncbench.errors import NotApplicableError
from dncbench.posterior import Density, full_posterior, subposteriors
from dncbench.precision import derive_key
from dncbench.problem import Problem, load_data, num_observations
from dncbench.splits import assign
from dncbench.truth.verification import recompute

NEEDS_DATA = {
    "spambase": "spambase",
    "power-plant": "power_plant",
    "power-plant-one-row": "power_plant",
}
SMALLER = {"logistic-tall": {"num_observations": 2000}}  # one law walks through all observations
FORGETS_ROWS = {"power-plant-one-row"}  # on purpose, as the published code does
STACKED = eqx.if_array(0)  # a problem's settings are plain numbers and not stacked
SCHEMES = ["random", "in-order", "sizes:0.5", "dirichlet:0.5", "sorted-by-label"]


class Positive(Problem):
    """Waiting times with a positive rate and a log-normal scale: constrain is not the identity."""

    num_shards: int = 5
    dim = 2

    def data(self, key):
        return {"y": jax.random.exponential(key, (83,)) / 3.0}

    def log_prior(self, theta):
        return jnp.log(theta[0]) - 2.0 * theta[0] - 0.5 * theta[1] ** 2

    def log_likelihood(self, theta, observation):
        return jnp.log(theta[0]) - theta[0] * observation["y"] * jnp.cosh(theta[1])

    def constrain(self, eta):
        return jnp.array([jnp.exp(eta[0]), eta[1] + 0.1 * eta[0]])


@pytest.fixture(
    scope="module",
    params=[entry.name for entry in subjects("problem")] + ["positive"] * everything(),
)
def named(request: pytest.FixtureRequest) -> tuple[str, Problem, dict]:
    name = request.param
    if name in NEEDS_DATA:
        real_data_folder(NEEDS_DATA[name])
    problem = Positive()
    if name != "positive":
        problem = registry.get("problem", name).target(**SMALLER.get(name, {}))
    return name, problem, load_data(problem, derive_key(0, name, "data"))


def split(named: tuple[str, Problem, dict], scheme: str) -> np.ndarray:
    name, problem, data = named
    try:
        return assign(
            scheme,
            derive_key(0, name, scheme),
            num_observations(data),
            problem.num_shards,
            problem.labels(data),
        )
    except NotApplicableError as error:
        pytest.skip(str(error))


def points(problem: Problem, number: int) -> jax.Array:
    return 0.3 * jax.random.normal(jax.random.key(1), (number, problem.dim))


@eqx.filter_jit
def at(densities: Density, eta: jax.Array) -> jax.Array:
    """(S, points) log densities."""
    each = eqx.filter_vmap(lambda density, eta: jax.vmap(density)(eta), in_axes=(STACKED, None))
    return each(densities, eta)


@eqx.filter_jit
def scores_at(densities: Density, eta: jax.Array) -> jax.Array:
    """(S, points, d) gradients."""
    each = eqx.filter_vmap(
        lambda density, eta: jax.vmap(jax.grad(lambda point: density(point)))(eta),
        in_axes=(STACKED, None),
    )
    return each(densities, eta)


def one(densities: Density, shard: int) -> Density:
    """One shard's density with its padding cut off."""
    rows = np.flatnonzero(np.asarray(densities.mask[shard]))
    cut = jax.tree.map(
        lambda leaf: leaf[shard : shard + 1, rows], (densities.observations, densities.mask)
    )
    weights = densities.prior_weight, densities.likelihood_weight, densities.jacobian_weight
    return Density(densities.problem, *cut, *(weight[shard, None] for weight in weights))


def assert_constant(gap: np.ndarray, size: float) -> None:
    # Sums of up to some thousands of terms: rounding errors of 1e-13 of their size.
    assert np.ptp(gap) < 1e-11 * size


def test_data_have_one_leading_axis_and_are_finite(named) -> None:
    _, problem, data = named
    leaves = jax.tree.leaves(data)
    assert {leaf.shape[0] for leaf in leaves} == {num_observations(data)}
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert num_observations(data) >= problem.num_shards
    labels = problem.labels(data)
    assert labels is None or len(labels) == num_observations(data)


def test_data_are_the_same_every_time(named) -> None:
    name, problem, data = named
    again = load_data(problem, derive_key(0, name, "data"))
    jax.tree.map(np.testing.assert_array_equal, data, again)


def test_every_parameter_has_a_name_of_its_own(named) -> None:
    _, problem, _ = named
    assert len(problem.parameter_names) == problem.dim
    assert len(set(problem.parameter_names)) == problem.dim
    assert all(isinstance(name, str) and name for name in problem.parameter_names)


def test_constraining_is_one_to_one(named) -> None:
    _, problem, _ = named
    eta = points(problem, 6)
    theta = jax.vmap(problem.constrain)(eta)
    assert theta.shape == (6, problem.dim)
    jacobians = jax.vmap(jax.jacfwd(problem.constrain))(eta)
    assert np.all(np.linalg.slogdet(np.asarray(jacobians))[1] > -np.inf)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_subposteriors_multiply_to_the_posterior(named, scheme: str) -> None:
    _, problem, data = named
    eta = points(problem, 8)
    shards = np.asarray(at(subposteriors(problem, data, split(named, scheme)), eta))
    full = np.asarray(at(full_posterior(problem, data), eta))[0]
    assert np.ptp(full) > 1.0  # else constancy says nothing
    size = np.abs(full).max() + np.abs(shards).sum(0).max()
    if named[0] in FORGETS_ROWS:  # which this law must see
        with pytest.raises(AssertionError):
            assert_constant(shards.sum(0) - full, size)
        return
    assert_constant(shards.sum(0) - full, size)


def test_subposteriors_of_natural_parameters_multiply_to_the_posterior(named) -> None:
    name, problem, data = named
    if not problem.is_constrained() or name in FORGETS_ROWS:
        pytest.skip("η and θ are the same, or rows are forgotten on purpose")
    theta = jax.vmap(problem.constrain)(points(problem, 8))
    densities = subposteriors(problem, data, split(named, "sizes:0.5"), space="natural")
    shards = np.asarray(at(densities.in_theta(), theta))
    full = np.asarray(at(full_posterior(problem, data).in_theta(), theta))[0]
    assert_constant(shards.sum(0) - full, np.abs(full).max() + np.abs(shards).sum(0).max())


def test_a_density_of_natural_parameters_lacks_the_jacobian_alone(named) -> None:
    _, problem, data = named
    if not problem.is_constrained():
        pytest.skip("η and θ are the same")
    eta = points(problem, 8)
    densities = subposteriors(problem, data, split(named, "random"), space="natural")
    of_eta, of_theta = (
        at(densities, eta),
        at(densities.in_theta(), jax.vmap(problem.constrain)(eta)),
    )
    jacobians = np.asarray(jax.vmap(jax.jacfwd(problem.constrain))(eta))
    expected = np.broadcast_to(np.linalg.slogdet(jacobians)[1], of_eta.shape)
    np.testing.assert_allclose(of_eta - of_theta, expected, rtol=1e-6, atol=1e-6)


def test_permutations_leave_the_posterior_alone(named) -> None:
    _, problem, data = named
    if problem.permutations is None:
        pytest.skip("no exchangeable labels")
    density, (eta,) = full_posterior(problem, data), points(problem, 1)
    copies = at(density, eta[problem.permutations])[0]
    np.testing.assert_allclose(copies, copies[0], rtol=1e-12)
    assert len(np.unique(problem.permutations, axis=0)) == len(problem.permutations)


@pytest.mark.parametrize("scheme", ["random", "sizes:0.5"])
@pytest.mark.parametrize("inflated", [False, True])
def test_shards_are_prior_and_likelihood_to_their_powers(
    named, scheme: str, inflated: bool
) -> None:
    # One observation after another, through neither the mask nor the stack.
    _, problem, data = named
    shard_of, num_shards = split(named, scheme), problem.num_shards
    (eta,) = points(problem, 1)
    theta = problem.constrain(eta)
    _, log_jacobian = np.linalg.slogdet(np.asarray(jax.jacfwd(problem.constrain)(eta)))
    prior = float(problem.log_prior(theta)) + log_jacobian
    each = jax.jit(problem.log_likelihood)
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, data))
    rows = zip(*leaves, strict=True)
    terms = np.array([each(theta, jax.tree.unflatten(structure, row)) for row in rows])
    likelihoods = np.bincount(shard_of, terms, num_shards)
    if named[0] in FORGETS_ROWS:
        likelihoods = np.array(
            [terms[problem.counted(np.flatnonzero(shard_of == s))[0]] for s in range(num_shards)]
        )
    weights = (1.0, num_shards) if inflated else (1 / num_shards, 1.0)
    expected = weights[0] * prior + weights[1] * likelihoods
    values = at(subposteriors(problem, data, shard_of, inflated=inflated), eta[None])[:, 0]
    np.testing.assert_allclose(values, expected, rtol=1e-10)


@pytest.mark.parametrize("inflated", [False, True])
def test_scores_are_finite_and_those_of_the_model(named, inflated: bool) -> None:
    _, problem, data = named
    shard_of, eta = split(named, "sizes:0.5"), points(problem, 3)
    densities = subposteriors(problem, data, shard_of, inflated=inflated)
    scores = scores_at(densities, eta)
    assert np.isfinite(scores).all()
    rows = problem.counted(np.flatnonzero(shard_of == 0))
    prior, likelihood = (1.0, problem.num_shards) if inflated else (1 / problem.num_shards, 1.0)
    weights = prior, float(likelihood), prior
    _, expected = recompute(problem, data, rows, eta, *weights)
    np.testing.assert_allclose(scores[0], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_observation_is_used_once(named, scheme: str) -> None:
    _, problem, data = named
    densities = subposteriors(problem, data, split(named, scheme))
    used = np.asarray(densities.mask) > 0
    if named[0] in FORGETS_ROWS:  # which this law must see
        assert used.sum() == problem.num_shards < num_observations(data)
        return
    assert used.sum() == num_observations(data)
    for stacked, original in zip(
        jax.tree.leaves(densities.observations), jax.tree.leaves(data), strict=True
    ):
        rows = np.asarray(stacked)[used].reshape(len(original), -1)
        expected = np.asarray(original).reshape(len(original), -1)
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_padding_contributes_nothing(named) -> None:
    _, problem, data = named
    densities = subposteriors(problem, data, split(named, "sizes:0.5"))
    if named[0] in FORGETS_ROWS:
        pytest.skip("one row for each density: there is no padding")
    smallest = int(np.argmin(densities.mask.sum(1)))
    assert densities.mask[smallest].sum() < densities.mask.shape[1]
    eta = points(problem, 3)
    cut = at(one(densities, smallest), eta)[0]
    np.testing.assert_allclose(at(densities, eta)[smallest], cut, rtol=1e-12)


def test_a_log_jacobian_without_its_share_would_be_seen() -> None:
    # What the law above would say of subposteriors that each carry the whole log-Jacobian.
    problem = Positive()
    data = load_data(problem, derive_key(0, "positive", "data"))
    shard_of = np.arange(num_observations(data)) % problem.num_shards
    eta = points(problem, 8)
    shards = np.asarray(at(subposteriors(problem, data, shard_of), eta))
    full = np.asarray(at(full_posterior(problem, data), eta))[0]
    log_jacobian = np.asarray(eta[:, 0])  # |∂θ/∂η| = exp(η_0)
    wrong = shards + (1 - 1 / problem.num_shards) * log_jacobian
    size = np.abs(full).max() + np.abs(shards).sum(0).max()
    assert_constant(shards.sum(0) - full, size)
    with pytest.raises(AssertionError):
        assert_constant(wrong.sum(0) - full, size)
