"""The process as it was before a plugin's code ran.

A method may change the working folder, JAX's configuration or NumPy's error state, and the next
method's figures would be others without a word. And one that ends the process would take the
cells after it along. Both are undone here, and said.
"""

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, NoReturn


class ExitError(Exception):
    """Something tried to end the process."""


AT_IMPORT = ("environment variables", "filters of warnings", "the module search path")
"""What a plugin, or a library that it imports, may change when it is imported, and not later."""


class _State(NamedTuple):
    """One piece of the process's state.

    Attributes:
        name: what it is called when somebody changed it; "" for what changes by mere use.
        read: its value.
        restore: given that value.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], Any]


def _jax() -> dict[str, Any]:
    jax = sys.modules.get("jax")  # neither it nor NumPy is imported for this
    return {} if jax is None else dict(jax.config.values)


def _set_jax(wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if _jax().get(name) != value:
            sys.modules["jax"].config.update(name, value)


def _numpy_errors() -> dict[str, Any]:
    numpy = sys.modules.get("numpy")
    return {} if numpy is None else numpy.geterr()


def _set_numpy_errors(wanted: dict[str, Any]) -> None:
    if wanted:
        sys.modules["numpy"].seterr(**wanted)


def _numpy_random() -> Any:
    numpy = sys.modules.get("numpy")
    return None if numpy is None else numpy.random.get_state()


def _set_numpy_random(wanted: Any) -> None:
    if wanted is not None:
        sys.modules["numpy"].random.set_state(wanted)


def _environment(wanted: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(wanted)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # somebody has removed it
        return ""


def _set_folder(wanted: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(wanted)


def _assign(place: Any, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(place, name, value)


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _set_handlers(wanted: dict[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in wanted.items():
            signal.signal(number, handler)


def _standard() -> tuple[Any, Any, Any]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_standard(wanted: tuple[Any, Any, Any]) -> None:
    sys.stdin, sys.stdout, sys.stderr = wanted


_STATES = [
    _State("the working folder", _folder, _set_folder),
    _State("environment variables", lambda: dict(os.environ), _environment),
    _State("JAX's configuration", _jax, _set_jax),
    _State("NumPy's error state", _numpy_errors, _set_numpy_errors),
    _State("filters of warnings", lambda: warnings.filters[:], _assign(warnings, "filters")),
    _State("the module search path", lambda: sys.path[:], _assign(sys, "path")),
    _State("the limit of recursion", sys.getrecursionlimit, sys.setrecursionlimit),
    _State("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    _State("", _numpy_random, _set_numpy_random),
    _State("", random.getstate, random.setstate),
    _State("the handlers of signals", _handlers, _set_handlers),
    _State("standard input or output", _standard, _set_standard),
]


@contextlib.contextmanager
def undisturbed(say: Callable[[str], None], allowed: Collection[str] = ()) -> Iterator[None]:
    """Put back the state of the process afterwards.

    Args:
        say: told what was changed, in a line.
        allowed: names of what may be changed, see :data:`AT_IMPORT`.

    Raises:
        ExitError: in place of what would end the process (``SystemExit``, ``os._exit``).
    """
    states = [state for state in _STATES if state.name not in allowed]
    before = [state.read() for state in states]
    try:
        with _no_exit():
            yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ExitError(f"it raised {type(error).__name__}({error})") from error
    finally:
        changed = []
        for state, kept in zip(states, before, strict=True):
            if not state.name:
                state.restore(kept)
            elif state.read() != kept:
                state.restore(kept)
                changed.append(state.name)
        if changed:
            say(f"{', '.join(changed)} changed meanwhile; put back")


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """``os._exit`` and ``os.abort`` raise: they would end the process without a word."""

    def refused(*arguments: Any) -> NoReturn:
        raise ExitError(f"it called for the end of the process, with {arguments or 'no'} status")

    kept = os._exit, os.abort
    os._exit = os.abort = refused  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit, os.abort = kept
