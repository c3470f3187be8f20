"""Records beside other figures: those of a paper, those of another result set."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from dncbench import registry
from dncbench.budget import NAMES as BUDGETS
from dncbench.cli import options, progress_bar, terminal
from dncbench.errors import DataError, DncbenchError
from dncbench.storage.reading import without_collection

if TYPE_CHECKING:
    from dncbench.storage.records import Records


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="PAPER | FOLDER FOLDER")
@click.option(
    "--budget",
    "budget_name",
    type=click.Choice(BUDGETS),
    default="quick",
    show_default=True,
    help="Of the records that are read; for published figures, of those that stand in where there "
    "are none of the paper's own draws.",
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help='Of two folders; or "all".'
)
@click.option("--everything", is_flag=True, help="Of two folders: also what agrees.")
@options.results
@click.option(
    "--output", metavar="FILE", help="Of a paper.  [default: RESULTS/reproduction_PAPER.md]"
)
@without_collection()
def compare(
    what: tuple[str, ...],
    budget_name: str,
    metrics: tuple[str, ...],
    everything: bool,
    results: str | None,
    output: str | None,
) -> None:
    """Compare published figures or claims with ours, or two result sets cell by cell.

    A paper's figures are reproduced, an artefact of its code, unexplained, or not run with its own
    training and draws; its claims hold, fail, or are undecided. Of two results folders, the
    cells that both have are compared, paired over splits.

    \b
    Examples:
      dncbench run --suite trojan2024 --method all && dncbench compare trojan2024
      dncbench compare dasilva2024
      dncbench compare results-of-last-week results
      dncbench compare mine theirs --metric all --everything
    """
    if len(what) == 1:
        _with_paper(what[0], budget_name, results, output)
    elif len(what) == 2:
        _two_folders(*what, metrics, everything)
    else:
        raise click.UsageError("give one paper, or two results folders")


def _with_paper(paper: str, budget_name: str, results: str | None, output: str | None) -> None:
    from dncbench.report.claims import has_claims
    from dncbench.storage.files import write_atomically
    from dncbench.storage.records import Records

    store = Records(results)
    text = (_claims if has_claims(paper) else _figures)(paper, store, budget_name)
    path = Path(output) if output else store.root / f"reproduction_{paper}.md"
    write_atomically(path, text.encode())
    click.echo(text)
    click.echo(f"written to {path}")


def _figures(paper: str, store: "Records", budget_name: str) -> str:
    from dncbench.report import reproduction
    from dncbench.report.reproduction_text import to_markdown

    found = reproduction.compare(paper, store, budget_name)
    if all(row.verdict == reproduction.MISSING for row in found.claims):
        _without_records(store, budget_name, [f"dncbench run --suite {paper} --method all"])
    return to_markdown(paper, found, budget_name)


def _claims(paper: str, store: "Records", budget_name: str) -> str:
    from dncbench.report.claim_kinds import MISSING
    from dncbench.report.claims import examine
    from dncbench.report.claims_text import commands, to_markdown

    found = examine(paper, store, budget_name)
    if all(finding.verdict == MISSING for finding in found):
        _without_records(store, budget_name, commands(found, budget_name))
    return to_markdown(paper, found, budget_name)


def _without_records(store: "Records", budget_name: str, commands: list[str]) -> NoReturn:
    raise DataError(
        f"{store.root} has no record of this paper's experiments under budget {budget_name}; "
        f"make them with: {' && '.join(commands)}"
    )


def _two_folders(first: str, second: str, metrics: tuple[str, ...], everything: bool) -> None:
    from dncbench.boards import comparison

    shown = () if "all" in metrics else metrics or None
    found = comparison.compare(_records(first), _records(second), shown)
    if not found.differences and not found.changed:
        raise DataError(
            f"{first} and {second} have no scored cell in common; a cell is a problem, method, "
            "scheme, budget, seed, space and split"
        )
    terminal.print_comparison(
        f"first: {first}, second: {second}",
        comparison.HEADER,
        comparison.rows(found, everything),
        comparison.remarks(found),
    )


def _records(folder: str) -> list[dict]:
    from dncbench.storage.records import Records

    records = list(Records(folder))
    if not records:
        raise DataError(f"{folder} has no records; give the folder that holds 'records'")
    return records


@click.command("merge-results")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
@options.results
@click.option("--prefer-theirs", is_flag=True, help="Where figures differ, take theirs.")
def merge_results(folders: tuple[str, ...], results: str | None, prefer_theirs: bool) -> None:
    """Copy the records of other results folders into ours.

    Where both have a cell with other figures ours stays, and it is said.

    \b
    Example:
      dncbench merge-results ../colleague/results
    """
    from dncbench.storage import merge_results as exchange
    from dncbench.storage.records import Records

    store = Records(results)
    for folder in folders:
        merged = exchange.merge_results(Path(folder), store, prefer_theirs=prefer_theirs)
        kept = "theirs taken" if prefer_theirs else "ours kept"
        click.echo(
            f"{folder}: {len(merged.added)} added, {len(merged.same)} there already, "
            f"{len(merged.conflicts)} with other figures ({kept})"
        )
        for name in merged.conflicts:
            click.echo(f"  {name}")


@click.command()
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only these.")
@options.results
@options.cache
@options.with_plugins
def score(metrics: tuple[str, ...], results: str | None, cache: str | None) -> None:
    """Read metrics that records lack on the draws that were kept; nothing is run again.

    \b
    Example:
      dncbench score --plugin my_metric.py --metric mine
    """
    from dncbench.running import rescoring
    from dncbench.storage.records import Records

    for name in metrics:
        registry.get("metric", name)  # unknown names get suggestions
    store = Records(results)
    if not os.path.isdir(store.root / "records"):
        raise DataError(f"{store.root} has no records; give the folder that holds 'records'")
    store.require_writable()
    with progress_bar.progress() as progress:
        done = rescoring.rescore(store, metrics, cache=cache, progress=progress)
    click.echo(
        f"{done.scored} records scored, {done.complete} had these metrics, "
        f"{done.without_draws} without kept draws (run them again with: dncbench run --force)"
    )
    if done.failed:
        click.echo(f"{done.failed} records have no figure of a metric that failed", err=True)
        sys.exit(1)
    if done.failed:
        raise DncbenchError(f"{done.failed} records have a metric that could not be read")
