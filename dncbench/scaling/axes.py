"""What an axis varies, and which value of it a record was made at; read from ``scaling.toml``."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dncbench import budget as budgets
from dncbench.configure import parse
from dncbench.errors import UnknownNameError, nearest
from dncbench.storage.identity import identity_of

_FILE = Path(__file__).parents[1] / "problems" / "scaling.toml"
_SCHEME = "random"


@dataclass(frozen=True)
class Setup:
    """What is run at one value: problem, split scheme and budget, as text."""

    problem: str
    scheme: str
    budget: str


@dataclass(frozen=True)
class Axis:
    """One quantity that grows while all others stay as they are.

    Attributes:
        name: what the command line calls it.
        label: what its values are.
        problem: the family that is studied.
        default: its values, unless others are asked for.
        setting: setting of the problem that is the value; "" where it is not one.
        scheme: split scheme whose number is 1 / value; "" where it is not one.
        budget: numbers of the budget that are the value.
    """

    name: str
    label: str
    problem: str
    default: tuple[float, ...]
    setting: str = ""
    scheme: str = ""
    budget: tuple[str, ...] = ()

    def setup(self, value: float, budget: str) -> Setup:
        """What to run at a value.

        Args:
            value: on the axis, above 0.
            budget: of the study.

        Raises:
            UnknownNameError: the value is not above 0, or there is no such budget.
        """
        if not value > 0:
            raise UnknownNameError(f"axis {self.name!r}: {value:g} is not above 0")
        problem, scheme = self.problem, _SCHEME
        if self.setting:
            problem = f"{problem}[{self.setting}={value!r}]"
        if self.scheme:
            scheme = f"{self.scheme}:{1 / value:.4g}"
        if self.budget:
            name, settings = parse(budget)
            settings |= dict.fromkeys(self.budget, value)
            budget = f"{name}[{','.join(f'{key}={number!r}' for key, number in settings.items())}]"
        return Setup(problem, scheme, budgets.get(budget).name)

    def value_of(self, record: dict[str, Any], budget: str) -> float | None:
        """The value that a cell was run at; None where it differs in anything else.

        Args:
            record: of the cell.
            budget: of the study.
        """
        identity = identity_of(record)
        name, changed = parse(identity.problem.label)
        if name != self.problem or changed.keys() - {self.setting}:
            return None
        scheme, _, number = identity.scheme.partition(":")
        if scheme != (self.scheme or _SCHEME):
            return None
        spent, expected = record["budget"], budgets.get(budget).contents()
        fixed = expected.keys() - {"name", *self.budget}
        if any(spent[key] != expected[key] for key in fixed & spent.keys()):
            return None
        if self.setting:
            return _positive(record["settings"]["problem"].get(self.setting))
        if self.scheme:
            share = _positive(float(number or "0"))
            return share and float(f"{1 / share:.3g}")
        first, *others = (_positive(spent.get(key)) for key in self.budget)
        return first if all(other == first for other in others) else None


def _positive(value: Any) -> float | None:
    """A number above 0 whose logarithm is one; None for anything else that a record may hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 1e-100 <= value <= 1e100 else None


@cache
def known_axes() -> dict[str, Axis]:
    """All axes by name."""
    read = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {
        name: Axis(
            name,
            spec["label"],
            read["problem"],
            tuple(spec["values"]),
            spec.get("setting", ""),
            spec.get("scheme", ""),
            tuple(spec.get("budget", ())),
        )
        for name, spec in read["axes"].items()
    }


def get_axis(name: str) -> Axis:
    """The axis called ``name``.

    Raises:
        UnknownNameError: there is none.
    """
    known = known_axes()
    if name not in known:
        raise UnknownNameError(
            f"no axis is called {name!r}{nearest(name, known)}; known: {', '.join(known)}"
        )
    return known[name]
