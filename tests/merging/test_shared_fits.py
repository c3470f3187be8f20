"""Methods that merge the same messages: the shards are asked once, whoever comes first."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from stateful import given

from dncbench.merging.executors import Asked, Local
from dncbench.merging.run import MergeResult, run_method
from dncbench.merging.shared_fits import SharedFits
from dncbench.method import Method, Shard
from dncbench.space import Real


class Noisy(Method):
    """Draws with noise; the middle of what the shards sent, or their sum."""

    by_sum: bool = False
    noise: float = 1.0

    @property
    def shared_fit(self) -> Hashable:
        return "noisy", self.noise

    def fit(self, shard: Shard, key: Any) -> Any:
        assert shard.values is not None
        return shard.values + self.noise * jax.random.normal(key, shard.values.shape)

    def merge(self, messages: Any, key: Any, num_draws: int) -> Any:
        merged = jnp.sum(messages, 0) if self.by_sum else jnp.mean(messages, 0)
        return merged[jnp.arange(num_draws) % len(merged)], {"first": messages[0, 0, 0]}


class Counting(Local):
    """The executor that ships; counts."""

    asked = 0

    def ask(self, *arguments: Any) -> Asked:
        self.asked += 1
        return super().ask(*arguments)


class Load:
    """Tells another number each time."""

    told = 0

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *error: object) -> None:
        Load.told += 1
        self.cores = float(Load.told)


def fits() -> SharedFits:
    Load.told = 0
    return SharedFits(lambda fit: jax.random.key(len(repr(fit))), Load)


def merged(
    method: Method, shared: SharedFits | None, executor: Local, seed: int = 0
) -> MergeResult:
    space = Real(("first", "second"), "given")
    shards = Shard(values=jnp.asarray(given()))
    key = jax.random.key(seed)
    return run_method(method, "mine", shards, key, 40, space, executor, shared)


def test_the_shards_are_asked_once_for_all_who_share_a_fit() -> None:
    shared, executor = fits(), Counting()
    first = merged(Noisy(), shared, executor)
    second = merged(Noisy(by_sum=True), shared, executor, seed=1)
    assert executor.asked == 1
    np.testing.assert_allclose(second.draws, 3 * first.draws, rtol=1e-12)
    assert second.seconds["fit_total"] == first.seconds["fit_total"]
    assert second.seconds["fit_slowest_shard"] == first.seconds["fit_slowest_shard"]
    assert second.bytes_communicated == first.bytes_communicated


def test_another_fit_is_another_and_without_a_keeper_none_is_shared() -> None:
    shared, executor = fits(), Counting()
    merged(Noisy(), shared, executor)
    merged(Noisy(noise=2.0), shared, executor)
    merged(Noisy(), None, executor)
    merged(Noisy(), None, executor)
    assert executor.asked == 4


def test_who_comes_first_does_not_matter() -> None:
    after = fits()
    merged(Noisy(), after, Local())
    late, alone = (merged(Noisy(by_sum=True), each, Local()) for each in (after, fits()))
    np.testing.assert_array_equal(late.draws, alone.draws)
    # The key is the fit's own, whatever the cell's is.
    other = merged(Noisy(by_sum=True), fits(), Local(), seed=7)
    np.testing.assert_array_equal(other.draws, alone.draws)


def test_the_load_is_that_of_when_the_fit_was_made() -> None:
    shared = fits()
    assert shared.other_load(Noisy().shared_fit) is None
    merged(Noisy(), shared, Local())
    merged(Noisy(by_sum=True), shared, Local())
    assert Load.told == 1
    assert shared.other_load(Noisy().shared_fit) == 1.0
