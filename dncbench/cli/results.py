"""What is made from records: boards, published figures beside ours, drawings."""

import click

from dncbench import budget, registry, screen
from dncbench.cli import options


@click.command()
@click.option("--problem", "problems", multiple=True, metavar="NAME", help="Only these.")
@click.option("--budget", "budgets", multiple=True, type=click.Choice(budget.NAMES))
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help='Show this metric, or "all"; may be repeated.  [default: mah, iad, skew]',
)
@click.option(
    "--format",
    "style",
    default="table",
    show_default=True,
    type=click.Choice(["table", "md", "csv", "json"]),
)
@options.results
@options.with_plugins
def leaderboard(
    problems: tuple[str, ...],
    budgets: tuple[str, ...],
    metrics: tuple[str, ...],
    style: str,
    results: str | None,
) -> None:
    """Show the leaderboard made from the records.

    \b
    Examples:
      dncbench leaderboard --problem spambase
      dncbench leaderboard --metric sw2 --metric cov
      dncbench leaderboard --metric all --format csv > board.csv
    """
    from dncbench import tables
    from dncbench.leaderboard import HEADLINE, boards
    from dncbench.store import Records

    known_metrics = {entry.name for entry in registry.entries("metric")}
    for name in metrics:
        if name != "all" and name not in known_metrics:
            registry.get("metric", name)  # unknown names get suggestions
    shown = () if "all" in metrics else metrics or HEADLINE
    records = list(Records(results))
    for name in problems:
        known = {record["identity"]["problem"]["name"] for record in records}
        if name not in known:
            registry.get("problem", name)  # unknown names get suggestions
    if style == "table":
        screen.print_boards(records, problems, budgets, shown)
        return
    found = boards(records, problems, budgets, shown)
    writers = {"md": tables.to_markdown, "csv": tables.to_csv, "json": tables.to_json}
    click.echo(writers[style](found), nl=False)


@click.command()
@click.argument("paper")
@options.budget
@options.results
@click.option(
    "--output", metavar="FILE", help="Write there.  [default: RESULTS/reproduction_PAPER.md]"
)
def compare(paper: str, budget_name: str, results: str | None, output: str | None) -> None:
    """Compare published figures with ours: reproduced, artefact or unexplained.

    \b
    Example:
      dncbench run --suite trojan2024 --method all && dncbench compare trojan2024
    """
    from pathlib import Path

    from dncbench import reproduction
    from dncbench.store import Records, write_atomically

    store = Records(results)
    found = reproduction.rows(paper, store, budget_name)
    text = reproduction.to_markdown(paper, found, budget_name)
    path = Path(output) if output else store.root / f"reproduction_{paper}.md"
    write_atomically(path, text.encode())
    click.echo(text)
    click.echo(f"written to {path}")


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

    from dncbench import figures

    path = Path(output or f"{name}.svg")
    with screen.progress() as progress:
        figures.draw(name, path, budget=budget_name, cache=cache, progress=progress)
    click.echo(f"written to {path}")
