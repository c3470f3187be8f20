"""Options that several commands share."""

from collections.abc import Callable

import click

from dncbench import registry
from dncbench.budget import NAMES as BUDGETS

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
        callback=lambda context, parameter, files: [registry.load_plugin(file) for file in files],
        help="Python file that registers problems, methods or metrics; may be repeated.",
    )(command)


seed = click.option("--seed", default=0, show_default=True, help="Everything random follows.")
budget = click.option(
    "--budget",
    "budget_name",
    type=click.Choice(BUDGETS),
    default="quick",
    show_default=True,
    help="smoke: about a minute, for tests; quick: 10 000 draws; paper: 50 000.",
)
cache = click.option(
    "--cache", metavar="DIR", help="Draws and references. [default: DNCBENCH_CACHE or yours]"
)
results = click.option(
    "--results", metavar="DIR", help="Records. [default: DNCBENCH_RESULTS or ./results]"
)
