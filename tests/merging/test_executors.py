"""Executors: whoever asks the shards, the method sees the same, and so does its reader."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stateful import NUM_SHARDS, Rumour, SlowRumour, followed, given

from dncbench.configure import configure
from dncbench.draws import one
from dncbench.merging import executors
from dncbench.merging.executors import Asked, Local
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import Method, Shard
from dncbench.space import Real
from dncbench.timing import Program, forget_programs


class ShardByShard:
    """Asks one shard after another, each as if there were no other, and stacks the answers."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def ask(
        self, step: str, method: Method, shards: Shard, state: Any, broadcast: Any, keys: Any
    ) -> Asked:
        self.steps.append(step)
        run = eqx.filter_jit(getattr(method, step))
        answers = [
            run(one(shards, s), *(() if step == "begin" else (one(state, s), broadcast)), key)
            for s, key in enumerate(keys)
        ]
        states, messages = jax.tree.map(lambda *leaves: jnp.stack(leaves), *answers)
        return Asked(states, messages, 0.0, 6.0, (1.0, 2.0, 3.0))


class Recording(Local):
    """The executor that ships, and what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def ask(self, step: str, *more: Any) -> Asked:
        self.steps.append(step)
        return super().ask(step, *more)


class Bowl(eqx.Module):
    """A log density."""

    centre: jax.Array

    def __call__(self, eta: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum((eta - self.centre) ** 2)


def merged(method: Method, executor: executors.Executor) -> MergeResult:
    values = jnp.asarray(given())
    shards = Shard(values=values, density=Bowl(values.mean(1)))
    space = Real(("first", "second"), "given")
    return run_method(method, "mine", shards, jax.random.key(0), 40, space, executor)


SHIPPED = ["consensus", "parametric", "consensus + psis"]


@pytest.mark.parametrize("method", [Rumour(4), *(configure("method", spec)[1] for spec in SHIPPED)])
def test_another_executor_gives_the_same_draws(method: Method) -> None:
    mine, local = ShardByShard(), Recording()
    first, second = merged(method, mine), merged(method, local)
    # Programs for one shard and for all of them may add in another order.
    np.testing.assert_allclose(first.draws, second.draws, rtol=1e-9, atol=1e-9)
    assert mine.steps == local.steps == ["begin"] + ["answer"] * (method.num_rounds - 1)
    assert first.bytes_communicated == second.bytes_communicated
    assert first.info["ess"] == pytest.approx(second.info["ess"], rel=1e-9)


def test_the_seconds_are_the_executors() -> None:
    result = merged(Rumour(4), ShardByShard())
    assert [each.by_shard for each in result.rounds] == [(1.0, 2.0, 3.0)] * 4
    assert result.seconds["fit_total"] == 4 * 6.0
    assert result.seconds["fit_slowest_shard"] == 4 * 3.0


@pytest.mark.parametrize("time_alone", [True, False])
def test_timing_shards_alone_costs_one_more_program_a_step(time_alone: bool) -> None:
    forget_programs()
    result = merged(Rumour(4), Local(time_alone))
    for step in ("begin", "answer"):
        assert executors._program(step).num_compiled == 1 + time_alone
    if time_alone:
        # The first shard's seconds, which are those of any; not those of all of them together.
        for each in result.rounds:
            assert len(set(each.by_shard)) == 1
            assert each.by_shard[0] != each.fit_total
    else:
        # An upper bound: that all had answered when the last had.
        for each in result.rounds:
            assert each.by_shard == (each.fit_total,) * NUM_SHARDS
        assert result.seconds["fit_slowest_shard"] == result.seconds["fit_total"]


class UntilSmall(Rumour):
    """Halves a number until it is small, on each shard as often as that takes."""

    def begin(self, shard: Shard, key: Any) -> Any:
        assert shard.values is not None
        count = jax.lax.while_loop(lambda x: x > 1e-3, lambda x: x / 2, jnp.max(shard.values))
        state, message = super().begin(shard, key)
        return state, message + 0.0 * count


def test_shards_whose_work_depends_on_their_values_are_each_timed() -> None:
    for each in merged(UntilSmall(4), Local()).rounds[:1]:
        assert len(set(each.by_shard)) > 1


@pytest.mark.parametrize(
    ("function", "even"),
    [
        (lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, 5)[0], True),
        (lambda x: jax.lax.fori_loop(0, 5, lambda i, c: jnp.sin(c), x), True),
        (lambda x: jax.lax.while_loop(lambda c: c[0] > 0.1, lambda c: 0.5 * c, x), False),
        (lambda x: jax.lax.map(lambda c: jax.lax.cond(c > 0, jnp.sin, jnp.cos, c), x), False),
        (lambda x: jax.jit(jnp.linalg.cholesky)(jnp.outer(x, x) + jnp.eye(3)), True),
        (lambda x: x + jax.random.normal(jax.random.key(0), (3,)), True),
    ],
)
def test_a_program_is_even_where_nothing_in_it_depends_on_values(function: Any, even: bool) -> None:
    assert Program(function)(jnp.ones(3)).even is even


def test_what_is_not_compiled_is_asked_once_and_timed_shard_by_shard() -> None:
    programs = sum(program.num_compiled for program in Program._all)
    result = merged(SlowRumour(4), Local())
    assert sum(program.num_compiled for program in Program._all) == programs
    np.testing.assert_allclose(result.draws[0], followed(given(), 4)[0][-1], rtol=1e-12)
    for each in result.rounds:
        assert each.fit_total == sum(each.by_shard)
    assert result.memory == {"fit": 0, "merge": 0}


def test_a_compiled_step_says_what_memory_it_needs() -> None:
    result = merged(Rumour(4), Local())
    assert result.memory["fit"] >= given().nbytes  # the draws are among its arguments
    assert result.memory["merge"] >= 40 * 2 * 8  # the merged draws are its result
