"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

from dncbench import budget as budgets
from dncbench import plugins

EXAMPLES = """\b
Examples:
  dncbench run                                      toy problem, every method
  dncbench run --problem spambase --method all      real data, 4 shards, d = 58
  dncbench run --method "consensus[weights=shard]"  one method with a setting
  dncbench leaderboard --problem spambase
  dncbench reference spambase                       the certificate of the truth
  dncbench list methods
"""


def with_plugins(command: Callable) -> Callable:
    """Give a command ``--plugin FILE``; plugins are loaded before its other options are read."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE",
        expose_value=False,
        is_eager=True,
        callback=lambda context, parameter, files: [plugins.load_plugin(file) for file in files],
        help="Python file that registers problems, methods or metrics; may be repeated.",
    )(command)


methods = click.option(
    "--method",
    "methods",
    multiple=True,
    default=["all"],
    show_default=True,
    metavar="NAME",
    help='Method, or "all" that merge such draws; settings in brackets: '
    '"consensus[weights=shard]"; may be repeated.',
)
metrics = click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help='Metric to read beside those that the problem is judged by, or "all"; may be repeated.',
)
dry_run = click.option("--dry-run", is_flag=True, help="Say what would run, and stop.")
seed = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(-(2**63), 2**63 - 1),
    help="Random seed; all randomness derives from it.",
)


def budget_by_default(name: str) -> Callable[[Callable], Callable]:
    """``--budget`` with this default."""
    return click.option(
        "--budget",
        "budget_name",
        metavar="NAME",
        default=name,
        show_default=True,
        callback=lambda context, parameter, spec: budgets.get(spec).name,
        help="smoke: about a minute, for tests; quick: 10 000 draws; paper: 50 000; "
        'settings in brackets: "quick[num_draws=2000]".',
    )


budget = budget_by_default("quick")
only_budgets = click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="NAME",
    callback=lambda context, parameter, specs: tuple(budgets.get(spec).name for spec in specs),
    help='Only records of this budget: quick, or "quick[num_draws=2000]"; may be repeated.',
)
cache = click.option(
    "--cache", metavar="DIR", help="Draws and references. [default: DNCBENCH_CACHE or yours]"
)
results = click.option(
    "--results", metavar="DIR", help="Records. [default: DNCBENCH_RESULTS or ./results]"
)


def print_plan(plan: Any) -> None:
    """Print a :class:`dncbench.running.plan.Plan`: what would run."""
    for cell in plan.todo:
        identity = cell.identity
        parts = [identity.problem.label, f"{identity.scheme}-{identity.split}"]
        parts += ["natural"] * (identity.space == "natural")
        parts += [identity.budget] * ("[" in identity.budget)
        click.echo("  ".join([*parts, identity.method.label]))
    click.echo(f"{len(plan.todo)} to run, {len(plan.done)} done already")
