"""A board as a table that a reader can sort and filter."""

from dataclasses import dataclass

from dncbench.boards import tables
from dncbench.boards.board import Board, Row
from dncbench.report.cells import NO_HEAT, Detail
from dncbench.report.floors import headline
from dncbench.storage.identity import name_of


@dataclass(frozen=True)
class Column:
    """A column's title, what it means, and whether it sorts as numbers."""

    title: str
    help: str
    number: bool = True


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: shown.
        sort: what it is sorted by; None comes last.
        multiple: of the noise floor, as text; empty where it is no figure.
        level: of its colour.
    """

    text: str
    sort: float | str | None
    multiple: str = ""
    level: int | None = None


@dataclass(frozen=True)
class Table:
    """Columns, one line of entries for each method, and the noise floor below them.

    Attributes:
        columns: the first is the method's.
        lines: an entry for each column.
        tracks: of the lines.
        floor: a text for each column.
    """

    columns: list[Column]
    lines: list[list[Entry]]
    tracks: list[str]
    floor: list[str]


_SECONDS_HELP = {
    "sampling": "sampling the subposteriors that the method uses, without compilation",
    "compile": "compiling fit and merge, once",
    "fit_slowest_shard": "the slowest shard: a cluster's waiting time",
    "fit_total": "all shards together",
    "merge": "what runs where the messages meet",
}


def table(board: Board, cells: dict[str, Detail]) -> Table:
    """The headline metrics, seconds and bytes of a board.

    Args:
        board: its rows.
        cells: of every row, by method.
    """
    metrics = headline(board)
    k_hats = any(row.k_hat is not None for row in board.rows)
    columns = [Column("method", "opens the cell's detail", number=False)]
    for metric in metrics:
        name = name_of(metric)
        columns.append(Column(name, "mean (sd over splits); below it, multiples of the floor"))
    columns += [
        Column(
            "x floor",
            "geometric mean of figure / floor over these metrics, exact laws alone below 1",
        ),
        Column("rank", "by x floor: the 95% interval of a paired bootstrap over splits"),
        Column("tie", "methods with the same letter cannot be told apart", number=False),
    ]
    columns += [
        Column("k-hat", "Pareto shape of the importance ratios; above 0.7 the fit misses regions"),
        Column("share", "how much of the draws is left once they are reweighted by the ratios"),
    ] * k_hats
    columns += [
        Column("track", "what the method was allowed to use", number=False),
        Column("status", "what became of its splits", number=False),
    ]
    columns += [
        Column(title, _SECONDS_HELP[phase]) for phase, title in tables.SECONDS_COLUMNS.items()
    ]
    columns.append(Column("bytes", "what crosses the network"))
    lines = [_line(row, cells[row.method], metrics, k_hats) for row in board.rows]
    floor = ["noise floor"]
    for metric in metrics:
        floor.append(f"{board.floor[metric]['mean']:.3f} ({board.floor[metric]['sd']:.3f})")
    tracks = [row.track for row in board.rows]
    return Table(columns, lines, tracks, floor + [""] * (len(columns) - len(floor)))


def _line(row: Row, cell: Detail, metrics: list[str], k_hats: bool) -> list[Entry]:
    line = [Entry(row.method, row.method)]
    for metric in metrics:
        score = row.scores.get(metric)
        multiple, level, _ = cell.heat.get(metric, NO_HEAT)
        line.append(
            Entry(
                tables.figure_text(score),
                score.mean if score else None,
                multiple if score else "",
                level,
            )
        )
    multiple_text, rank_text, tie = tables.standing_texts(row.overall)
    overall = row.overall
    line += [
        Entry(multiple_text, overall.mean if overall else None),
        Entry(rank_text, sum(overall.rank) if overall and overall.rank else None),
        Entry(tie, tie if overall and overall.group else None),
    ]
    if k_hats:
        k_hat, share = tables.ratios_texts(row)
        line += [Entry(k_hat, row.k_hat), Entry(share, row.ess_share)]
    line += [Entry(row.track, row.track), Entry(cell.status, cell.status)]
    for phase in tables.SECONDS_COLUMNS:
        line.append(Entry(tables.seconds_text(row.seconds.get(phase)), row.seconds.get(phase)))
    line.append(Entry(tables.bytes_text(row.bytes), row.bytes))
    return line
