"""The command line, a thin layer over the Python API.

JAX is imported by the commands that compute and by no other.
"""

import os
from typing import Any

import click

# Before NumPy loads: OpenBLAS's threads beside those of JAX make each factorisation of a
# fit several times slower (a Gaussian process's at d = 58: 35 s of CPU instead of 3).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dncbench import __version__
from dncbench.cli import (
    catalogue,
    certifying,
    comparing,
    contributing,
    options,
    reporting,
    results,
    running,
    scaling,
)
from dncbench.errors import DncbenchError


class _Group(click.Group):
    """Prints our own errors in one piece, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DncbenchError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except ValueError as error:  # halves of characters, or a null byte, in a file's name
            if not isinstance(error, UnicodeEncodeError) and "embedded null" not in str(error):
                raise
            click.echo("error: an argument holds characters that no name can have", err=True)
            ctx.exit(2)


@click.group(
    cls=_Group, epilog=options.EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="dncbench")
def main() -> None:
    """Which merge of local posteriors can you trust, and what does it cost?

    A benchmark of divide-and-conquer MCMC: problems with certified posteriors,
    crossed with methods that merge what the shards know.
    """


for _command in (
    running.run,
    results.leaderboard,
    comparing.compare,
    comparing.merge_results,
    comparing.score,
    results.figure,
    reporting.report,
    reporting.publish,
    certifying.reference,
    certifying.speedup,
    scaling.scale,
    catalogue.list_,
    catalogue.show,
    catalogue.cite,
    contributing.check,
):
    main.add_command(_command)
