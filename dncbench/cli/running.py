"""Running cells of the benchmark."""

import sys
from typing import Any

import click

from dncbench import budget, screen
from dncbench.cli import options


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
@click.option("--splits", default=5, show_default=True, type=click.IntRange(1), help="How many.")
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
    type=click.Choice(["psis"]),
    help="Follow every merge by one more round of importance resampling.",
)
@options.seed
@options.budget
@options.results
@options.cache
@click.option("--force", is_flag=True, help="Run cells again that have a record.")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="A method that takes longer on one split is not run on a problem's next ones.",
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
    from dncbench import experiment, suites
    from dncbench.leaderboard import boards
    from dncbench.store import Records

    if suite:
        _refuse_beside("--suite NAME", "problems", "scheme", "space", "data")
        cases = list(suites.get(suite, splits).cases)
    elif data == "published":
        _refuse_beside("--data published", "splits", "scheme")
        cases = [experiment.published(name, space) for name in problems]
    else:
        cases = [experiment.Case(name, splits, scheme, space) for name in problems]
    terms: dict[str, Any] = {"seed": seed, "force": force, "correct": correct}
    if dry_run:
        options.print_plan(
            experiment.plan(
                cases, methods, budget=budget.get(budget_name), records=Records(results), **terms
            )
        )
        return
    with screen.progress() as progress:
        records = experiment.run(
            cases,
            methods,
            budget=budget_name,
            results=results,
            cache=cache,
            time_limit=time_limit,
            progress=progress,
            **terms,
        )
    made, failed = len(progress.recorded), progress.failed
    click.echo(
        f"{made} cells run, {len(records) - made} skipped (recorded before), {failed} failed; "
        f"{progress.seconds:.0f} s, peak memory {progress.peak_memory:.0f} MiB; "
        f"records in {Records(results).root / 'records'}"
    )
    shown = records_of_same_terms(Records(results), records)
    problems_run = {record["identity"]["problem"]["name"] for record in records}
    screen.print_boards(boards(shown, problems_run, [budget_name]))
    if failed:
        sys.exit(1)


def _refuse_beside(chosen: str, *parameters: str) -> None:
    """Refuse options that the chosen one brings itself, instead of passing over them."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{chosen} brings its own {parameter.opts[0]}; leave {parameter.opts[0]} out"
            )


def records_of_same_terms(store: Any, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The store's records with the terms (problem, scheme, seed) of those just run."""
    terms = {_terms(record) for record in shown}
    return [record for record in store if _terms(record) in terms]


def _terms(record: dict[str, Any]) -> tuple:
    identity = record["identity"]
    return identity["problem"]["label"], identity["split"]["scheme"], identity["seed"]
