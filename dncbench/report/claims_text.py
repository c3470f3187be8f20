"""A paper's claims with their verdicts, as Markdown, and how to run what they lack."""

import shlex

from dncbench.report.claim_kinds import Finding
from dncbench.report.claim_records import STANDARD_ERRORS
from dncbench.report.reproduction import published
from dncbench.running import suites


def commands(found: list[Finding], budget: str) -> list[str]:
    """Commands that make the records which claims lack, one for each suite."""
    methods: dict[str, dict[str, None]] = {}
    metrics: dict[str, dict[str, None]] = {}
    for finding in found:
        for suite, lacking in finding.missing.items():
            methods.setdefault(suite, {}).update(dict.fromkeys(lacking))
            metrics.setdefault(suite, {})[finding.claim["metric"]] = None
    return [
        shlex.join(
            [
                *("dncbench", "run", "--suite", suite, "--budget", budget),
                *(word for each in lacking for word in ("--method", each)),
                *(word for each in metrics[suite] for word in ("--metric", each)),
            ]
        )
        for suite, lacking in methods.items()
        if lacking
    ]


def to_markdown(paper: str, found: list[Finding], budget: str) -> str:
    """Verdicts first, then for each claim what it is held to and its table.

    Args:
        paper: whose claims they are.
        found: with their verdicts.
        budget: whose records were read.
    """
    names = {suite for finding in found for suite in finding.missing}
    summaries = "; ".join(f"`{name}`: {suites.get(name, 1).summary}" for name in sorted(names))
    lines = [
        f"# {published(paper)['reference']}: claims, tried here",
        "",
        "These are the paper's claims of methods relative to each other, not its figures: tasks, "
        "their sizes and rewards, networks and numbers of updates are this suite's own. Read from "
        f"records of budget `{budget}` of the suites {summaries}.",
        "",
        "A ratio is the geometric mean over n splits; in brackets its interval of "
        f"{STANDARD_ERRORS:g} standard errors of the logarithm, from the spread between splits, "
        "of few splits as many more as Student's t asks: one in 44 of those whose true ratio is "
        "the limit lies above it by chance. A row fails where the interval lies above the limit, "
        "and holds where it lies below the margin, which is the limit if none is given. A claim "
        "holds where every row that counts does, fails where one fails, and is otherwise "
        "undecided.",
        "",
        "| claim | verdict | figures |",
        "|---|---|---|",
        *(
            f"| {each.name}: {each.claim['text']} | {each.verdict} | {each.sentence} |"
            for each in found
        ),
    ]
    for finding in found:
        lines += ["", f"## {finding.name}", "", *_section(finding)]
    lacking = commands(found, budget)
    if lacking:
        lines += ["", "## Not run yet", "", "```sh", *lacking, "```"]
    return "\n".join(lines) + "\n"


def _section(finding: Finding) -> list[str]:
    claim = finding.claim
    methods = ", ".join(f"{name} is `{spec}`" for name, spec in claim["methods"].items())
    limits = [f"{key} {claim[key]:g}" for key in ("limit", "margin") if key in claim]
    read = "; ".join([f"Reads `{claim['metric']}`", methods, *limits])
    header = (*finding.header, "verdict")
    return [
        claim["text"],
        "",
        f"{finding.verdict.capitalize()}. {finding.sentence}",
        "",
        f"{read}. {claim['note']}",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join((*row.cells, row.verdict))} |" for row in finding.rows),
    ]
