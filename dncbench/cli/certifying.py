"""Certificates of the truth, and what sampling it costs."""

import json

import click

from dncbench import screen
from dncbench.cli import options


@click.command()
@click.argument("problem")
@options.seed
@options.budget
@options.cache
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@options.with_plugins
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

    from dncbench.speedup import measure

    with screen.progress() as progress:
        found = measure(problem, seed=seed, budget=budget_name, say=progress.say)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found) | {"factor": found.factor}, indent=1))
        return
    screen.print_speedup(found)
