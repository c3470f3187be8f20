"""The report."""

import click

from dncbench.cli import options, progress_bar
from dncbench.storage.reading import without_collection


@click.command()
@click.option("--problem", "problems", multiple=True, metavar="NAME", help="Only these.")
@options.only_budgets
@click.option(
    "--no-draws",
    is_flag=True,
    help="Build from the records alone: no certificates, no overlays; sooner.",
)
@options.results
@options.cache
@click.option("--output", metavar="FILE", help="Write there.  [default: RESULTS/report.html]")
@options.with_plugins
@without_collection()
def report(
    problems: tuple[str, ...],
    budgets: tuple[str, ...],
    no_draws: bool,
    results: str | None,
    cache: str | None,
    output: str | None,
) -> None:
    """Write the results as one HTML file, to be opened in a browser; it loads nothing.

    Made from the records, and from certificates and draws where the cache has them.
    Nothing is sampled: what is missing is left out, and the page says so.

    \b
    Examples:
      dncbench report                                   results/report.html
      dncbench report --problem spambase --budget quick
      dncbench report --no-draws --output /tmp/board.html
    """
    from pathlib import Path

    from dncbench.report import build
    from dncbench.storage.files import write_atomically
    from dncbench.storage.records import Records

    store = Records(results)
    path = Path(output) if output else store.root / "report.html"
    with progress_bar.progress() as progress:
        page = build(
            store,
            problems=problems,
            budgets=budgets,
            cache=cache,
            draws=not no_draws,
            say=progress.say,
        ).encode()
        write_atomically(path, page)
        click.echo(f"written to {path} ({len(page) / 1e6:.2f} MB, {progress.seconds:.0f} s)")


@click.command()
@options.results
@options.cache
@click.option(
    "--readme",
    "readme_file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Bring the leaderboard block of this Markdown file up to date as well.",
)
@without_collection()
def publish(results: str | None, cache: str | None, readme_file: str | None) -> None:
    """Write everything that is made from the records: leaderboard, overview, report.

    \b
    Example:
      dncbench publish --readme README.md
    """
    from pathlib import Path

    from dncbench.report import publish as publishing
    from dncbench.storage.records import Records

    with progress_bar.progress() as progress:
        written = publishing.publish(
            Records(results),
            readme_file=Path(readme_file) if readme_file else None,
            cache=cache,
            say=progress.say,
        )
    for path in written:
        click.echo(f"written: {path}")
