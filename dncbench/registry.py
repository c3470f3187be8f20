"""The registry: the only list of problems, methods and metrics.

What ships with dncbench is found by reading the decorators in the source of
``dncbench.problems``, ``dncbench.methods`` and ``dncbench.metrics`` without
importing it (:mod:`dncbench.shipped`), so that ``dncbench list`` needs no JAX and a run
imports only what it uses. Plugins (``--plugin FILE``, or the entry-point group
``dncbench.plugins``) are imported when they are named (:mod:`dncbench.plugins`) or installed.
"""

import functools
import importlib
import importlib.util
import inspect
import re
import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from dncbench.entry import SHAPES, Entry, Kind
from dncbench.errors import ContractError, UnknownNameError, nearest
from dncbench.shipped import PACKAGE_ROOT, PACKAGES, shipped
from dncbench.sources import digest_of
from dncbench.storage.identity import NAME, RESERVED
from dncbench.undisturbed import AT_IMPORT, undisturbed

T = TypeVar("T")

_registered: dict[Kind, dict[str, Entry]] = {kind: {} for kind in PACKAGES}


def register_problem(
    name: str,
    *,
    version: int = 1,
    ranked: bool = True,
    control: bool = False,
    small: str = "",
    dataset: str = "",
    repeats: str = "",
    shape: str = "",
) -> Callable[[type[T]], type[T]]:
    """Register a subclass of :class:`dncbench.Problem` under ``name``.

    Args:
        name: what the command line and the records call it.
        version: raised whenever the meaning of its figures changes.
        ranked: False for a problem that shows something else than which merge is right;
            it has a board, and no share in the summary over problems.
        control: True for one whose subposteriors do not multiply to its posterior, on purpose.
        small: settings, written as in brackets, that make it small enough for the laws.
        dataset: folder of the real data set that it needs, below ``DNCBENCH_DATA``.
        repeats: a setting, such as the number of a simulated data set, whose values repeat one
            experiment: they share a board, as splits do.
        shape: of its posterior, one of :data:`SHAPES`; "" leaves it out of their means.

    Raises:
        ContractError: the name is taken, there is no such shape, or the class misses part of its
            contract.
    """
    if shape and shape not in SHAPES:
        raise ContractError(
            f"problem {name!r}: shape is {shape!r}{nearest(shape, SHAPES)}; known: "
            + ", ".join(SHAPES)
        )
    return _class_decorator(
        "problem",
        name,
        version,
        ranked=ranked,
        control=control,
        small=small,
        dataset=dataset,
        repeats=repeats,
        shape=shape,
    )


def register_method(
    name: str,
    *,
    version: int = 1,
    variants: tuple[str, ...] = (),
    control: bool = False,
    ranked: bool = True,
    small: str = "",
    accurate: str = "",
    ours: bool = False,
    developed_on: tuple[str, ...] = (),
) -> Callable[[type[T]], type[T]]:
    """Register a subclass of :class:`dncbench.Method` under ``name``.

    Args:
        name: what the command line and the records call it.
        version: raised whenever the meaning of its figures changes.
        variants: settings, written as in brackets, that ``--method all`` runs beside
            the defaults and the contract tests hold to the same laws.
        control: True for a method that is there because it is wrong; no law asks it to be
            accurate.
        ranked: False for one that is no merge, but what merges are measured against: boards list
            it beside the reference.
        small: settings, written as in brackets, with which laws that need no accuracy try it.
        accurate: likewise, with which laws of accuracy try it, where the defaults take long;
            by default those.
        ours: True for a method of this project's own, of which boards say so.
        developed_on: names of the problems that its settings were chosen on; boards say that too.

    Raises:
        ContractError: the name is taken, or the class misses part of its contract.
    """
    return _class_decorator(
        "method",
        name,
        version,
        variants=variants,
        control=control,
        ranked=ranked,
        small=small,
        accurate=accurate,
        ours=ours,
        developed_on=developed_on,
    )


def register_correction(name: str, *, version: int = 1) -> Callable[[type[T]], type[T]]:
    """Register a :class:`dncbench.Method` that carries another one further.

    Its first field, ``method``, is the method that it corrects: ``consensus + NAME`` is a
    method like any other, with as many rounds more as the correction needs.

    Raises:
        ContractError: the name is taken, or the class misses part of its contract.
    """
    return _class_decorator("correction", name, version)


def register_metric(
    name: str,
    *,
    version: int = 1,
    reads: tuple[str, ...] = ("values",),
    log: bool = False,
    moments: float = 0.0,
) -> Callable[[Callable], Callable]:
    """Register ``metric(approximation: Sample, reference: Sample) -> Figure``; lower is better.

    Args:
        name: what the command line and the records call it.
        version: raised whenever the meaning of its figures changes.
        reads: fields of :class:`dncbench.Sample` that it cannot do without; where a sample
            lacks one, the metric is not applicable.
        log: True for a figure that is a logarithm, such as a log predictive density, and has
            no zero for perfect draws.
        moments: order of the moments that must be finite for the figure to mean something,
            2 for one that reads a covariance; where a problem's ``finite_moments`` are fewer,
            the metric is not applicable.

    Raises:
        ContractError: the name is taken, or the function does not take two arguments.
    """

    def decorate(function: Callable) -> Callable:
        if not callable(function):
            raise ContractError(f"metric {name!r}: register a function, not {function!r}")
        required = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        if len(required) != 2:
            raise ContractError(
                f"metric {name!r}: {function.__name__} must take exactly two arguments, "
                f"(approximation, reference), both dncbench.Sample; it takes {len(required)}"
            )
        if not (isinstance(moments, int | float) and moments >= 0):
            raise ContractError(f"metric {name!r}: moments is {moments!r}; give an order from 0")
        _add("metric", name, version, function, reads=reads, log=log, moments=moments)
        return function

    return decorate


def _class_decorator(
    kind: Kind, name: str, version: int, **more: Any
) -> Callable[[type[T]], type[T]]:
    def decorate(cls: Any) -> Any:  # anything may be decorated; what is no class is refused
        # Each contract lives beside the base class it describes.
        base: Any
        if kind == "problem":
            from dncbench.problem import Problem as base
        else:  # a correction is a method
            from dncbench.method import Method as base
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise ContractError(f"{kind} {name!r}: {cls!r} must subclass dncbench.{base.__name__}")
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise ContractError(
                f"{kind} {name!r}: class {cls.__name__} misses {', '.join(missing)}; "
                f"see help(dncbench.{base.__name__}) for what each must do"
            )
        complaint = base.contract_violation(cls)
        if complaint:
            raise ContractError(f"{kind} {name!r}: class {cls.__name__}: {complaint}")
        _add(kind, name, version, cls, **more)
        return cls

    return decorate


def _add(kind: Kind, name: str, version: int, target: Any, **more: Any) -> None:
    _refuse_second_copy(target)
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise ContractError(
            f"{kind} {name!r}: a name is letters, digits, '.', '_' and '-', 100 at most, and "
            "starts with a letter or digit: folders of records are called so; "
            f"{' and '.join(map(repr, sorted(RESERVED)))} stand for something else"
        )
    if not (type(version) is int and 0 < version < 10**9):
        raise ContractError(f"{kind} {name!r}: version is {version!r}; give a whole number from 1")
    place = f"{target.__module__}.{target.__qualname__}"
    earlier = _registered[kind].get(name) or shipped(kind).get(name)
    if earlier and (earlier.target is not None or earlier.module != target.__module__):
        raise ContractError(
            f"{kind} {name!r} is already registered by {earlier.module}; give {place} another name"
        )
    summary = (inspect.getdoc(target) or "").strip().split("\n")[0]
    # A dataclass without a docstring writes its signature there.
    if not summary or summary.startswith(f"{target.__name__}("):
        raise ContractError(f"{kind} {name!r}: {place} needs a docstring; its first line is listed")
    more["source"] = digest_of(target)
    _registered[kind][name] = Entry(kind, name, version, summary, target.__module__, target, **more)


def _refuse_second_copy(target: Any) -> None:
    """Refuse ``import methods.x`` from the repository root: it would register everything twice."""
    package = target.__module__.partition(".")[0]
    if package in ("methods", "problems"):
        source = Path(inspect.getfile(target)).resolve()
        if (PACKAGE_ROOT / package).resolve() in source.parents:
            raise ContractError(
                f"{target.__module__} is a second copy of dncbench.{target.__module__}; "
                f"import it as dncbench.{target.__module__}"
            )


# ---------------------------------------------------------------- looking up


@functools.cache
def _load_entry_points() -> None:
    """Import installed plugins; one that raises is reported and left out."""
    for point in entry_points(group="dncbench.plugins"):
        before = snapshot()
        told: list[str] = []
        try:
            with undisturbed(told.append, allowed=AT_IMPORT):
                point.load()
        except Exception as error:
            withdraw_since(before)
            reason = f"{type(error).__name__}: {error}"
            told.append(f"could not be loaded and is left out: {reason}. Fix or uninstall it.")
        for what in told:
            named = f"dncbench plugin {point.name!r} ({point.value})"
            warnings.warn(f"{named} {what}", stacklevel=2)


def snapshot() -> dict[Kind, dict[str, Entry]]:
    """What is registered now."""
    return {kind: dict(found) for kind, found in _registered.items()}


def withdraw_since(before: dict[Kind, dict[str, Entry]]) -> None:
    """Take back what a failing plugin registered, but not the shipped modules it imported."""
    for kind, found in _registered.items():
        ours = {n: entry for n, entry in found.items() if entry.module.startswith("dncbench.")}
        _registered[kind] = before[kind] | ours


def entries(kind: Kind) -> list[Entry]:
    """Everything registered of one kind, by name; shipped entries may not be imported yet."""
    _load_entry_points()
    return sorted({**shipped(kind), **_registered[kind]}.values(), key=lambda entry: entry.name)


def find(kind: Kind, name: str) -> Entry | None:
    """The entry called ``name``, not imported; None where nobody registered it."""
    _load_entry_points()
    return _registered[kind].get(name) or shipped(kind).get(name)


def get(kind: Kind, name: str) -> Entry:
    """The entry called ``name``, its module imported.

    Raises:
        UnknownNameError: nobody registered it; the nearest names are suggested.
    """
    if name not in _registered[kind]:
        known = {entry.name: entry for entry in entries(kind)}
        if name not in known:
            raise UnknownNameError(
                f"no {kind} is called {name!r}{nearest(name, known)}; "
                f"'dncbench list {kind}s' shows all {len(known)}"
            )
        importlib.import_module(known[name].module)
    return _registered[kind][name]
