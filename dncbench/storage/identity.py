"""What tells one cell from every other, and what the cells of one board have in common.

A cell is found by these alone. The settings behind a label and the numbers behind a budget's
name are contents of its record: a setting that is added later, with a default, changes
no label, and what was run before stays found.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from dncbench.storage.text import UNPRINTABLE

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""A registered name: it becomes the name of a folder."""

RESERVED = frozenset({"all"})
"""Names that mean something else where a name is asked for."""

ID = re.compile(rf"{NAME}@[0-9]{{1,9}}(\+[0-9a-f]{{12}})?")
"""A name with its version and, of a plugin, a digest of its source."""

METHOD_ID = rf"{ID.pattern}( \+ {ID.pattern})*"
"""A method's id, and those of the corrections that follow it."""

SCHEME = re.compile(r"[a-z][a-z-]{0,39}(:[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?)?")
"""A split scheme: it becomes part of a file's name."""

_KEY, _VALUE = rf"[^{UNPRINTABLE}\[\],=]+", rf"[^{UNPRINTABLE}\[\],]*"
LABEL = rf"{NAME}(\[{_KEY}={_VALUE}(,{_KEY}={_VALUE})*\])?"
"""A name with the settings that differ from the defaults, as ``configure`` reads it."""

BUDGET = LABEL
SPACE = r"[a-z][a-z0-9_-]{0,99}"


REFERENCE_TRACK = "reference"
"""The track of what is no merge: it was handed the truth itself, or all that anybody knows."""


def name_of(identifier: str) -> str:
    """The name in an id: ``mah`` of ``mah@1``."""
    return identifier.rpartition("@")[0]


def base_name(label: str) -> str:
    """The name in a label, without settings and corrections: ``swiss`` of ``swiss + psis``."""
    return re.split(r"[\[ ]", label)[0]


def version_of(identifier: str) -> int:
    """The version in an id: 1 of ``mah@1``, and of a plugin's ``mah@1+3fa9c1d2e4b5``."""
    return int(identifier.rpartition("@")[2].partition("+")[0])


class Named(NamedTuple):
    """A problem or method of a record.

    Attributes:
        id: name with version, ``spambase@1``, of a plugin with a digest of its source,
            ``median@1+3fa9c1d2e4b5``; of a corrected method ``swiss@1 + psis@1``.
        label: the name with the settings that differ from the defaults.
    """

    id: str
    label: str

    @property
    def name(self) -> str:
        """Without version and correction."""
        return name_of(self.id.split(" + ")[0])

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Name and id of the method, then of each correction."""
        return [(name_of(part), part) for part in self.id.split(" + ")]


@dataclass(frozen=True, order=True)
class Terms:
    """What the cells of one board have in common; boards are sorted by it.

    Attributes:
        problem: label.
        scheme: of the splits.
        budget: name, with what was changed of it in brackets.
        seed: of the run.
        space: what is merged.
    """

    problem: str
    scheme: str
    budget: str
    seed: int
    space: str

    def unusual(self) -> list[str]:
        """What differs from a run without options, in words."""
        parts = [f"{self.scheme} splits"] * (self.scheme != "random")
        parts += [f"seed {self.seed}"] * (self.seed != 0)
        return parts + [f"{self.space} space"] * (self.space == "natural")

    def title(self) -> str:
        """The problem, the budget, and what is unusual."""
        return ", ".join([self.problem, f"budget {self.budget}", *self.unusual()])


@dataclass(frozen=True)
class Identity:
    """One cell.

    Attributes:
        problem, method: what was run.
        scheme: of the splits.
        split: its index.
        seed: of the run.
        space: what is merged.
        budget: name.
    """

    problem: Named
    method: Named
    scheme: str
    split: int
    seed: int
    space: str
    budget: str

    @property
    def terms(self) -> Terms:
        """What it shares with the other cells of its board."""
        return Terms(self.problem.label, self.scheme, self.budget, self.seed, self.space)

    def title(self) -> str:
        """The whole cell in words."""
        return f"{self.terms.title()}, {self.method.label}, split {self.split}"

    def to_json(self) -> dict[str, Any]:
        """As records have it."""
        return {
            "problem": self.problem._asdict(),
            "method": self.method._asdict(),
            "split": {"scheme": self.scheme, "index": self.split},
            "seed": self.seed,
            "space": self.space,
            "budget": self.budget,
        }


def identity_of(record: dict[str, Any]) -> Identity:
    """The cell of a record that was held to :mod:`dncbench.storage.contents`.

    Raises:
        ValueError: a label is that of another id.
    """
    content = record["identity"]
    problem, method, split = content["problem"], content["method"], content["split"]
    return _identity(
        *(problem["id"], problem["label"], method["id"], method["label"]),
        *(split["scheme"], split["index"], content["seed"], content["space"], content["budget"]),
    )


@functools.lru_cache(maxsize=65_536)
def _identity(
    problem: str,
    problem_label: str,
    method: str,
    method_label: str,
    *others: Any,
) -> Identity:
    """A board asks each record many times over: what was read is not read again."""
    named = Named(problem, problem_label), Named(method, method_label)
    for each in named:
        if re.sub(r"\[.*?\]", "", each.label).split(" + ") != [name for name, _ in each.parts]:
            raise ValueError(f"the label {each.label!r} is none of {each.id}")
    return Identity(*named, *others)
