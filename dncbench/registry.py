"""The registry: the only list of problems, methods and metrics.

What ships with dncbench is found by reading the decorators in the source of
``dncbench.problems``, ``dncbench.methods`` and ``dncbench.metrics`` without
importing it, so that ``dncbench list`` needs no JAX and a run imports only what
it uses. Plugins (``--plugin FILE``, or the entry-point group
``dncbench.plugins``) are imported when they are named (:mod:`dncbench.plugins`) or installed.
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar

from dncbench.errors import ContractError, UnknownNameError, nearest
from dncbench.sources import digest_of
from dncbench.storage.identity import NAME, RESERVED
from dncbench.undisturbed import AT_IMPORT, undisturbed

Kind = Literal["problem", "method", "correction", "metric"]
T = TypeVar("T")

_PACKAGES: dict[Kind, str] = {
    "problem": "problems",
    "method": "methods",
    "correction": "methods",
    "metric": "metrics",
}
_PACKAGE_ROOT = Path(__file__).parent

SHAPES = {
    "glm": "generalised linear models, all log-concave",
    "log-concave": "other log-concave posteriors",
    "not log-concave": "posteriors that are not log-concave",
}
"""Classes of posteriors, over which the summary has means of their own."""


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        kind: "problem", "method", "correction" or "metric".
        name: what the command line and the records call it.
        version: raised whenever the meaning of its figures changes; records of
            another version are stale and never shown beside current ones.
        summary: first line of its docstring.
        module: where it is defined.
        variants: settings that "all" runs beside the defaults, e.g. ``("rounds=2",)``.
        ranked: whether a problem counts in the summary over problems.
        control: whether it is registered because it is wrong on purpose, so that the laws
            which it must break are not held against it.
        small: settings, written as in brackets, with which laws that need no accuracy are
            tried, so that they take seconds.
        accurate: cheaper settings than the defaults with which a method is as accurate as
            the laws of accuracy ask; "" for the defaults.
        dataset: folder of the real data set that a problem needs; "" for none.
        repeats: setting of a problem whose values repeat one experiment; "" for none.
        shape: of a problem's posterior, one of :data:`SHAPES`; "" where nobody says.
        ours: whether a method was devised by this project, and not taken from elsewhere.
        developed_on: problems that a method's settings were chosen on.
        reads: what a metric reads of its samples.
        log: whether a metric is a logarithm already, so that its excess over what perfect
            draws read counts, and no ratio to it.
        moments: order of the moments of the posterior that a metric needs to be finite.
        then: the correction that follows a method.
        source: digest of a plugin's source, part of its id; "" for what ships with dncbench.
        target: the class or function; None while only its decorator was read.
    """

    kind: Kind
    name: str
    version: int
    summary: str
    module: str
    target: Any = None
    variants: tuple[str, ...] = ()
    ranked: bool = True
    control: bool = False
    small: str = ""
    accurate: str = ""
    dataset: str = ""
    repeats: str = ""
    shape: str = ""
    ours: bool = False
    developed_on: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("values",)
    log: bool = False
    moments: float = 0.0
    then: "Entry | None" = None
    source: str = ""

    @property
    def specs(self) -> list[str]:
        """What "all" stands for: the name, and the name with each variant's settings."""
        return [self.name, *(f"{self.name}[{variant}]" for variant in self.variants)]

    @property
    def id(self) -> str:
        """Name with version, e.g. ``spambase@1``, as records store it.

        Of a plugin, with a digest of its source: ``median@1+3fa9c1d2e4b5``.
        """
        own = f"{self.name}@{self.version}" + (f"+{self.source}" if self.source else "")
        return own if self.then is None else f"{own} + {self.then.id}"

    @property
    def small_spec(self) -> str:
        """The name with its small settings."""
        return f"{self.name}[{self.small}]" if self.small else self.name


_registered: dict[Kind, dict[str, Entry]] = {kind: {} for kind in _PACKAGES}


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
    earlier = _registered[kind].get(name) or _shipped(kind).get(name)
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
        if (_PACKAGE_ROOT / package).resolve() in source.parents:
            raise ContractError(
                f"{target.__module__} is a second copy of dncbench.{target.__module__}; "
                f"import it as dncbench.{target.__module__}"
            )


# ---------------------------------------------------------------- discovery


@functools.cache
def _shipped(kind: Kind) -> dict[str, Entry]:
    """Read the decorators of the modules that ship with dncbench, importing none of them."""
    folder = _PACKAGE_ROOT / _PACKAGES[kind]
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder).with_suffix("")
        parts = [part for part in relative.parts if part != "__init__"]
        module = ".".join(["dncbench", _PACKAGES[kind], *parts])
        for entry in _decorated(path.read_text(encoding="utf-8"), kind, module):
            if entry.name in found:
                raise ContractError(
                    f"{kind} {entry.name!r} is registered by both {found[entry.name].module} "
                    f"and {module}; rename one"
                )
            found[entry.name] = entry
    return found


def _decorated(source: str, kind: Kind, module: str) -> Iterable[Entry]:
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            if call.func.id == f"register_{kind}":
                options = {
                    word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg
                }
                summary = (ast.get_docstring(node) or "").strip().split("\n")[0]
                name = ast.literal_eval(call.args[0])
                version = options.pop("version", 1)
                yield Entry(kind, name, version, summary, module, **options)


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
        shipped = {n: entry for n, entry in found.items() if entry.module.startswith("dncbench.")}
        _registered[kind] = before[kind] | shipped


def entries(kind: Kind) -> list[Entry]:
    """Everything registered of one kind, by name; shipped entries may not be imported yet."""
    _load_entry_points()
    return sorted({**_shipped(kind), **_registered[kind]}.values(), key=lambda entry: entry.name)


def find(kind: Kind, name: str) -> Entry | None:
    """The entry called ``name``, not imported; None where nobody registered it."""
    _load_entry_points()
    return _registered[kind].get(name) or _shipped(kind).get(name)


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
