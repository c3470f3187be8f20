"""The command line, a thin layer over the Python API.

JAX is imported by the commands that compute and by no other.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

# Before NumPy loads: OpenBLAS's threads beside those of JAX make each factorisation of a
# fit several times slower (a Gaussian process's at d = 58: 35 s of CPU instead of 3).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dncbench import __version__, budget, registry, screen
from dncbench.errors import DncbenchError

_EXAMPLES = """\b
Examples:
  dncbench run                                      toy problem, every method
  dncbench run --problem spambase --method all      real data, 4 shards, d = 58
  dncbench run --method "consensus[weights=shard]"  one method with a setting
  dncbench leaderboard --problem spambase
  dncbench reference spambase                       the certificate of the truth
  dncbench list methods
"""


class _Group(click.Group):
    """Prints our own errors in one piece, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DncbenchError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("stopped; what is recorded stays, repeat the command to go on", err=True)
            ctx.exit(130)


@click.group(cls=_Group, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dncbench")
def main() -> None:
    """Which merge of local posteriors can you trust, and what does it cost?

    A benchmark of divide-and-conquer MCMC: problems with certified posteriors,
    crossed with methods that merge what the shards know.
    """


def _with_plugins(command: Callable) -> Callable:
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


_seed = click.option("--seed", default=0, show_default=True, help="Everything random follows.")
_budget = click.option(
    "--budget",
    "budget_name",
    type=click.Choice(budget.NAMES),
    default="quick",
    show_default=True,
    help="smoke: about a minute, for tests; quick: 10 000 draws; paper: 50 000.",
)
_cache = click.option(
    "--cache", metavar="DIR", help="Draws and references. [default: DNCBENCH_CACHE or yours]"
)
_results = click.option(
    "--results", metavar="DIR", help="Records. [default: DNCBENCH_RESULTS or ./results]"
)


@main.command(epilog=_EXAMPLES)
@click.option(
    "--problem",
    "problems",
    multiple=True,
    default=["toy-logistic"],
    show_default=True,
    metavar="NAME",
    help='Problem, or "all"; may be repeated.',
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=["all"],
    show_default=True,
    metavar="NAME",
    help='Method, or "all"; settings in brackets: "consensus[weights=shard]"; may be repeated.',
)
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
@_seed
@_budget
@_results
@_cache
@click.option("--force", is_flag=True, help="Run cells again that have a record.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and stop.")
@_with_plugins
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
    dry_run: bool,
) -> None:
    """Run cells of the benchmark; those that have a record are skipped.

    An interrupted run goes on where it stopped: run the same command again.
    """
    from dncbench import experiment, suites
    from dncbench.store import Records

    if suite:
        _refuse_beside("--suite NAME", "problems", "scheme", "space", "data")
        cases = list(suites.get(suite, splits).cases)
    elif data == "published":
        _refuse_beside("--data published", "splits", "scheme")
        cases = [experiment.published(name, space) for name in problems]
    else:
        cases = [experiment.Case(name, splits, scheme, space) for name in problems]
    options: dict[str, Any] = {"seed": seed, "force": force, "correct": correct}
    if dry_run:
        plan = experiment.plan(
            cases, methods, budget=budget.get(budget_name), records=Records(results), **options
        )
        for cell in plan.todo:
            identity = cell.identity
            natural = "natural  " if identity["space"] == "natural" else ""
            click.echo(
                f"{identity['problem']['label']}  {identity['split']['scheme']}-{cell.split}  "
                f"{natural}{identity['method']['label']}"
            )
        click.echo(f"{len(plan.todo)} to run, {len(plan.done)} done already")
        return
    with screen.progress() as progress:
        records = experiment.run(
            cases,
            methods,
            budget=budget_name,
            results=results,
            cache=cache,
            progress=progress,
            **options,
        )
    made, failed = len(progress.recorded), progress.failed
    click.echo(
        f"{made} cells run, {len(records) - made} skipped (recorded before), {failed} failed; "
        f"{progress.seconds:.0f} s, peak memory {progress.peak_memory:.0f} MiB; "
        f"records in {Records(results).root / 'records'}"
    )
    screen.print_boards(
        records_of_same_terms(Records(results), records),
        sorted({record["identity"]["problem"]["name"] for record in records}),
        [budget_name],
    )
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


@main.command()
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
@_results
@_with_plugins
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


@main.command()
@click.argument("paper")
@_budget
@_results
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


@main.command()
@click.argument("name")
@_budget
@_cache
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


@main.command()
@click.argument("problem")
@_seed
@_budget
@_cache
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@_with_plugins
def reference(problem: str, seed: int, budget_name: str, cache: str | None, as_json: bool) -> None:
    """Certify a problem's full posterior, or show its certificate.

    \b
    Example:
      dncbench reference spambase
    """
    from dncbench import experiment

    with screen.progress() as progress:
        certificate, floors = experiment.certify(
            problem, seed=seed, budget=budget_name, cache=cache, progress=progress
        )
    if as_json:
        click.echo(json.dumps({"certificate": certificate, "noise_floor": floors}, indent=1))
        return
    screen.print_certificate(problem, certificate, floors)


@main.command()
@click.argument("problem")
@_seed
@_budget
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@_with_plugins
def speedup(problem: str, seed: int, budget_name: str, as_json: bool) -> None:
    """Measure what the split saves: seconds for an effective draw, full data against a shard.

    Every shard is sampled alone, on this machine and by the same sampler.

    \b
    Example:
      dncbench speedup logistic-tall --budget smoke
    """
    import dataclasses

    from dncbench.speedup import measure

    with screen.progress() as progress:
        found = measure(problem, seed=seed, budget=budget_name, say=progress.say)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found) | {"factor": found.factor}, indent=1))
        return
    screen.print_speedup(found)


@main.command("list")
@click.argument("kind", type=click.Choice(["problems", "methods", "metrics"]), required=False)
@_with_plugins
def list_(kind: str | None) -> None:
    """List what is registered: problems, methods, metrics, or all three."""
    from rich.table import Table

    console = screen.console()
    for each in [kind] if kind else ["problems", "methods", "metrics"]:
        table = Table(title=each, title_justify="left", box=None, pad_edge=False)
        table.add_column("id", no_wrap=True)
        table.add_column("")
        for entry in registry.entries(each.removesuffix("s")):  # type: ignore[arg-type]
            table.add_row(entry.id, entry.summary)
            for variant in entry.variants:
                table.add_row(f"  [{variant}]", 'a variant that "all" includes')
        console.print(table)
        console.print()


@main.command()
@click.argument("name")
@_with_plugins
def show(name: str) -> None:
    """Describe a problem, method or metric: settings with defaults, source, what it uses.

    \b
    Examples:
      dncbench show spambase
      dncbench show "consensus"
    """
    import inspect

    from dncbench.configure import configure, settings_of
    from dncbench.errors import UnknownNameError

    known = {
        entry.name: kind
        for kind in ("metric", "method", "problem")
        for entry in registry.entries(kind)
    }
    base = name.partition("[")[0]
    if base not in known:
        raise UnknownNameError(
            f"nothing is called {base!r}{registry.nearest(base, known)}; 'dncbench list' shows all"
        )
    kind = known[base]
    if kind == "metric":
        entry = registry.get("metric", base)
        click.echo(f"{entry.id} (metric)\n\n{inspect.getdoc(entry.target)}")
        return
    entry, instance = configure(kind, name)  # type: ignore[arg-type]
    click.echo(f"{entry.id} ({kind})\n\n{inspect.getdoc(entry.target)}\n")
    for key, value in settings_of(instance).items():
        click.echo(f"  {key} = {value}")
    if kind == "problem":
        click.echo(f"\n  dimension: {instance.dim}\n  shards: {instance.num_shards}")
        click.echo(f"  parameters: {_shortened(instance.parameter_names)}")
        click.echo(f"  source: {instance.source or 'not stated'}")
    else:
        click.echo(f"\n  track: {instance.track()}\n  needs: {', '.join(sorted(instance.needs))}")


def _shortened(names: tuple[str, ...], most: int = 6) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
