"""Asking the shards: one step of a method on every shard, wherever they are.

An executor is the only place that knows where shards live. Whatever it is, what it asks is
the same, a step of a method on one shard, and so is what it measures.
"""

import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Key

from dncbench.draws import Arrays, alone, one
from dncbench.method import Method, Shard
from dncbench.timing import Program, Timed, timed


class Asked(NamedTuple):
    """What the shards answered to one step.

    Attributes:
        states: what each keeps, stacked along a leading axis of S, or a list.
        messages: what each sent, likewise.
        compile: seconds.
        run: seconds until all shards had answered.
        by_shard: (S,) seconds of each shard.
        memory: bytes that the program needs for all shards; 0 where nobody knows.
    """

    states: Arrays
    messages: Arrays
    compile: float
    run: float
    by_shard: tuple[float, ...]
    memory: int = 0


@runtime_checkable
class Executor(Protocol):
    """Asks all shards one step of a method."""

    def ask(
        self,
        step: str,
        method: Method,
        shards: Shard,
        state: Arrays,
        broadcast: Arrays,
        keys: Key[Array, " S"],
    ) -> Asked:
        """Ask.

        Args:
            step: "begin" or "answer".
            method: a configured method.
            shards: stacked along a leading axis of S.
            state: what they kept of the round before, as :class:`Asked` gives it; None for
                "begin".
            broadcast: what is sent to every shard; None for "begin".
            keys: a random key for each shard.
        """


class Local:
    """This process: one compiled program, mapped over all shards.

    The shards then run in lockstep, and all have answered when the last has. To see what each
    would take on a machine of its own they are asked once more, one after another; a program
    for one shard alone is compiled for that. Where its work does not depend on the values that
    it works on (shards have one shape), the first shard's seconds stand for each.

    Args:
        time_alone: whether to do so. If not, every shard is said to have taken as long as
            all of them did: an upper bound.
    """

    def __init__(self, time_alone: bool = True) -> None:
        self.time_alone = time_alone

    def ask(
        self,
        step: str,
        method: Method,
        shards: Shard,
        state: Arrays,
        broadcast: Arrays,
        keys: Key[Array, " S"],
    ) -> Asked:
        """See :class:`Executor`."""
        if not method.untraced.isdisjoint(_ON_SHARDS):
            return _one_by_one(step, method, shards, state, broadcast, keys)
        program = _program(step)
        sent = () if step == "begin" else (state, broadcast)
        done = program(method, shards, *sent, keys)
        by_shard = (done.run,) * len(keys)
        if self.time_alone:

            def ask_alone(s: int) -> Timed:
                kept = () if step == "begin" else (alone(state, s), broadcast)
                return program(method, alone(shards, s), *kept, keys[s : s + 1])

            first = ask_alone(0)
            others = range(1, len(keys))
            by_shard = (first.run, *(first.run if first.even else ask_alone(s).run for s in others))
        states, messages = done.value
        return Asked(states, messages, done.compile, done.run, by_shard, done.memory)


_ON_SHARDS = ("begin", "answer")


@functools.cache
def _program(step: str) -> Program:
    stacked = eqx.if_array(0)
    if step == "begin":
        begin = lambda method, shard, key: method.begin(shard, key)  # noqa: E731
        return Program(eqx.filter_vmap(begin, in_axes=(None, stacked, 0)))
    answer = lambda method, shard, state, broadcast, key: method.answer(  # noqa: E731
        shard, state, broadcast, key
    )
    return Program(eqx.filter_vmap(answer, in_axes=(None, stacked, stacked, None, 0)))


def _one_by_one(
    step: str,
    method: Method,
    shards: Shard,
    state: Any,
    broadcast: Arrays,
    keys: Key[Array, " S"],
) -> Asked:
    """Called with NumPy arrays, shard by shard; states and messages are lists."""
    asked = []
    for s, key in enumerate(keys):
        sent = () if step == "begin" else (state[s], broadcast)
        arguments = in_numpy((one(shards, s), *sent))
        asked.append(timed(getattr(method, step), *arguments, key))
    states, messages = zip(*(each.value for each in asked), strict=True)
    seconds = tuple(each.run for each in asked)
    return Asked(list(states), list(messages), 0.0, sum(seconds), seconds)


def in_numpy(tree: Any) -> Any:
    """A pytree with NumPy's arrays instead of JAX's.

    Random keys stay, which NumPy has not, and modules that are called, such as a density,
    which JAX differentiates.
    """
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) if _is_plain(leaf) else leaf, tree, is_leaf=_is_called
    )


def _is_plain(leaf: Any) -> bool:
    return eqx.is_array(leaf) and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_called(node: Any) -> bool:
    return isinstance(node, eqx.Module) and callable(node)
