"""Compiled programs with compile time measured apart from run time."""

import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import psutil


class Timed(NamedTuple):
    """A result with the seconds it took; ``compile`` is 0.0 when the program was there already."""

    value: Any
    compile: float
    run: float


class Program:
    """A function of pytrees, compiled ahead of time once for each shape of its arguments.

    Arrays are traced; everything else (a method's settings, a number of draws) is
    static, so it must be hashable. Results are waited for before the clock stops.
    """

    _all: ClassVar["weakref.WeakSet[Program]"] = weakref.WeakSet()

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._compiled: dict[Any, tuple[Any, Any]] = {}
        Program._all.add(self)

    def __call__(self, *arguments: Any) -> Timed:
        """Run the function; see :class:`Timed`."""
        dynamic, static = eqx.partition(arguments, eqx.is_array)
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

            compiled = jax.jit(traced).lower(dynamic).compile()
            self._compiled[signature] = (compiled, static_result[0])
            compile_seconds = time.perf_counter() - start
        compiled, rest = self._compiled[signature]
        start = time.perf_counter()
        arrays = jax.block_until_ready(compiled(dynamic))
        run_seconds = time.perf_counter() - start
        return Timed(eqx.combine(arrays, rest), compile_seconds, run_seconds)


def forget_programs() -> None:
    """Drop every compiled program, between problems: no shape of theirs comes again.

    Each holds memory maps, of which Linux allows a process 65 530; at the limit the
    next compilation ends in a segmentation fault.
    """
    for program in Program._all:
        program._compiled.clear()
    jax.clear_caches()


class OtherLoad:
    """How many cores other work kept busy while this was open.

    A timing made beside other work says so in its record. Linux accounts CPU time
    in steps of 10 ms, so spans below half a second are not judged (``cores`` None).

    Attributes:
        cores: mean number of cores busy with anything but this process.
    """

    cores: float | None = None

    def __enter__(self) -> "OtherLoad":
        self._start = self._read()
        return self

    def __exit__(self, *error: object) -> None:
        wall, busy, own = (b - a for a, b in zip(self._start, self._read(), strict=True))
        if wall >= 0.5:
            self.cores = max(0.0, (busy - own) / wall)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        system = psutil.cpu_times()
        own = psutil.Process().cpu_times()
        busy = sum(system) - system.idle - getattr(system, "iowait", 0.0)
        # Linux counts a guest's time in user and nice already.
        busy -= getattr(system, "guest", 0.0) + getattr(system, "guest_nice", 0.0)
        return time.perf_counter(), busy, own.user + own.system
