"""Certificates of the truth, and what sampling it costs."""

import json

import click

from dncbench.cli import options, progress_bar, terminal


@click.command()
@click.argument("problem")
@options.metrics
@options.seed
@options.budget
@options.cache
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@options.with_plugins
def reference(
    problem: str,
    metrics: tuple[str, ...],
    seed: int,
    budget_name: str,
    cache: str | None,
    as_json: bool,
) -> None:
    """Certify a problem's full posterior, or show its certificate.

    \b
    Example:
      dncbench reference spambase
    """
    from dncbench.running.run import certified

    with progress_bar.progress() as progress:
        ready = certified(
            problem,
            seed=seed,
            budget=budget_name,
            metrics=metrics,
            cache=cache,
            progress=progress,
        )
    certificate, floors = ready.reference.certificate, ready.scorer.floors
    if as_json:
        click.echo(json.dumps({"certificate": certificate, "noise_floor": floors}, indent=1))
        return
    terminal.print_certificate(problem, certificate["grade"], ready.reference.checks, floors)


@click.command()
@click.argument("problem")
@options.seed
@options.budget
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@options.with_plugins
def speedup(problem: str, seed: int, budget_name: str, as_json: bool) -> None:
    """Measure what the split saves: seconds for an effective draw, full data against a shard.

    Every shard is sampled alone, on this machine and by the same sampler.

    \b
    Example:
      dncbench speedup logistic-tall --budget smoke
    """
    import dataclasses

    from dncbench.running.speedup import measure

    with progress_bar.progress() as progress:
        found = measure(problem, seed=seed, budget=budget_name, say=progress.say)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found) | {"factor": found.factor}, indent=1))
        return
    terminal.print_speedup(found)
