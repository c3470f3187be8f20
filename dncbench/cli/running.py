"""Running cells of the benchmark."""

import sys
from typing import Any

import click

from dncbench import budget
from dncbench.cli import options, progress_bar, terminal


@click.command(epilog=options.EXAMPLES)
@click.option(
    "--problem",
    "problems",
    multiple=True,
    default=["toy-logistic"],
    show_default=True,
    metavar="NAME",
    help='Problem, or "all"; may be repeated.',
)
@options.methods
@click.option("--suite", metavar="NAME", help="Cases of a suite instead of --problem.")
@click.option("--splits", default=5, show_default=True, type=int, help="How many, at most 10000.")
@click.option(
    "--split-scheme",
    "scheme",
    default="random",
    show_default=True,
    help="random, in-order, sorted-by-label, dirichlet:ALPHA or sizes:RATIO.",
)
@click.option(
    "--space",
    default="unconstrained",
    show_default=True,
    type=click.Choice(["unconstrained", "natural"]),
    help="What is merged; natural parameters, as the papers do, need draws of their own.",
)
@click.option(
    "--data",
    default="own",
    show_default=True,
    type=click.Choice(["own", "published"]),
    help="Simulated data of our own key, or the authors'; those are split in order.",
)
@click.option(
    "--correct",
    metavar="NAME",
    help="Follow every merge by a correction: psis, importance resampling in one more round.",
)
@options.metrics
@options.seed
@options.budget
@options.results
@options.cache
@click.option("--force", is_flag=True, help="Run cells again that have a record.")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, 1e9, min_open=True),
    callback=lambda context, parameter, value: _number(value),
    metavar="SECONDS",
    help="A merge that takes longer is ended, and the method not run on a problem's next splits.",
)
@options.dry_run
@options.with_plugins
def run(
    problems: tuple[str, ...],
    methods: tuple[str, ...],
    suite: str | None,
    splits: int,
    scheme: str,
    space: str,
    data: str,
    correct: str | None,
    metrics: tuple[str, ...],
    seed: int,
    budget_name: str,
    results: str | None,
    cache: str | None,
    force: bool,
    time_limit: float | None,
    dry_run: bool,
) -> None:
    """Run cells of the benchmark; those that have a record are skipped.

    An interrupted run goes on where it stopped: run the same command again.
    """
    from dncbench.boards.leaderboard import boards
    from dncbench.running import plan, suites
    from dncbench.running.run import run as run_cells
    from dncbench.storage.identity import identity_of
    from dncbench.storage.records import Records

    if suite:
        _refuse_beside("--suite NAME", "problems", "scheme", "space", "data")
        cases = list(suites.get(suite, splits).cases)
    elif data == "published":
        _refuse_beside("--data published", "splits", "scheme")
        cases = [plan.published(name, space) for name in problems]
    else:
        cases = [plan.Case(name, splits, scheme, space) for name in problems]
    options_of_both: dict[str, Any] = {
        "seed": seed,
        "force": force,
        "correct": correct,
        "metrics": metrics,
    }
    if dry_run:
        options.print_plan(
            plan.plan(
                cases,
                methods,
                budget=budget.get(budget_name),
                records=Records(results),
                **options_of_both,
            )
        )
        return
    with progress_bar.progress() as progress:
        records = run_cells(
            cases,
            methods,
            budget=budget_name,
            results=results,
            cache=cache,
            time_limit=time_limit,
            progress=progress,
            **options_of_both,
        )
    made, failed = len(progress.recorded), progress.failed
    click.echo(
        f"{made} cells run, {len(records) - made} skipped (recorded before), {failed} failed; "
        f"{progress.seconds:.0f} s; "
        f"records in {Records(results).root / 'records'}"
    )
    terms = {identity_of(record).terms for record in records}
    shown = [record for record in Records(results) if identity_of(record).terms in terms]
    terminal.print_boards(boards(shown))
    if failed:
        sys.exit(1)


def _number(seconds: float | None) -> float | None:
    if seconds is not None and seconds != seconds:  # nan lies in every range
        raise click.BadParameter("nan is not a number of seconds")
    return seconds


def _refuse_beside(chosen: str, *parameters: str) -> None:
    """Refuse options that the chosen one brings itself, instead of passing over them."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{chosen} brings its own {parameter.opts[0]}; leave {parameter.opts[0]} out"
            )
