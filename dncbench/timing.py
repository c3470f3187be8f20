"""Compiled programs with compile time measured apart from run time."""

import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import jaxprs_in_params


class Timed(NamedTuple):
    """A result and what it took.

    Attributes:
        value: the result.
        compile: seconds; 0.0 when the program was there already.
        run: seconds.
        memory: bytes of arguments, results and intermediates, as XLA laid them out; 0 where
            it does not say.
        even: whether other arguments of the same shapes take as long: nothing in the program
            branches on values, or is repeated until they are as they should be.
    """

    value: Any
    compile: float
    run: float
    memory: int = 0
    even: bool = False


class Program:
    """A function of pytrees, compiled ahead of time once for each shape of its arguments.

    Arrays are traced; everything else (a method's settings, a number of draws) is
    static, so it must be hashable. Results are waited for before the clock stops.
    """

    _all: ClassVar["weakref.WeakSet[Program]"] = weakref.WeakSet()

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._compiled: dict[Any, tuple[Any, Any, int, bool]] = {}
        Program._all.add(self)

    def __call__(self, *arguments: Any) -> Timed:
        """Run the function; see :class:`Timed`."""
        dynamic, static = eqx.partition(arguments, _is_array)
        static_leaves, structure = jax.tree.flatten(static)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(dynamic))
        signature = (structure, tuple(static_leaves), shapes, jax.tree.structure(dynamic))
        compile_seconds = 0.0
        if signature not in self._compiled:
            start = time.perf_counter()
            static_result: list[Any] = []

            def traced(dynamic: Any) -> Any:
                result = self._function(*eqx.combine(dynamic, static))
                arrays, rest = eqx.partition(result, eqx.is_array)
                static_result[:] = [rest]
                return arrays

            program = jax.jit(traced).trace(dynamic)
            compiled = program.lower().compile()
            even = not _depends_on_values(program.jaxpr.jaxpr)
            self._compiled[signature] = (compiled, static_result[0], _memory(compiled), even)
            compile_seconds = time.perf_counter() - start
        compiled, rest, memory, even = self._compiled[signature]
        start = time.perf_counter()
        arrays = jax.block_until_ready(compiled(dynamic))
        run_seconds = time.perf_counter() - start
        return Timed(eqx.combine(arrays, rest), compile_seconds, run_seconds, memory, even)

    @property
    def num_compiled(self) -> int:
        """How many shapes of arguments it was compiled for."""
        return len(self._compiled)


def _is_array(leaf: Any) -> bool:
    """Whether it is traced: NumPy's arrays are, which steps that are not compiled return."""
    return isinstance(leaf, jax.Array | np.ndarray)


def timed(function: Callable, *arguments: Any) -> Timed:
    """Run a function that is not compiled."""
    start = time.perf_counter()
    value = jax.block_until_ready(function(*arguments))
    return Timed(value, 0.0, time.perf_counter() - start)


_BY_VALUES = {"while", "cond", "pure_callback", "io_callback"}
"""Primitives whose work may depend on values; a loop of a known length is a "scan"."""


def _depends_on_values(jaxpr: Any) -> bool:
    """Whether some operation takes longer for some values than for others."""
    return any(
        equation.primitive.name in _BY_VALUES
        or any(map(_depends_on_values, jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _memory(compiled: Any) -> int:
    analysis = compiled.memory_analysis()
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return sum(int(getattr(analysis, part, 0)) for part in parts)


def forget_programs() -> None:
    """Drop every compiled program, between problems: no shape of theirs comes again.

    Each holds memory maps, of which Linux allows a process 65 530; at the limit the
    next compilation ends in a segmentation fault.
    """
    for program in Program._all:
        program._compiled.clear()
    jax.clear_caches()
