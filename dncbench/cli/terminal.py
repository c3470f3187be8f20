"""What the command line shows: tables, the certificate, progress with the time that is left."""

import shutil
import sys
import textwrap
from typing import Any

import click

from dncbench.cli import table
from dncbench.storage.text import one_line

_PIPED = 200
"""Columns of output that no screen shows."""


def console(**options: Any) -> Any:
    """A rich console that does not cut tables when its output is piped."""
    from rich.console import Console

    # Names come with settings in brackets, which are no markup.
    options |= {"highlight": False, "markup": False}
    terminal = Console(**options)
    return terminal if terminal.is_terminal else Console(**options, width=200)


def print_boards(boards: list[Any], summaries: list[Any] = ()) -> None:  # type: ignore[assignment]
    """Print boards, accuracy and cost apart where the screen is narrow, then summaries."""
    from dncbench.boards import notes, summary_tables, tables

    if not (boards or summaries):
        click.echo("no records yet; make some with: dncbench run")
        return
    for board in boards:
        header, rows = tables.header(board), tables.cells(board)
        _print_table(
            tables.title(board),
            header,
            rows[:-1],
            rows[-1],
            header.index("splits") + 1,
            [tables.LEGEND, *notes.of_board(board)],
        )
    for summary in summaries:
        header = summary_tables.header(summary)
        told = [line for each in summary_tables.lead(summary) for line in textwrap.wrap(each)]
        click.echo("\n".join([*map(one_line, told), ""]))
        _print_table(
            summary_tables.title(summary),
            header,
            summary_tables.cells(summary),
            [],
            len(header),
            [summary_tables.LEGEND, *summary_tables.notes(summary)],
        )


def print_comparison(
    title: str, header: list[str], rows: list[list[str]], remarks: list[str]
) -> None:
    """Print what differs between two result sets; no table where nothing does."""
    if rows:
        _print_table(title, header, rows, [], len(header), remarks)
        return
    click.echo("\n".join(map(one_line, [title, *remarks])))


def _print_table(
    title: str,
    header: list[str],
    rows: list[list[str]],
    floor: list[str],
    first_part: int,
    lines: list[str],
) -> None:
    """Print a table, in two parts where it is wider than the screen, and what is said of it.

    Records may be anybody's: nothing of theirs may steer the terminal.
    """
    header, floor = [*map(one_line, header)], [*map(one_line, floor)]
    rows = [[*map(one_line, row)] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED
    columns = list(range(len(header)))
    widths = [max(len(row[c]) for row in [header, *rows]) + 3 for c in columns]
    parts = [columns]
    if sum(widths) + 1 > width and first_part < len(columns):
        parts = [columns[:first_part], [0, *columns[first_part:]]]
    told = [one_line(title)]
    for part in parts:
        foot = [floor[column] for column in part] if floor else []
        told.append(
            table.drawn(
                [header[column] for column in part],
                [[row[column] for column in part] for row in rows],
                foot if any(foot[1:]) else [],
                {"method", "track"},
                width,
            )
        )
    told += textwrap.wrap(one_line(lines[0]), width)
    for line in lines[1:]:
        told += textwrap.wrap(one_line(line), width, initial_indent="  ", subsequent_indent="  ")
    click.echo("\n".join(told) + "\n")


def print_certificate(
    problem: str, grade: str, checks: list[Any], floors: dict[str, dict[str, float]]
) -> None:
    """Print a reference's certificate, a line for each check, and its noise floors.

    Args:
        problem: as it was asked for.
        grade: of the reference.
        checks: :class:`dncbench.draws.Check` of the certificate.
        floors: mean and its standard error, sd and largest reading of each metric on perfect draws.
    """
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"{problem}: grade {grade}"]
    for check in checks:
        side = "at least" if check.at_least else "at most"
        told = [f"{check.value:.4g}"]
        told += [] if check.limit is None else [f"({side} {check.limit:.4g})"]
        told += [check.where] * bool(check.where) + ["NOT MET"] * check.failed
        lines.append(f"  {check.name:<{width}}  {'  '.join(told)}")
    lines.append("  noise floor")
    lines += [
        f"    {metric:<18} {floor['mean']:.4f} ± {floor['standard_error']:.4f} "
        f"(sd {floor['sd']:.4f}, max {floor['max']:.4f})"
        for metric, floor in floors.items()
    ]
    click.echo("\n".join(lines))


def print_laws(subjects: list[str], laws: list[Any]) -> None:
    """Print pass or fail for each :class:`dncbench.contracts.check.Law`."""
    click.echo(", ".join(subjects))
    for law in laws:
        click.echo(f"  {law.verdict:<15} {law.name}")
        for failure in law.failures:
            click.echo(f"      {failure}")
    failed = sum(law.verdict == "FAIL" for law in laws)
    applied = sum(law.verdict != "not applicable" for law in laws)
    click.echo(
        f"{applied - failed} laws kept, {failed} broken, {len(laws) - applied} not applicable"
    )


def print_speedup(found: Any) -> None:
    """Print a :class:`dncbench.running.speedup.Speedup`."""
    from rich.table import Table

    table = Table()
    table.add_column("")
    for column in ("observations", "seconds", "effective draws", "ms for each"):
        table.add_column(column, justify="right")
    named = {"full posterior": found.full}
    named |= {f"shard {s}": cost for s, cost in enumerate(found.shards)}
    for name, cost in named.items():
        table.add_row(
            name,
            str(cost.rows),
            f"{cost.seconds:.1f}",
            f"{cost.ess:.0f}",
            f"{1000 * cost.per_draw:.3g}",
        )
    console().print(table)
    click.echo(
        f"{found.problem}: the slowest shard has an effective draw {found.factor:.2f} times "
        "sooner than the full-data sampler (adaptation counts, compilation does not)"
    )
