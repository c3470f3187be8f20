"""Laws of every registered merge of coded objects; a new one is held without being named here."""

import functools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from dncbench import registry
from dncbench.configure import configure, parse
from dncbench.contracts.subjects import subjects
from dncbench.contracts.test_method_contract import EXECUTOR, ORDER, Turned, require_shared_fits
from dncbench.draws import Draws
from dncbench.errors import NotApplicableError
from dncbench.merging.executors import Local
from dncbench.merging.inputs import only_needed
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Method, Shard
from dncbench.precision import derive_key
from dncbench.problem import Problem, load_data
from dncbench.space import Codes, Real

NUM_DRAWS, KEY = 403, jax.random.key(12)
FALSE_ALARM = 1e-4

CHOSEN = {
    spec: entry
    for entry in subjects("method")
    for spec in entry.specs
    if configure("method", spec)[1].spaces == {Codes.kind}
}


@functools.cache
def small_problems() -> list[Problem]:
    """All that ship with dncbench, have codes and as many shards as ``ORDER``."""
    found = []
    for entry in registry.entries("problem"):
        if entry.module.startswith("dncbench.") and not entry.dataset:
            problem = configure("problem", entry.small_spec)[1]
            if isinstance(problem.space, Codes) and problem.num_shards == len(ORDER):
                found.append((entry.name, problem))
    return found


def of(spec: str) -> Method:
    """The method with its small settings."""
    small = CHOSEN[spec].small
    return configure("method", spec, **(parse(f"_[{small}]")[1] if small else {}))[1]


@functools.cache
def shards_of(name: str, problem: Problem) -> Shard:
    """All that a method may ask for."""
    data = load_data(problem, derive_key(0, name, "data"))
    split = problem.split(data, "random", jax.random.key(0))
    draws: Draws | None = problem.draws(data, split, "plain", jax.random.key(1), NUM_DRAWS)
    assert draws is not None
    rows, mask = problem.shard_data(data, split)
    return Shard(
        values=jnp.asarray(draws.values),
        log_density=jnp.asarray(draws.log_density),
        density=problem.density(data, split, "plain", problem.space),
        data=rows,
        mask=mask,
        problem=problem,
        num_shards=problem.num_shards,
        ess=jnp.full(problem.num_shards, float(NUM_DRAWS)),
    )


def run(spec: str, shards: Shard, executor: Local = EXECUTOR) -> MergeResult:
    """One merge."""
    return run_method(of(spec), spec, shards, KEY, NUM_DRAWS, shards.problem.space, executor)


@functools.cache
def merged(spec: str) -> tuple[Shard, MergeResult]:
    """On the first of the problems that it applies to."""
    reasons = []
    for name, problem in small_problems():
        shards = shards_of(name, problem)
        try:
            return shards, run(spec, shards)
        except NotApplicableError as error:
            reasons.append(str(error))
    pytest.skip(f"applies to none of the problems here: {reasons[0]}")


@pytest.fixture(params=CHOSEN)
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_methods_that_share_a_fit_fit_alike() -> None:
    specs = {of(spec): spec for spec in CHOSEN}

    def given(method: Method) -> Shard:
        shards, _ = merged(specs[method])
        return only_needed(method, specs[method], shards, shards.problem.space)

    require_shared_fits(specs, given)


def turned(shards: Shard) -> Shard:
    return jax.tree.map(lambda leaf: leaf[ORDER] if isinstance(leaf, jax.Array) else leaf, shards)


def test_returns_codes_and_plain_info(name: str) -> None:
    _, result = merged(name)
    assert result.draws.shape == (NUM_DRAWS,)
    assert 0 < result.info["ess"] <= NUM_DRAWS
    assert json.loads(json.dumps(result.info, allow_nan=False)) == result.info
    assert result.bytes_communicated > 0


def test_draws_are_of_the_law_that_is_said(name: str) -> None:
    shards, result = merged(name)
    if result.log_probs is None:
        pytest.skip("it says no law")
    probs = np.exp(result.log_probs)
    assert len(probs) == shards.problem.space.size
    assert probs.sum() == pytest.approx(1.0, abs=1e-9)
    # χ² over objects that are expected five times at least, the others as one.
    group = np.where(NUM_DRAWS * probs > 5, np.arange(len(probs)), len(probs))
    expected = NUM_DRAWS * np.bincount(group, probs)
    counts = np.bincount(group[result.draws], minlength=len(expected))
    there = expected > 0
    statistic = np.sum((counts - expected)[there] ** 2 / expected[there])
    assert statistic < chi2.isf(FALSE_ALARM, max(1, there.sum() - 1))


def test_is_determined_by_its_key(name: str) -> None:
    shards, first = merged(name)
    np.testing.assert_array_equal(first.draws, run(name, shards).draws)


def test_the_order_of_shards_does_not_matter(name: str) -> None:
    """Every shard keeps its random key; laws are equal but for rounding."""
    shards, first = merged(name)
    second = run(name, turned(shards), Turned())
    if first.log_probs is not None:
        np.testing.assert_allclose(second.log_probs, first.log_probs, rtol=1e-5, atol=1e-5)


def test_what_is_missing_is_named(name: str) -> None:
    shards, _ = merged(name)
    method = of(name)
    for need in sorted(method.needs - {"problem"}):
        field = {"draws": "values", "model": "density"}.get(need, need)
        parts = vars(shards) | {field: None}
        with pytest.raises(NotApplicableError, match=re.escape(f"'{name}' needs {field}")):
            run(name, Shard(**parts))


def test_points_are_not_applicable(name: str) -> None:
    given = Shard(values=jnp.zeros((4, 50, 2)))
    with pytest.raises(NotApplicableError, match=re.escape(f"{name} merges codes")):
        run_method(of(name), name, given, KEY, 50, Real(("a", "b"), "given"), EXECUTOR)
