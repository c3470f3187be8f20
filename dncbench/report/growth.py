"""Scaling studies as the page shows them: a figure and a table for each axis."""

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dncbench import scaling
from dncbench.budget import NAMES as BUDGETS
from dncbench.configure import parse
from dncbench.scaling import Study, tables
from dncbench.scaling.drawing import svg
from dncbench.storage.identity import identity_of


@dataclass(frozen=True)
class Growth:
    """One axis.

    Attributes:
        axis, title: its name, and one line that says what was varied and what was not.
        figure: the drawing, SVG compressed by gzip, in base64.
        header, rows, notes: the table of exponents.
        command: that makes the records.
    """

    axis: str
    title: str
    figure: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    command: str


def growths(records: Sequence[dict[str, Any]]) -> list[Growth]:
    """Every axis along which there are two values or more, for each budget and seed.

    Args:
        records: of studies.
    """
    found_terms = {
        (budget, terms.seed)
        for terms in (identity_of(record).terms for record in records)
        if (budget := parse(terms.budget)[0]) in BUDGETS
    }
    found = [
        scaling.study(records, axis, budget=budget, seed=seed)
        for budget, seed in sorted(found_terms)
        for axis in scaling.known_axes()
    ]
    return [_growth(study) for study in found if len(study.values) > 1]


def _growth(study: Study) -> Growth:
    # Compressed, because all axes together would be larger than the rest of the page.
    packed = gzip.compress(svg(study).encode(), mtime=0)
    parts = [f"dncbench scale --axis {study.axis} --splits {tables.most_splits(study)}"]
    if study.budget != "smoke":
        parts.append(f"--budget {study.budget}")
    if study.seed:
        parts.append(f"--seed {study.seed}")
    return Growth(
        study.axis,
        tables.title(study),
        base64.b64encode(packed).decode(),
        tables.header(study),
        tables.cells(study),
        tables.notes(study),
        " ".join(parts),
    )
