"""A paper's figures beside ours, as Markdown."""

from dncbench.report.joint_offset import STANDARD_ERRORS
from dncbench.report.reproduction import (
    ARTEFACT,
    MISSING,
    OTHERWISE,
    REPRODUCED,
    UNDECIDED,
    UNEXPLAINED,
    VERDICTS,
    Claim,
    Comparison,
    Estimate,
    Joint,
    published,
)

_COLUMNS = {"text": "as the text says", "computed": "as the code computes"}


def to_markdown(paper: str, found: Comparison, budget: str) -> str:
    """The tables with a summary before them.

    Args:
        paper: whose figures they are.
        found: what was compared.
        budget: whose records stand in where there are none as described.
    """
    lines = [f"# {published(paper)['reference']}: published figures and ours", ""]
    lines += _summary(found, budget)
    for title in dict.fromkeys(row.table for row in found.claims):
        part = [row for row in found.claims if row.table == title]
        lines += ["", f"## {title}", ""]
        lines += [
            "| method | metric | published | ours, as the text says | run as described "
            "| ours, as the code computes | verdict |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.method} | {row.metric} | {_published_text(row)} | {_text(row.text)} "
            f"| {_described(row.text)} | {_text(row.computed)} | {row.verdict} |"
            for row in part
        ]
        whys = dict.fromkeys(row.why for row in part if row.why)
        lines += ["", *(f"As the code computes: {why}." for why in whys)] if whys else []
        lines += _joint_table([test for test in found.joint if test.table == title])
    return "\n".join(lines) + "\n"


def _published_text(row: Claim) -> str:
    spread = f" (se {row.published_error:.3f})" if row.published_error else ""
    return f"{row.published:.2f}{spread}"


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    mark = "?" * estimate.unreliable
    return f"{estimate.value:.3f}{mark} (se {estimate.standard_error:.3f}, n {estimate.number})"


def _described(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return "; ".join(estimate.departures) or "yes"


def _joint_table(tests: list[Joint]) -> list[str]:
    if not tests:
        return []
    lines = [
        "",
        "Together, the figures that agree alone or are off by as much as those that do:",
        "",
        "| metric | ours | figures | published against ours | p | |",
        "|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {test.metric} | {_COLUMNS[test.column]} | {', '.join(test.methods)} "
        f"| {100 * test.offset.value:+.1f} % (se {100 * test.offset.standard_error:.1f} %) "
        f"| {test.offset.p_value:.2g} "
        f"| {'too far: none counts' if test.offset.significant else 'agree'} |"
        for test in tests
    ]


def _summary(found: Comparison, budget: str) -> list[str]:
    rows = found.claims
    count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    exact = sum(
        row.verdict == REPRODUCED and row.text is not None and not row.text.departures
        for row in rows
    )
    tables = {
        title: [row for row in rows if row.table == title]
        for title in dict.fromkeys(row.table for row in rows)
    }
    each = "; ".join(
        f"{title.partition(' (')[0]}: "
        + ", ".join(
            f"{number} {verdict}"
            for verdict in VERDICTS
            if (number := sum(row.verdict == verdict for row in part))
        )
        for title, part in tables.items()
    )
    estimates = [e for row in rows for e in (row.text, row.computed) if e is not None]
    grades = ", ".join(sorted({estimate.grade for estimate in estimates})) or "-"
    missing = f" {count[MISSING]} more were not run." if count[MISSING] else ""
    return [
        f"Of {len(rows)} published figures, {count[REPRODUCED]} are reproduced by the experiment "
        f"as the text describes it, within {STANDARD_ERRORS:g} standard errors of both sides and "
        f"the two decimals printed ({exact} of them run with the paper's own training and draws); "
        f"{count[ARTEFACT]} are not, but follow from what the public code computes instead; "
        f"{count[UNEXPLAINED]} are unexplained; {count[OTHERWISE]} differ, but were not run with "
        f"the paper's training and draws yet; of {count[UNDECIDED]} the errors are too large to "
        f"tell.{missing} By table: {each}.",
        "",
        "The figures of one metric in a table share a reference. Below each table, those that "
        "agree alone, and those that are off by as much as they are, are tested together for a "
        "common offset of the published ones, whose standard error counts the shared part of "
        f"the errors as shared; where the offset is more than {STANDARD_ERRORS:g} standard "
        "errors, none of them agrees, otherwise all.",
        "",
        f"Our figures are against references of grade {grades} (A exact, B certified by two "
        "samplers that agree, C not certified), with "
        f"the same subposterior draws for every method, and budget `{budget}` where none of the "
        "paper's draws is recorded; standard errors "
        "(se) cover the spread between splits or data sets and the Monte Carlo error of both "
        "samples, n is how many. The published references were single chains without a "
        "convergence diagnostic, so that a small difference in a published figure may be theirs. "
        "A question mark stands for merges whose own sampling did not converge.",
    ]
