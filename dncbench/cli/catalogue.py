"""What is registered."""

import click

from dncbench import registry
from dncbench.cli import options, terminal
from dncbench.entry import Kind

KINDS = ["problems", "methods", "corrections", "metrics"]


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@options.with_plugins
def list_(kind: str | None) -> None:
    """List what is registered: problems, methods, corrections, metrics, or all of them."""
    from rich.table import Table

    console = terminal.console()
    for each in [kind] if kind else KINDS:
        table = Table(title=each, title_justify="left", box=None, pad_edge=False)
        table.add_column("id", no_wrap=True)
        table.add_column("")
        for entry in registry.entries(each.removesuffix("s")):  # type: ignore[arg-type]
            table.add_row(entry.id, entry.summary)
            for variant in entry.variants:
                table.add_row(f"  [{variant}]", 'a variant that "all" includes')
        console.print(table)
        console.print()


@click.command()
@click.argument("name")
@options.with_plugins
def show(name: str) -> None:
    """Describe what is registered: settings with defaults, source, what it uses.

    \b
    Examples:
      dncbench show spambase
      dncbench show "consensus"
    """
    import inspect

    from dncbench.configure import configure, settings_of
    from dncbench.errors import UnknownNameError, nearest

    kinds: tuple[Kind, ...] = ("metric", "correction", "method", "problem")
    known = {entry.name: kind for kind in kinds for entry in registry.entries(kind)}
    base = name.partition("[")[0]
    if base not in known:
        raise UnknownNameError(
            f"nothing is called {base!r}{nearest(base, known)}; 'dncbench list' shows all"
        )
    kind = known[base]
    if kind in ("metric", "correction"):
        entry = registry.get(kind, base)
        click.echo(f"{entry.id} ({kind})\n\n{inspect.getdoc(entry.target)}")
        return
    entry, instance = configure(kind, name)
    click.echo(f"{entry.id} ({kind})\n\n{inspect.getdoc(entry.target)}\n")
    for key, value in settings_of(instance).items():
        click.echo(f"  {key} = {value}")
    if kind == "problem":
        click.echo(f"\n  dimension: {instance.dim}\n  shards: {instance.num_shards}")
        click.echo(f"  parameters: {_shortened(instance.space.names)}")
        click.echo(f"  source: {instance.source or 'not stated'}")
    else:
        click.echo(f"\n  track: {instance.track()}\n  needs: {', '.join(sorted(instance.needs))}")


@click.command()
@click.option("--method", "methods", multiple=True, metavar="NAME", help='Or "all".')
@click.option("--problem", "problems", multiple=True, metavar="NAME", help='Or "all".')
@options.with_plugins
def cite(methods: tuple[str, ...], problems: tuple[str, ...]) -> None:
    """Print BibTeX for the suite, what certifies its references, and the methods used.

    \b
    Examples:
      dncbench cite --method all > methods.bib
      dncbench cite --method "swiss + psis" --problem spambase
    """
    from dncbench import citations

    click.echo(citations.bibtex({"method": methods, "problem": problems}), nl=False)


def _shortened(names: tuple[str, ...], most: int = 6) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
