"""What tells one cell from every other, and what the cells of one board have in common.

A cell is found by these alone. The settings behind a label and the numbers behind a budget's
name are contents of its record: a setting that is added later, with a default, changes
no label, and what was run before stays found.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""A registered name: it becomes the name of a folder."""

ID = re.compile(rf"{NAME}@[0-9]{{1,9}}")
"""A name with its version."""

SCHEME = re.compile(r"[a-z][a-z-]{0,39}(:[0-9.][0-9.e+-]{0,39})?")
"""A split scheme: it becomes part of a file's name."""

_IDS = re.compile(rf"{ID.pattern}( \+ {ID.pattern})*")


REFERENCE_TRACK = "reference"
"""The track of what is no merge: it was handed the truth itself."""


def name_of(identifier: str) -> str:
    """The name in an id: ``mah`` of ``mah@1``."""
    return identifier.rpartition("@")[0]


def version_of(identifier: str) -> int:
    """The version in an id: 1 of ``mah@1``."""
    return int(identifier.rpartition("@")[2])


class Named(NamedTuple):
    """A problem or method of a record.

    Attributes:
        id: name with version, ``spambase@1``; of a corrected method ``swiss@1 + psis@1``.
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

    @classmethod
    def from_json(cls, content: Any) -> "Identity":
        """From a record; it may be anybody's, so everything is checked.

        Raises:
            ValueError: something is missing, or is not what it should be; names it.
        """
        try:
            problem, method = (Named(content[k]["id"], content[k]["label"]) for k in _KINDS)
            scheme, split = content["split"]["scheme"], content["split"]["index"]
            seed, space, budget = (content[name] for name in ("seed", "space", "budget"))
        except (KeyError, TypeError) as error:
            raise ValueError(f"its identity lacks {error}") from error
        for named, kind in zip((problem, method), _KINDS, strict=True):
            if not (isinstance(named.id, str) and _IDS.fullmatch(named.id)):
                raise ValueError(f"the {kind}'s id {named.id!r} is not NAME@VERSION")
        if not (isinstance(scheme, str) and SCHEME.fullmatch(scheme)):
            raise ValueError(f"its split scheme {scheme!r} is none")
        for number in (split, seed):
            if type(number) is not int or abs(number) >= 2**63:
                raise ValueError(f"its split or seed {number!r} is not a whole number of 64 bits")
        for text in (problem.label, method.label, space, budget):
            if not (isinstance(text, str) and text):
                raise ValueError(f"its identity holds {text!r} where a name should be")
        for named in (problem, method):
            if re.split(r"\[| \+ ", named.label)[0] != named.name:
                raise ValueError(f"the label {named.label!r} is none of {named.id}")
        return cls(problem, method, scheme, split, seed, space, budget)


_KINDS = ("problem", "method")


def identity_of(record: dict[str, Any]) -> Identity:
    """The cell that a record is of.

    Raises:
        ValueError: its identity is none.
    """
    content = record["identity"]
    try:
        parts = [content[kind][part] for kind in _KINDS for part in ("id", "label")]
        parts += [content["split"]["scheme"], content["split"]["index"]]
        return _read_before(*parts, *(content[name] for name in ("seed", "space", "budget")))
    except (KeyError, TypeError):  # missing, or nothing that can be looked up: it is told which
        return Identity.from_json(content)


@functools.lru_cache(maxsize=16_384, typed=True)
def _read_before(*parts: Any) -> Identity:
    """A board asks each record many times over: what was checked is not checked again."""
    problem, method = (dict(zip(("id", "label"), parts[i : i + 2], strict=True)) for i in (0, 2))
    content = {"problem": problem, "method": method}
    content["split"] = dict(zip(("scheme", "index"), parts[4:6], strict=True))
    return Identity.from_json(
        content | dict(zip(("seed", "space", "budget"), parts[6:], strict=True))
    )
