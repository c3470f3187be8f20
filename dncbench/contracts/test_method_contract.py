"""Laws of every registered merge of points of R^d; a new one is held without being named here."""

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from dncbench import registry
from dncbench.configure import configure, parse, settings_of
from dncbench.contracts.gaussian_shards import GaussianShards, make_shards
from dncbench.contracts.subjects import subjects
from dncbench.errors import DrawsError, NotApplicableError
from dncbench.merging.executors import Asked, Local
from dncbench.merging.given import merge
from dncbench.merging.inputs import only_needed
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Method, Shard
from dncbench.metrics.sample import Sample
from dncbench.space import KINDS, Codes, Real

APPLICABLE = [
    entry.name
    for entry in registry.entries("metric")
    # A Gaussian has no modes that exchangeable labels make, no codes, and predicts nothing.
    if not {"permutations", "codes", "predictions"} & set(entry.reads)
]
NUM_SHARDS, NUM_DRAWS, DIM = 4, 2000, 2
FEW_GIVEN, FEW_ASKED = 400, 403
"""Draws of a shard, and merged, in laws that need no accuracy.

More are asked for than a shard has, so that its own draws are not enough. Such laws look at
shards in one dimension, so that a method's programs are compiled once for them; the others see
two.
"""

KEY = jax.random.key(11)
FALSE_ALARM = 1e-4  # of each comparison of means or standard deviations

METHODS: dict[str, Method] = {
    spec: method
    for entry in subjects("method")
    for spec in entry.specs
    if Real.kind in (method := configure("method", spec)[1]).spaces
}
"""Every registered method that merges points of R^d, and every variant of it."""

NAMES = list(METHODS)

CONTROLS = {spec for entry in subjects("method") if entry.control for spec in entry.specs}
"""Those that are registered because they are wrong; no law asks them to be accurate."""

EXECUTOR = Local(time_alone=False)
"""Laws need no seconds of single shards, and so no second compilation."""

ORDER = np.array([2, 0, 3, 1])


class Turned(Local):
    """Asks shards that come in another order, each with the random key that it had before."""

    def __init__(self) -> None:
        super().__init__(time_alone=False)

    def ask(self, *arguments: Any) -> Asked:
        """See :class:`dncbench.merging.executors.Executor`; the keys come last."""
        *others, keys = arguments
        return super().ask(*others, keys[ORDER])


def _registered_with(which: str) -> dict[str, Method]:
    """Every method and variant, with settings that it was registered with for laws."""
    found = {}
    for entry in subjects("method"):
        chosen = getattr(entry, which)
        settings = parse(f"_[{chosen}]")[1] if chosen else {}
        specs = [spec for spec in entry.specs if spec in METHODS]
        found |= {spec: configure("method", spec, **settings)[1] for spec in specs}
    return found


SMALL = _registered_with("small")
"""For laws that need no accuracy."""

ACCURATE = _registered_with("accurate")
"""For laws that do."""


def those(condition: Callable[[Method], bool]) -> pytest.MarkDecorator:
    """Hold only the methods to a law that it is meant for."""
    chosen = [name for name, method in METHODS.items() if condition(method)]
    return pytest.mark.parametrize("method", chosen, indirect=True)


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


def name_of(method: Method) -> str:
    return next(name for name in METHODS if method in (METHODS[name], ACCURATE[name], SMALL[name]))


class LogDensity(eqx.Module):
    """The log density of Gaussian shards, for methods that ask for more of it."""

    mean: jax.Array
    precision: jax.Array

    def __call__(self, eta: jax.Array) -> jax.Array:
        return -0.5 * (eta - self.mean) @ self.precision @ (eta - self.mean)


def is_oracle(method: Method) -> bool:
    return "reference" in method.needs


def everything(shards: GaussianShards, num_draws: int, seed: int = 0) -> Shard:
    """All that a method may ask for: draws, their log densities and scores, inflated draws."""
    rng = np.random.default_rng(seed)
    values = shards.draws(rng, num_draws)
    centred = values - shards.means[:, None]
    precisions = np.linalg.inv(shards.covariances)
    score = -np.einsum("sij,stj->sti", precisions, centred)
    return Shard(
        values=jnp.asarray(values),
        log_density=jnp.asarray(0.5 * np.sum(centred * score, -1)),
        score=jnp.asarray(score),
        inflated=jnp.asarray(shards.inflated(rng, num_draws)),
        density=LogDensity(jnp.asarray(shards.means), jnp.asarray(precisions)),
        ess=jnp.full(len(values), float(num_draws)),
    )


def posterior(shards: GaussianShards, num_draws: int, seed: int = 0) -> Shard:
    """What the oracle gets: one shard, and it holds the truth."""
    exact = shards.exact(np.random.default_rng(seed), num_draws)
    return Shard(values=jnp.asarray(exact[None]), ess=jnp.array([float(num_draws)]))


def given_to(method: Method, shards: GaussianShards, num_draws: int = NUM_DRAWS) -> Shard:
    make = posterior if is_oracle(method) else everything
    return make(shards, num_draws)


def run(
    method: Method, shards: Shard, num_draws: int = NUM_DRAWS, executor: Local = EXECUTOR
) -> MergeResult:
    values = shards.inflated if shards.values is None else shards.values
    space = Real(tuple(f"theta[{i}]" for i in range(values.shape[-1])), "unconstrained")
    return run_method(method, name_of(method), shards, KEY, num_draws, space, executor)


def require_shared_fits(methods: Iterable[Method], given: Callable[[Method], Shard]) -> None:
    """Methods that say that their fits are the same need the same, and send the same.

    Args:
        methods: those that share no fit are passed over.
        given: what a method may use.
    """
    sharing = [method for method in methods if method.shared_fit is not None]
    first = {method.shared_fit: method for method in reversed(sharing)}
    for method in sharing:
        other = first[method.shared_fit]
        assert (method.num_rounds, method.needs) == (1, other.needs)
        shards = given(method)
        assert shards.num_shards is not None
        keys = jax.random.split(KEY, shards.num_shards)
        sent = [
            EXECUTOR.ask("begin", each, shards, None, None, keys).messages
            for each in (method, other)
        ]
        assert jax.tree.structure(sent[0]) == jax.tree.structure(sent[1])
        for mine, others in zip(*map(jax.tree.leaves, sent), strict=True):
            np.testing.assert_array_equal(mine, others)


def assert_same_law(first: np.ndarray, second: np.ndarray, sizes: tuple[float, float]) -> None:
    """Means and standard deviations agree, coordinate by coordinate (Bonferroni).

    Standard errors of independent draws: sd/sqrt(n) of a mean, and by the fourth moment
    sd sqrt((kurtosis - 1) / 4n) of a standard deviation.
    """
    errors = []
    for draws, size in zip((first, second), sizes, strict=True):
        spread = draws.std(0)
        kurtosis = np.mean(((draws - draws.mean(0)) / spread) ** 4, axis=0)
        errors.append([spread / np.sqrt(size), spread * np.sqrt((kurtosis - 1) / (4 * size))])
    of_mean, of_spread = np.hypot(*np.array(errors))
    threshold = norm.isf(FALSE_ALARM / (4 * first.shape[1]))
    assert np.abs((first.mean(0) - second.mean(0)) / of_mean).max() < threshold
    assert np.abs((first.std(0) - second.std(0)) / of_spread).max() < threshold


@pytest.fixture(scope="module")
def gaussians() -> GaussianShards:
    return _gaussians()


@functools.cache
def merged(name: str) -> MergeResult:
    """The merge that several laws look at; a fit can take seconds."""
    return run(ACCURATE[name], given_to(ACCURATE[name], _gaussians()))


@functools.cache
def _gaussians() -> GaussianShards:
    return make_shards(np.random.default_rng(1), NUM_SHARDS, DIM)


@pytest.fixture(scope="module")
def line() -> GaussianShards:
    """Gaussians in one dimension."""
    return make_shards(np.random.default_rng(2), NUM_SHARDS, 1)


@functools.cache
def _floor(metric: str) -> tuple[Sample, list[float]]:
    """True draws, and what the metric reads on eight other sets of them."""
    rng, gaussians = np.random.default_rng(5), _gaussians()
    measure = registry.get("metric", metric).target

    def score(eta: np.ndarray) -> np.ndarray:
        return -np.linalg.solve(gaussians.covariance, (eta - gaussians.mean).T).T

    def sample() -> Sample:
        draws = gaussians.exact(rng, NUM_DRAWS)
        return Sample(draws, NUM_DRAWS, draws, score)

    truth, *others = (sample() for _ in range(9))
    return truth, [measure(other, truth).value for other in others]


def test_is_a_value(method: Method) -> None:
    again = configure("method", name_of(method))[1]
    assert hash(method) == hash(again)
    assert method == again
    assert type(method).__name__ in repr(method)


def test_returns_finite_draws_and_plain_info(method: Method) -> None:
    result = merged(name_of(method))
    assert result.draws.shape == (NUM_DRAWS, DIM)
    assert result.draws.dtype == np.float64
    assert np.isfinite(result.draws).all()
    assert 0 < result.info["ess"] <= NUM_DRAWS
    assert json.loads(json.dumps(result.info, allow_nan=False)) == result.info
    assert result.bytes_communicated > 0
    assert all(seconds >= 0 for seconds in result.seconds.values())


def test_returns_as_many_draws_as_asked_in_one_dimension_too(
    method: Method, line: GaussianShards
) -> None:
    result = run(SMALL[name_of(method)], given_to(method, line, FEW_GIVEN), FEW_ASKED)
    assert result.draws.shape == (FEW_ASKED, 1)
    assert result.draws.std() > 0
    assert 0 < result.info["ess"] <= FEW_ASKED


def test_is_determined_by_its_key(method: Method, line: GaussianShards) -> None:
    first, again = (
        run(SMALL[name_of(method)], given_to(method, line, FEW_GIVEN), FEW_ASKED) for _ in range(2)
    )
    np.testing.assert_array_equal(first.draws, again.draws)


def test_one_shard_is_the_posterior_already(method: Method) -> None:
    """400 draws tell: of a Gaussian to the power 2 the sd is six standard errors off, of 4.2."""
    shards = make_shards(np.random.default_rng(3), 1, DIM)
    given = given_to(method, shards, FEW_GIVEN)
    result = run(SMALL[name_of(method)], given, FEW_ASKED)
    own = np.asarray(given.inflated if "inflated" in method.needs else given.values)[0]
    assert_same_law(result.draws, own, (result.info["ess"], FEW_GIVEN))


@those(lambda method: "reference" not in method.needs)  # the oracle has one shard
def test_the_order_of_shards_does_not_matter(method: Method, line: GaussianShards) -> None:
    """Every shard keeps its random key, so that all fits are the same, accurate or not."""
    shards, small = given_to(method, line, FEW_GIVEN), SMALL[name_of(method)]
    turned = jax.tree.map(lambda leaf: leaf[ORDER], shards)
    first = run(small, shards, FEW_ASKED)
    second = run(small, turned, FEW_ASKED, executor=Turned())
    # Both merge the same messages, so independent draws' errors are more than enough.
    assert_same_law(first.draws, second.draws, (first.info["ess"], second.info["ess"]))


def test_methods_that_share_a_fit_fit_alike(line: GaussianShards) -> None:
    space = Real(("theta",), "unconstrained")
    require_shared_fits(
        METHODS.values(),
        lambda method: only_needed(method, name_of(method), given_to(method, line), space),
    )


@those(lambda method: method.exact_for_gaussians)
@pytest.mark.parametrize("metric", APPLICABLE)
def test_exact_for_gaussians_reaches_the_noise_floor(
    method: Method, gaussians: GaussianShards, metric: str
) -> None:
    truth, floor = _floor(metric)
    result = merged(name_of(method))
    merge = dataclasses.replace(
        truth, values=result.draws, eta=result.draws, ess=result.info["ess"]
    )
    figure = registry.get("metric", metric).target(merge, truth)
    # The figure's own standard error and the floor's spread over eight readings.
    error = np.hypot(figure.standard_error, np.std(floor, ddof=1))
    assert figure.value - np.mean(floor) < 3.5 * error


@those(lambda method: "covariance" in method.needs)
def test_a_near_singular_covariance_is_named(method: Method) -> None:
    shards = make_shards(np.random.default_rng(6), NUM_SHARDS, 3)
    given = everything(shards, 200)
    nearly = lambda draws: draws.at[2, :, 2].set(draws[2, :, 0] * (1 + 1e-9 * draws[2, :, 1]))  # noqa: E731
    given = eqx.tree_at(lambda given: (given.values, given.inflated), given, replace_fn=nearly)
    with pytest.raises(DrawsError, match=r"shard 2, coordinate [02] \(.*\): a linear combination"):
        run(SMALL[name_of(method)], given)


@pytest.mark.parametrize(
    ("method", "need"),
    [
        (name, need)
        for name, method in METHODS.items()
        for need in sorted(method.needs - {"covariance", "reference", "data"})
    ],
    indirect=["method"],
)
def test_what_is_missing_is_named(method: Method, gaussians: GaussianShards, need: str) -> None:
    field = {"draws": "values", "model": "density"}.get(need, need)
    parts = vars(everything(gaussians, 50)) | {field: None}
    with pytest.raises(NotApplicableError, match=re.escape(f"'{name_of(method)}' needs {field}")):
        run(method, Shard(**parts))


@those(lambda method: method.spaces < set(KINDS))
def test_draws_of_another_space_are_not_applicable(method: Method) -> None:
    codes = Codes(("count",), "codes", 3, lambda codes: codes[:, None].astype(float))
    if "codes" in method.spaces:
        pytest.skip("it merges codes")
    given = Shard(values=jnp.zeros((NUM_SHARDS, 50), int))
    with pytest.raises(NotApplicableError, match=re.escape(f"{name_of(method)} merges")):
        run_method(method, name_of(method), given, KEY, 50, codes, EXECUTOR)


@those(lambda method: "reference" not in method.needs)
def test_unequal_shards_are_thinned_and_said_to_be(method: Method, line: GaussianShards) -> None:
    """What a user gives need not be equally many draws of every shard."""
    given = given_to(method, line, FEW_GIVEN + 30)
    lists = {
        field: [np.asarray(shard)[: FEW_GIVEN + 30 - 10 * s] for s, shard in enumerate(array)]
        for field in ("values", "log_density", "score", "inflated")
        if (array := getattr(given, field)) is not None
    }
    small = settings_of(SMALL[name_of(method)])
    name = name_of(method).partition("[")[0]
    result = merge(**lists, method=name, density=given.density, num_draws=FEW_ASKED, **small)
    assert result.draws.shape == (FEW_ASKED, 1)
    assert any("thinned [430, 420, 410, 400]" in line for line in result.info["warnings"])
