"""What is made from records and draws: boards, drawings."""

import click

from dncbench import registry
from dncbench.cli import options, progress_bar, terminal
from dncbench.errors import DataError, UnknownNameError, nearest
from dncbench.storage.reading import without_collection


@click.command()
@click.option("--problem", "problems", multiple=True, metavar="NAME", help="Only these.")
@click.option("--suite", metavar="NAME", help="Only the cases of a suite.")
@click.option("--track", "tracks", multiple=True, metavar="TRACK", help="Rank only these tracks.")
@options.only_budgets
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help='Show this metric, or "all"; may be repeated.  [default: those of the problem]',
)
@click.option("--summary", "summary_only", is_flag=True, help="Only the table over all problems.")
@click.option(
    "--format",
    "style",
    default="table",
    show_default=True,
    type=click.Choice(["table", "md", "csv", "json", "latex"]),
)
@options.results
@options.with_plugins
@without_collection()
def leaderboard(
    problems: tuple[str, ...],
    suite: str | None,
    tracks: tuple[str, ...],
    budgets: tuple[str, ...],
    metrics: tuple[str, ...],
    summary_only: bool,
    style: str,
    results: str | None,
) -> None:
    """Show the leaderboard made from the records.

    \b
    Examples:
      dncbench leaderboard --problem spambase
      dncbench leaderboard --suite trojan2024 --summary
      dncbench leaderboard --track draws
      dncbench leaderboard --metric all --format csv > board.csv
    """
    from dncbench.boards import summary_tables, tables
    from dncbench.boards.leaderboard import boards
    from dncbench.boards.summary import summaries
    from dncbench.storage.identity import identity_of, name_of
    from dncbench.storage.records import Records

    known_metrics = {entry.name for entry in registry.entries("metric")}
    for name in metrics:
        if name != "all" and name not in known_metrics:
            registry.get("metric", name)  # unknown names get suggestions
    shown = () if "all" in metrics else metrics or None
    records = list(Records(results))
    if suite:
        from dncbench.running import suites

        records = suites.of_suite(suite, records)
    for name in problems:
        known = {identity_of(record).problem.name for record in records}
        if name not in known:
            registry.get("problem", name)  # unknown names get suggestions
    if tracks and records:
        _require_tracks(tracks, {record["track"] for record in records})
    found = boards(records, problems, budgets, shown, tracks, by_metric=style in ("csv", "json"))
    if found:
        _require_metrics(metrics, {name_of(metric) for board in found for metric in board.metrics})
    overall = summaries(found)
    if summary_only and found and not overall:
        raise DataError(
            "there is no summary: it takes two boards that rank merges, each with three splits or "
            "more (--splits 3) and a certified reference"
        )
    if style == "table":
        terminal.print_boards([] if summary_only else found, overall)
        return
    writers = {
        "md": (tables.to_markdown, summary_tables.to_markdown),
        "csv": (tables.to_csv, summary_tables.to_csv),
        "json": (tables.to_json, summary_tables.to_json),
        "latex": (tables.to_latex, summary_tables.to_latex),
    }
    of_boards, of_summaries = writers[style]
    parts = [of_summaries(overall)] if summary_only else [of_boards(found)]
    if overall and not summary_only and style in ("md", "latex"):
        parts.append(of_summaries(overall))
    click.echo("\n".join(parts), nl=False)


def _require_metrics(wanted: tuple[str, ...], read: set[str]) -> None:
    for name in wanted:
        if name not in ("all", *read):
            raise DataError(
                f"no record here has a figure of {name}; where it applies, it is read on the draws "
                f"that were kept with: dncbench score --metric {name}"
            )


def _require_tracks(wanted: tuple[str, ...], known: set[str]) -> None:
    for track in wanted:
        if track not in known:
            raise UnknownNameError(
                f"no record has the track {track!r}{nearest(track, known)}; "
                f"known: {', '.join(sorted(known))}"
            )


@click.command()
@click.argument("name")
@options.budget
@options.cache
@click.option("--output", metavar="FILE", help=".svg, .pdf or .png.  [default: NAME.svg]")
def figure(name: str, budget_name: str, cache: str | None, output: str | None) -> None:
    """Draw a figure of a paper anew, from our draws.

    \b
    Examples:
      dncbench figure trojan2024-2
      dncbench figure trojan2024-annealing --output annealing.pdf
    """
    from pathlib import Path

    from dncbench.report import paper_figures as figures
    from dncbench.storage.files import require_writable

    path = Path(output or f"{name}.svg")
    figures.require_drawable(path)
    require_writable(path)
    with progress_bar.progress() as progress:
        figures.draw(name, path, budget=budget_name, cache=cache, progress=progress)
    click.echo(f"written to {path}")
