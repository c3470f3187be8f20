"""For authors of methods, problems and metrics."""

import sys

import click

from dncbench.cli import terminal


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def check(file: str) -> None:
    """Hold a plugin's methods, problems and metrics to the laws of their kind.

    The laws are those that everything shipped is held to: determined by its key, as many
    finite draws as asked, the order of shards does not matter, one shard is the posterior
    already, exact where it says so, bad draws refused by name ... A method of closed form takes
    seconds, one that trains networks minutes.

    \b
    Example:
      dncbench check my_method.py
    """
    from dncbench.contracts.check import check as hold

    click.echo(f"holding {file} to the laws ...", err=True)
    subjects, laws = hold(file)
    terminal.print_laws(subjects, laws)
    if any(law.failures for law in laws):
        sys.exit(1)
