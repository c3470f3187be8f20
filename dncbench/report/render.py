"""The page as HTML: one file that loads nothing."""

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

from dncbench.boards.tables import bytes_text
from dncbench.report import curves, law_figures, scatter
from dncbench.report.cells import NO_HEAT
from dncbench.report.features import QUESTIONS
from dncbench.report.floors import LEVEL_NAMES, WORST
from dncbench.report.page import Page, Section, choices, distinguishing_terms
from dncbench.scaling.tables import LEGEND
from dncbench.storage.identity import REFERENCE_TRACK, name_of


def html(page: Page) -> str:
    """The whole file; the same page gives the same bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dncbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["join_counts"] = lambda counts: ", ".join(
        f"{count} {name}" for name, count in counts.items()
    )
    environment.filters["breakable"] = _breakable
    environment.filters["figure"] = lambda value: f"{value:.4g}"
    environment.filters["bytes"] = bytes_text
    environment.filters["name_of"] = name_of
    style, script = _template("style.css"), _template("script.js")
    numbers = {method: number for number, method in enumerate(page.methods)}
    return environment.get_template("page.html.j2").render(
        page=page,
        questions=QUESTIONS,
        choices=choices(page),
        short_terms=distinguishing_terms(page),
        level_names=LEVEL_NAMES,
        worst=WORST,
        growth_legend=LEGEND,
        numbers=numbers,
        charts={"scatter": scatter.scatter, "laws": law_figures, **vars(curves)},
        default_methods={section.anchor: _shown_first(section) for section in page.sections},
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}",
        style=Markup(style),
        script=Markup(script),
        data=Markup(embedded(_data(page))),
    )


def embedded(value: Any) -> str:
    """JSON that is safe inside a script element: no ``<``, ``>`` or ``&``."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _breakable(label: str) -> Markup:
    """A label that may go on in another line after each of its settings."""
    return Markup(re.sub(r"(?=\[)|(?<=,)", "<wbr>", str(escape(label))))


def _shown_first(section: Section, most: int = 3) -> list[str]:
    """Methods whose overlays are shown at first: the best merges, as the board has them."""
    drawn = section.kept.marginals[0].lines if section.kept.marginals else {}
    order = [line[0].text for line in section.table.lines]
    tracks = {cell.method: cell.track for cell in section.cells}
    return [m for m in order if m in drawn and tracks[m] != REFERENCE_TRACK][:most]


def _template(name: str) -> str:
    return (resources.files("dncbench.report") / "templates" / name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _data(page: Page) -> dict[str, Any]:
    """What the script needs: every cell's detail, and what each problem is like."""
    metrics = [metric for metric, _ in page.metrics]
    return {
        "reference": REFERENCE_TRACK,
        "metrics": [name for _, name in page.metrics],
        "environments": page.environments,
        "questions": [question.field for question in QUESTIONS],
        "sections": [
            {
                "title": section.title,
                "terms": section.terms,
                "anchor": section.anchor,
                "classes": [name for name, _ in section.classes],
                "cells": [
                    {
                        **vars(cell),
                        "heat": [cell.heat.get(metric, NO_HEAT) for metric in metrics],
                        "marks": [cell.marks.get(metric, "") for metric in metrics],
                        "unreliable": cell.unreliable,
                    }
                    for cell in section.cells
                ],
            }
            for section in page.sections
        ],
    }
