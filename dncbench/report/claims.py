"""A paper's claims, each held against records of this suite with a verdict.

For papers whose printed figures are not compared: what they say of methods relative to each other
can be tried on any tasks. ``problems/published/PAPER.toml`` has the claims,
:mod:`dncbench.report.claim_kinds` what each kind of claim is held to. Nothing is run.
"""

import functools
from collections.abc import Iterable
from typing import Any

from dncbench.report.claim_kinds import KINDS, Finding
from dncbench.report.claim_records import Cells
from dncbench.report.reproduction import published


def has_claims(paper: str) -> bool:
    """Whether a paper's file has claims; otherwise it has figures.

    Raises:
        UnknownNameError: there is no file of such a paper.
    """
    return "claims" in published(paper)


def examine(paper: str, records: Iterable[dict[str, Any]], budget: str) -> list[Finding]:
    """Every claim with its verdict.

    Args:
        paper: one that :func:`has_claims`.
        records: from a store.
        budget: name of the one whose records are read.
    """
    every = list(records)
    suites = functools.cache(lambda suite: Cells(suite, every, budget))
    claims = published(paper)["claims"]
    return [KINDS[claim["kind"]](name, claim, suites) for name, claim in claims.items()]
