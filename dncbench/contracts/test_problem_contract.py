"""Laws of every registered problem; a new one is held to them without being named here."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench import registry
from dncbench.configure import configure
from dncbench.contracts.real_data import real_data_folder
from dncbench.contracts.subjects import everything, subjects
from dncbench.errors import NotApplicableError
from dncbench.posterior import (
    SPACES,
    Density,
    Posterior,
    densities,
    full_posterior,
    subposteriors,
    weights,
)
from dncbench.precision import derive_key
from dncbench.problem import Data, Problem, Split, load_data
from dncbench.truth.verification import recompute

STACKED = eqx.if_array(0)  # a problem's settings are plain numbers and not stacked
SCHEMES = ["random", "in-order", "sizes:0.5", "dirichlet:0.5", "sorted-by-label"]
NUM_POINTS = 8


class Positive(Posterior):
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


@dataclasses.dataclass
class Subject:
    """A problem that is held to the laws, and what they all look at.

    Attributes:
        name: of the problem.
        problem: with its small settings.
        data: as loaded.
        control: its subposteriors do not multiply to its posterior, on purpose.
    """

    name: str
    problem: Problem
    data: Data
    control: bool = False

    def split(self, scheme: str) -> Split:
        """Of a scheme; where it does not go with the data, the law is not applied."""
        try:
            return self.problem.split(self.data, scheme, derive_key(0, self.name, scheme))
        except NotApplicableError as error:
            pytest.skip(str(error))

    @functools.cached_property
    def prior(self) -> float:
        """Log prior and log Jacobian at the first point."""
        eta = points(self.problem)[0]
        _, log_jacobian = np.linalg.slogdet(np.asarray(jax.jacfwd(self.problem.constrain)(eta)))
        return float(self.problem.log_prior(self.problem.constrain(eta))) + float(log_jacobian)

    @functools.cached_property
    def terms(self) -> np.ndarray:
        """Log likelihoods of all observations at the first point, one after another.

        Through neither the mask nor the stack of a density.
        """
        theta = self.problem.constrain(points(self.problem)[0])
        each = lambda row: self.problem.log_likelihood(theta, row)  # noqa: E731
        return np.asarray(jax.jit(lambda rows: jax.lax.map(each, rows))(self.data.train))


@pytest.fixture(
    scope="module",
    params=[entry.name for entry in subjects("problem")] + ["positive"] * everything(),
)
def anything(request: pytest.FixtureRequest) -> Subject:
    name = request.param
    if name == "positive":
        problem: Problem = Positive()
        return Subject(name, problem, load_data(problem, derive_key(0, name, "data")))
    entry = registry.get("problem", name)
    if entry.dataset:
        real_data_folder(entry.dataset)
    problem = configure("problem", entry.small_spec)[1]
    return Subject(name, problem, load_data(problem, derive_key(0, name, "data")), entry.control)


@pytest.fixture
def subject(anything: Subject) -> Subject:
    """One that is a posterior: the laws of densities are for those."""
    if not isinstance(anything.problem, Posterior):
        pytest.skip("not a dncbench.Posterior: it has no log prior and likelihood")
    return anything


def points(problem: Problem) -> jax.Array:
    """As many in all laws, so that a density is compiled once for them."""
    return 0.3 * jax.random.normal(jax.random.key(1), (NUM_POINTS, problem.dim))


@eqx.filter_jit
def at(stack: Density, eta: jax.Array) -> jax.Array:
    """(S, points) log densities."""
    each = eqx.filter_vmap(lambda density, eta: jax.vmap(density)(eta), in_axes=(STACKED, None))
    return each(stack, eta)


@eqx.filter_jit
def scores_at(stack: Density, eta: jax.Array) -> jax.Array:
    """(S, points, d) gradients."""
    each = eqx.filter_vmap(
        lambda density, eta: jax.vmap(jax.grad(lambda point: density(point)))(eta),
        in_axes=(STACKED, None),
    )
    return each(stack, eta)


def one(stack: Density, shard: int) -> Density:
    """One shard's density with its padding cut off."""
    rows = np.flatnonzero(np.asarray(stack.mask[shard]))
    cut = jax.tree.map(lambda leaf: leaf[shard : shard + 1, rows], (stack.observations, stack.mask))
    weights = stack.prior_weight, stack.likelihood_weight, stack.jacobian_weight
    return Density(stack.problem, *cut, *(weight[shard, None] for weight in weights))


def assert_constant(gap: np.ndarray, size: float) -> None:
    # Sums of up to some thousands of terms: rounding errors of 1e-13 of their size.
    assert np.ptp(gap) < 1e-11 * size


def test_there_are_enough_data_for_the_shards(anything: Subject) -> None:
    problem, data = anything.problem, anything.data
    if data.num_observations == 0:
        pytest.skip("no observations: each shard holds what the problem says")
    assert data.num_observations >= problem.num_shards
    for per_row in (problem.labels(data.train), problem.groups(data.train)):
        assert per_row is None or len(per_row) == data.num_observations


def test_a_split_deals_out_whole_units(anything: Subject) -> None:
    problem, data, split = anything.problem, anything.data, anything.split("random")
    assert split.num_shards == problem.num_shards
    assert len(split.shard_of) == data.num_observations
    if data.num_observations:
        assert min(split.sizes) > 0
        groups = problem.groups(data.train)
        for group in np.unique([] if groups is None else groups):
            assert len(np.unique(split.shard_of[groups == group])) == 1


def test_a_space_embeds_draws_of_its_own(anything: Subject) -> None:
    """What the problem knows or draws itself passes its own space, and has a coordinate each."""
    problem, data = anything.problem, anything.data
    truth = problem.truth(data, jax.random.key(2), 64)
    if truth is None:
        pytest.skip("the harness samples it")
    pool = problem.space.check(np.asarray(truth.pool)[:64], 64, "truth()")
    embedded = problem.space.embed(pool)
    assert embedded.shape == (64, problem.dim)
    assert np.isfinite(embedded).all()
    assert truth.checks
    assert not [check for check in truth.checks if check.failed]


def test_is_judged_by_metrics_that_mean_something(anything: Subject) -> None:
    """Headline metrics are registered, and need no moments that the posterior does not have."""
    for name in anything.problem.headline:
        assert registry.get("metric", name).moments <= anything.problem.finite_moments, name


def test_data_are_the_same_every_time(anything: Subject) -> None:
    again = load_data(anything.problem, derive_key(0, anything.name, "data"))
    jax.tree.map(np.testing.assert_array_equal, anything.data, again)


def test_every_coordinate_has_a_name_of_its_own(anything: Subject) -> None:
    names = anything.problem.space.names
    assert len(names) == anything.problem.dim
    assert len(set(names)) == len(names)
    assert all(isinstance(name, str) and name for name in names)


def test_constraining_is_one_to_one(subject: Subject) -> None:
    """Newton's method comes back from θ to the η that it was made of."""
    problem = subject.problem
    if not problem.is_constrained():
        pytest.skip("η and θ are the same")
    eta = points(problem)
    theta = jax.vmap(problem.constrain)(eta)
    assert theta.shape == (NUM_POINTS, problem.dim)

    def back(theta: jax.Array) -> jax.Array:
        def step(guess: jax.Array, _: None) -> tuple[jax.Array, None]:
            slope = jax.jacfwd(problem.constrain)(guess)
            return guess - jnp.linalg.solve(slope, problem.constrain(guess) - theta), None

        return jax.lax.scan(step, jnp.zeros(problem.dim), length=30)[0]

    np.testing.assert_allclose(jax.vmap(back)(theta), eta, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_subposteriors_multiply_to_the_posterior(subject: Subject, scheme: str) -> None:
    problem, data = subject.problem, subject.data
    eta = points(problem)
    shards = np.asarray(at(subposteriors(problem, data, subject.split(scheme)), eta))
    full = np.asarray(at(full_posterior(problem, data), eta))[0]
    assert np.ptp(full) > 1.0  # else constancy says nothing
    size = np.abs(full).max() + np.abs(shards).sum(0).max()
    if subject.control:  # which this law must see
        with pytest.raises(AssertionError):
            assert_constant(shards.sum(0) - full, size)
        return
    assert_constant(shards.sum(0) - full, size)


def test_subposteriors_of_natural_parameters_multiply_to_the_posterior(subject: Subject) -> None:
    problem, data = subject.problem, subject.data
    if not problem.is_constrained() or subject.control:
        pytest.skip("η and θ are the same, or rows are forgotten on purpose")
    theta = jax.vmap(problem.constrain)(points(problem))
    found = subposteriors(problem, data, subject.split("sizes:0.5"), space="natural")
    shards = np.asarray(at(found.in_theta(), theta))
    full = np.asarray(at(full_posterior(problem, data).in_theta(), theta))[0]
    assert_constant(shards.sum(0) - full, np.abs(full).max() + np.abs(shards).sum(0).max())


def test_a_density_of_natural_parameters_lacks_the_jacobian_alone(subject: Subject) -> None:
    problem, data = subject.problem, subject.data
    if not problem.is_constrained():
        pytest.skip("η and θ are the same")
    eta = points(problem)
    found = subposteriors(problem, data, subject.split("random"), space="natural")
    of_eta, of_theta = (
        at(found, eta),
        at(found.in_theta(), jax.vmap(problem.constrain)(eta)),
    )
    jacobians = np.asarray(jax.vmap(jax.jacfwd(problem.constrain))(eta))
    expected = np.broadcast_to(np.linalg.slogdet(jacobians)[1], of_eta.shape)
    np.testing.assert_allclose(of_eta - of_theta, expected, rtol=1e-6, atol=1e-6)


def test_permutations_leave_the_posterior_alone(subject: Subject) -> None:
    problem, data = subject.problem, subject.data
    if problem.permutations is None:
        pytest.skip("no exchangeable labels")
    density, eta = full_posterior(problem, data), points(problem)[0]
    copies = at(density, eta[problem.permutations])[0]
    np.testing.assert_allclose(copies, copies[0], rtol=1e-12)
    assert len(np.unique(problem.permutations, axis=0)) == len(problem.permutations)


@pytest.mark.parametrize("scheme", ["random", "sizes:0.5"])
@pytest.mark.parametrize("kind", ["plain", "inflated"])
def test_shards_are_prior_and_likelihood_to_their_powers(
    subject: Subject, scheme: str, kind: str
) -> None:
    problem, split = subject.problem, subject.split(scheme)
    likelihoods = np.array([subject.terms[split.rows(s)].sum() for s in range(split.num_shards)])
    powers = (1.0, split.num_shards) if kind == "inflated" else (1 / split.num_shards, 1.0)
    expected = powers[0] * subject.prior + powers[1] * likelihoods
    found = densities(problem, subject.data.train, split, kind)
    np.testing.assert_allclose(at(found, points(problem))[:, 0], expected, rtol=1e-10)


@pytest.mark.parametrize("inflated", [False, True])
def test_scores_are_finite_and_those_of_the_model(subject: Subject, inflated: bool) -> None:
    problem, data = subject.problem, subject.data
    split, eta = subject.split("sizes:0.5"), points(problem)
    found = subposteriors(problem, data, split, inflated=inflated)
    scores = scores_at(found, eta)
    assert np.isfinite(scores).all()
    powers = weights("inflated" if inflated else "plain", split.num_shards, SPACES[0])
    _, expected = recompute(problem, data.train, split.rows(0), eta, *powers)
    np.testing.assert_allclose(scores[0], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_observation_is_used_once(subject: Subject, scheme: str) -> None:
    problem, data = subject.problem, subject.data
    found = subposteriors(problem, data, subject.split(scheme))
    used = np.asarray(found.mask) > 0
    if subject.control:  # which this law must see
        assert used.sum() == problem.num_shards < data.num_observations
        return
    assert used.sum() == data.num_observations
    for stacked, original in zip(
        jax.tree.leaves(found.observations), jax.tree.leaves(data.train), strict=True
    ):
        rows = np.asarray(stacked)[used].reshape(len(original), -1)
        expected = np.asarray(original).reshape(len(original), -1)
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_padding_contributes_nothing(subject: Subject) -> None:
    problem, data = subject.problem, subject.data
    found = subposteriors(problem, data, subject.split("sizes:0.5"))
    if subject.control:
        pytest.skip("one row for each density: there is no padding")
    smallest = int(np.argmin(found.mask.sum(1)))
    assert found.mask[smallest].sum() < found.mask.shape[1]
    eta = points(problem)
    cut = at(one(found, smallest), eta)[0]
    np.testing.assert_allclose(at(found, eta)[smallest], cut, rtol=1e-12)


def test_a_log_jacobian_without_its_share_would_be_seen() -> None:
    # What the law above would say of subposteriors that each carry the whole log-Jacobian.
    problem = Positive()
    data = load_data(problem, derive_key(0, "positive", "data"))
    number = data.num_observations
    split = Split(np.arange(number) % problem.num_shards, problem.num_shards)
    eta = points(problem)
    shards = np.asarray(at(subposteriors(problem, data, split), eta))
    full = np.asarray(at(full_posterior(problem, data), eta))[0]
    log_jacobian = np.asarray(eta[:, 0])  # |∂θ/∂η| = exp(η_0)
    wrong = shards + (1 - 1 / problem.num_shards) * log_jacobian
    size = np.abs(full).max() + np.abs(shards).sum(0).max()
    assert_constant(shards.sum(0) - full, size)
    with pytest.raises(AssertionError):
        assert_constant(wrong.sum(0) - full, size)
