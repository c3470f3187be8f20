"""What the command line shows: tables, the certificate, progress with the time that is left."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import click


def console(**options: Any) -> Any:
    """A rich console that does not cut tables when its output is piped."""
    from rich.console import Console

    # Names come with settings in brackets, which are no markup.
    options |= {"highlight": False, "markup": False}
    terminal = Console(**options)
    return terminal if terminal.is_terminal else Console(**options, width=200)


def print_boards(boards: list[Any], summaries: list[Any] = ()) -> None:  # type: ignore[assignment]
    """Print boards, accuracy and cost apart where the screen is narrow, then summaries."""
    from dncbench import summary_tables, tables

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
            [tables.LEGEND, *tables.notes(board)],
        )
    for summary in summaries:
        header = summary_tables.header(summary)
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
    click.echo("\n".join([title, *remarks]))


def _print_table(
    title: str,
    header: list[str],
    rows: list[list[str]],
    floor: list[str],
    first_part: int,
    lines: list[str],
) -> None:
    screen = console()
    columns = list(range(len(header)))
    widths = [max(len(row[c]) for row in [header, *rows]) + 3 for c in columns]
    parts = [columns]
    if sum(widths) + 1 > screen.width and first_part < len(columns):
        parts = [columns[:first_part], [0, *columns[first_part:]]]
    screen.print(title)
    for part in parts:
        screen.print(_table(header, rows, floor, part))
    screen.print(lines[0])
    for line in lines[1:]:
        screen.print(f"  {line}")
    screen.print()


def _table(header: list[str], rows: list[list[str]], floor: list[str], columns: list[int]) -> Any:
    from rich.table import Table

    table = Table()
    for column in columns:
        text = header[column] in ("method", "track")
        table.add_column(
            header[column], justify="left" if text else "right", no_wrap=header[column] == "method"
        )
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    if floor and len(columns) > 1 and any(floor[column] for column in columns[1:]):
        table.add_section()
        table.add_row(*(floor[column] for column in columns))
    return table


def print_certificate(
    problem: str, certificate: dict[str, Any], floors: dict[str, dict[str, float]]
) -> None:
    """Print a reference's certificate and noise floors."""
    nuts, agreed = certificate["nuts"], certificate["agreement"]
    lines = [
        f"{problem}: grade {certificate['grade']}",
        *_exact_lines(certificate.get("exact")),
        f"  NUTS              {nuts['chains']} chains, {nuts['draws']} draws kept, thinned by "
        f"{nuts['thinned_by']}; {nuts['seconds']:.1f} s + {nuts['compile_seconds']:.1f} s compile",
        f"    largest R-hat   {nuts['max_rhat']:.4f} ({nuts['max_rhat_parameter']})",
        f"    smallest ESS    bulk {nuts['min_ess_bulk']:.0f} ({nuts['min_ess_bulk_parameter']}), "
        f"tail {nuts['min_ess_tail']:.0f} ({nuts['min_ess_tail_parameter']})",
        f"    divergences     {nuts['divergences']}; smallest E-BFMI {nuts['min_bfmi']:.2f}",
        *_slice_lines(certificate.get("elliptical_slice")),
        f"  agreement         largest difference {agreed['largest_z']:.2f} standard errors "
        f"({agreed['largest_z_at']}), allowed {agreed['threshold_z']:.2f}",
        f"    resolution      {agreed['resolution_sds']:.4f} posterior sds (standard error of the "
        "least certain mean)",
        f"  recomputed        {certificate['recomputed']['points']} draws from the model: largest "
        f"relative error {certificate['recomputed']['largest_relative_error']:.1e}",
        "  noise floor       "
        + "; ".join(
            f"{metric} {floor['mean']:.4f} (sd {floor['sd']:.4f}, max {floor['max']:.4f})"
            for metric, floor in floors.items()
        ),
        *(f"  NOT CERTIFIED     {failure}" for failure in certificate["failures"]),
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
    """Print a :class:`dncbench.speedup.Speedup`."""
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


def _exact_lines(exact: dict[str, Any] | None) -> list[str]:
    if exact is None:
        return []
    return [f"  exact             {exact['draws']} independent draws; NUTS only has to agree"]


def _slice_lines(second: dict[str, Any] | None) -> list[str]:
    if second is None:
        return []
    return [
        f"  elliptical slice  {second['chains']} chains, {second['steps']} steps; "
        f"{second['seconds']:.1f} s + {second['compile_seconds']:.1f} s compile",
        f"    largest R-hat   {second['max_rhat']:.4f}",
        f"    smallest ESS    bulk {second['min_ess_bulk']:.0f}, tail {second['min_ess_tail']:.0f}",
    ]


@contextlib.contextmanager
def progress() -> Iterator["ProgressBar"]:
    """A progress bar on stderr for the time of a run."""
    bar = ProgressBar()
    with bar.bar:
        yield bar


class ProgressBar:
    """Progress (:class:`dncbench.progress.Progress`) on stderr, with the time that is left."""

    def __init__(self) -> None:

        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._clock = time.perf_counter
        self._start = self._clock()
        self.recorded: list[dict[str, Any]] = []
        shown = console(stderr=True)
        self.bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=shown,
            transient=True,
            disable=not shown.is_terminal,
        )
        self._task = self.bar.add_task("starting", total=None)

    @property
    def seconds(self) -> float:
        """Since the bar was made."""
        return self._clock() - self._start

    @property
    def peak_memory(self) -> float:
        """The most memory this process has held, in MiB."""
        from dncbench.environment import peak_memory_mib

        return peak_memory_mib()

    @property
    def failed(self) -> int:
        """How many of the cells run failed."""
        return sum(record["status"] == "failed" for record in self.recorded)

    def plan(self, units: float) -> None:
        """So much work lies ahead."""
        self.bar.update(self._task, total=units or None)

    def say(self, what: str) -> None:
        """Show what is being done: on the bar, or as a line where there is no terminal."""
        self.bar.update(self._task, description=what)
        if not self.bar.console.is_terminal:
            self.note(f"{self.bar.tasks[0].percentage:3.0f}% {self.seconds:5.0f} s  {what}")

    def advance(self, units: float) -> None:
        """So much work is done."""
        self.bar.advance(self._task, units)

    def done(self, record: dict[str, Any]) -> None:
        """A cell was run."""
        self.recorded.append(record)
        self.advance(1)

    def note(self, text: str) -> None:
        """Print a line above the bar; it stays."""
        self.bar.console.print(text, markup=False)
