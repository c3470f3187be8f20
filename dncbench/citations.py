"""What to cite, as BibTeX."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dncbench import registry
from dncbench.entry import Kind
from dncbench.errors import ContractError

_FILE = Path(__file__).parent / "citations.bib"

ALWAYS = ("delmoral2006", "dncbench", "hoffman2014", "vehtari2021")
"""The suite, the two samplers of a reference, and the diagnostics of its certificate."""


def entries() -> dict[str, str]:
    """All entries of the suite's own file, by key."""
    text = _FILE.read_text(encoding="utf-8")
    parts = re.split(r"^(?=@)", text, flags=re.MULTILINE)
    return {key(part): part.strip() for part in parts if part.strip()}


def key(entry: str) -> str:
    """The key of a BibTeX entry.

    Raises:
        ContractError: the text is not one.
    """
    match = re.match(r"@\w+\{([^,\s]+),", entry.strip())
    if not match:
        raise ContractError(f"this is no BibTeX entry: {entry.strip()[:60]!r}")
    return match[1]


def of(kind: Kind, name: str) -> list[str]:
    """The BibTeX entries of a method or problem.

    Raises:
        UnknownNameError: nothing has this name.
        ContractError: it cites a key that is neither in the file nor an entry.
    """
    known, found = entries(), []
    for cited in registry.get(kind, name).target.cites:
        if cited.lstrip().startswith("@"):
            key(cited)
            found.append(cited.strip())
        elif cited in known:
            found.append(known[cited])
        else:
            raise ContractError(
                f"{kind} {name!r} cites {cited!r}, which is not in {_FILE.name}; "
                "give a whole BibTeX entry instead"
            )
    return found


def bibtex(named: Mapping[Kind, Iterable[str]]) -> str:
    """BibTeX of the suite and of what is named, each entry once, sorted by key.

    Args:
        named: names by kind, a method's with its correction where it has one; "all" stands
            for everything registered.

    Raises:
        UnknownNameError, ContractError: as :func:`of`.
    """
    known = entries()
    found = {each: known[each] for each in ALWAYS}
    for kind, names in named.items():
        for name in names:
            for each, one in _parts(kind, name):
                found |= {key(entry): entry for entry in of(each, one)}
    return "\n\n".join(found[each] for each in sorted(found)) + "\n"


def _parts(kind: Kind, name: str) -> list[tuple[Kind, str]]:
    """Kind and name of everything that ``name`` stands for, without settings."""
    if name == "all":
        return [(kind, entry.name) for entry in registry.entries(kind)]
    first, *corrections = (part.partition("[")[0].strip() for part in name.split(" + "))
    return [(kind, first), *(("correction", each) for each in corrections)]
