"""Scaling studies."""

import sys
from typing import TYPE_CHECKING, Any

import click

from dncbench.cli import options, progress_bar, terminal

if TYPE_CHECKING:  # SciPy, which it needs, takes half a second that no other command should wait
    import dncbench.scaling


@click.command()
@click.option(
    "--axis",
    "names",
    multiple=True,
    default=["all"],
    show_default=True,
    metavar="NAME",
    help="dim, shards, draws, imbalance, heterogeneity or all; may be repeated.",
)
@options.methods
@click.option(
    "--values", metavar="LIST", help="Values of the one axis, e.g. 2,8,32.  [default: its own]"
)
@click.option("--splits", default=2, show_default=True, type=int, help="How many, at most 10000.")
@options.seed
@options.budget_by_default("smoke")
@options.results
@options.cache
@options.dry_run
@click.option(
    "--format",
    "style",
    default="table",
    show_default=True,
    type=click.Choice(["table", "md", "json"]),
)
@click.option(
    "--output",
    metavar="FILE",
    help="Figure of the one axis: .svg, .pdf or .png.  [default: RESULTS/scale/AXIS.svg]",
)
@options.with_plugins
def scale(
    names: tuple[str, ...],
    methods: tuple[str, ...],
    values: str | None,
    splits: int,
    seed: int,
    budget_name: str,
    results: str | None,
    cache: str | None,
    dry_run: bool,
    style: str,
    output: str | None,
) -> None:
    """Study how error, seconds and bytes grow along an axis, for every method.

    One family of problems with known truth is run with more and more parameters, shards
    or draws, or with shards less and less alike. Cells are ordinary ones: what has a
    record is not run again. Exponents are fitted by least squares on logarithms. Records
    and figures are kept in RESULTS/scale, apart from those of the boards; the report
    shows them.

    \b
    Examples:
      dncbench scale --axis dim --method consensus --method parametric
      dncbench scale --axis shards --values 2,4,8,16 --splits 5
      dncbench scale --axis all --dry-run
    """
    from pathlib import Path

    from dncbench import scaling
    from dncbench.budget import get
    from dncbench.running.plan import plan
    from dncbench.running.run import run
    from dncbench.scaling import axes
    from dncbench.scaling.cases import cases
    from dncbench.scaling.drawing import draw
    from dncbench.storage.records import Records

    wanted = [axes.get_axis(name) for name in (axes.known_axes() if "all" in names else names)]
    if len(wanted) > 1 and (values or output):
        raise click.UsageError("--values and --output are of one axis; name it with --axis")
    grid = {axis: _numbers(values) if values else axis.default for axis in wanted}
    planned = cases(grid, splits=splits, budget=budget_name)
    store = Records(Records(results).root / scaling.FOLDER)
    if dry_run:
        options.print_plan(
            plan(
                planned,
                methods,
                seed=seed,
                budget=get(budget_name),
                records=store,
                metrics=["sw2"],
            )
        )
        return
    with progress_bar.progress() as progress:
        records = run(
            planned,
            methods,
            seed=seed,
            budget=budget_name,
            metrics="sw2",
            results=store.root,
            cache=cache,
            progress=progress,
        )
    click.echo(
        f"{len(progress.recorded)} cells run, {len(records) - len(progress.recorded)} skipped "
        f"(recorded before), {progress.failed} failed; {progress.seconds:.0f} s",
        err=True,
    )
    studies = [scaling.study(records, axis.name, budget=budget_name, seed=seed) for axis in wanted]
    _show(studies, style)
    for study in studies:
        path = Path(output) if output else store.root / f"{study.axis}.svg"
        draw(study, path)
        click.echo(f"written to {path}", err=True)
    if progress.failed:
        sys.exit(1)


def _numbers(text: str) -> tuple[float, ...]:
    """Whole numbers stay whole, as settings want them."""
    try:
        found = {float(part) for part in text.split(",")}
    except ValueError:
        raise click.UsageError(f"--values {text}: write numbers with commas, e.g. 2,8,32") from None
    return tuple(int(value) if value.is_integer() else value for value in sorted(found))


def _show(studies: "list[dncbench.scaling.Study]", style: str) -> None:
    from dncbench.scaling import tables

    if style == "json":
        click.echo(tables.to_json(studies), nl=False)
    for study in studies:
        if style == "md":
            click.echo(tables.to_markdown(study))
        elif style == "table":
            _print(tables, study)


def _print(tables: Any, study: "dncbench.scaling.Study") -> None:
    from rich.table import Table

    screen, table = terminal.console(), Table()
    for column in tables.header(study):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in tables.cells(study):
        table.add_row(*row)
    screen.print(tables.title(study))
    screen.print(table)
    screen.print(tables.LEGEND)
    for note in tables.notes(study):
        screen.print(f"  {note}")
    screen.print()
