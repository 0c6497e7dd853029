"""The live table of `consumer.py --table`: the latest total of each postal code.

It has the terminal's alternate screen, as `top` has: at the end the terminal is as it was before.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from velib.runtime import FORMATTER, local_time
from velib.totals.areas import NAMES

CHECK_SECONDS = 0.1  # between two looks whether there is something to draw
MAX_WAIT = 2.0  # seconds without drawing while totals come one after another
MAX_LOG_LINES = 200  # are kept
MAX_WARNINGS = 3  # are shown below the totals
GAP = 2  # characters between two columns

Total = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """The latest total of a postal code, and its bikes in the snapshot before."""

    total: Total
    name: str
    bikes_before: int | None = None

    @property
    def bikes(self) -> int:
        return int(self.total["num_bikes_available"])

    @property
    def change(self) -> int | None:
        """The change of the bikes since the snapshot before, None for the first one."""
        return None if self.bikes_before is None else self.bikes - self.bikes_before

    @property
    def fill(self) -> int | None:
        """The bikes' percentage of bikes and free docks, None if there are neither."""
        capacity = self.bikes + self.total["num_docks_available"]
        return min(max(100 * self.bikes // capacity, 0), 100) if capacity > 0 else None


SORT_KEYS: dict[str, Callable[[Row], Any]] = {
    "postal_code": lambda row: row.total["postal_code"],
    "bikes": lambda row: (-row.bikes, row.total["postal_code"]),
    "fill": lambda row: (row.fill is None, -(row.fill or 0), row.total["postal_code"]),
}
"""The orders of the rows: by postal code, the most bikes first, the fullest first."""


@dataclass(frozen=True)
class Column:
    """A column of the table, as wide as the window allows."""

    heading: str
    min_width: int
    max_width: int
    rank: int  # a narrow window has the columns of the first ranks
    cell: Callable[[Row, int], Text]  # of a row, for a width
    justify: Literal["left", "right"] = "right"


def _count(field: str) -> Callable[[Row, int], Text]:
    return lambda row, width: Text(str(row.total[field]))


def _change(row: Row, width: int) -> Text:
    if row.change is None:
        return Text()
    return Text(f"{row.change:+}" if row.change else "0", _change_style(row.change))


def _change_style(change: int) -> str:
    return "green" if change > 0 else "red" if change < 0 else "dim"


def _fill(row: Row, width: int) -> Text:
    return Text() if row.fill is None else Text(f"{row.fill}%")


def _bar(row: Row, width: int) -> Text:
    if row.fill is None:
        return Text()
    full = round(row.fill * width / 100)
    return Text("█" * full + "░" * (width - full), "cyan")


COLUMNS = (
    Column("code", 5, 5, 1, _count("postal_code"), "left"),
    Column("name", 12, 23, 5, lambda row, width: Text(row.name), "left"),
    Column("bikes", 5, 5, 2, _count("num_bikes_available")),
    Column("change", 6, 6, 4, _change),
    Column("mech.", 5, 5, 8, _count("mechanical")),
    Column("elec.", 5, 5, 8, _count("ebike")),
    Column("docks", 5, 5, 6, _count("num_docks_available")),
    Column("full", 4, 4, 3, _fill),
    Column("", 10, 50, 7, _bar, "left"),
)


def fitting_columns(width: int) -> dict[Column, int]:
    """The columns for which a window has room, from left to right, and how wide each is."""
    chosen: list[Column] = []
    for rank in sorted({column.rank for column in COLUMNS}):
        more = chosen + [column for column in COLUMNS if column.rank == rank]
        if sum(column.min_width + GAP for column in more) - GAP > width:
            break
        chosen = more
    spare = width - sum(column.min_width + GAP for column in chosen) + GAP
    widths = {}
    for column in COLUMNS:
        if column in chosen:
            widths[column] = min(column.max_width, column.min_width + max(spare, 0))
            spare -= widths[column] - column.min_width
    return widths


def can_be_shown() -> bool:
    """Whether stdout is a terminal on which a table can be redrawn in place."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


class LiveTable:
    """The table, which is redrawn when a total or a log line has come, and each second.

    A thread of its own draws it: the snapshot's age ticks and the table follows the window's size
    whatever the caller waits for.
    """

    title = ""
    """The first line, if there is one."""

    def __init__(self, sort: str, is_kafka_away: Callable[[], bool]) -> None:
        """`sort` is one of SORT_KEYS."""
        self.sort_key, self.is_kafka_away = SORT_KEYS[sort], is_kafka_away
        self.rows: dict[str, Row] = {}
        self.log = LogLines()
        self.added = 0

    def add(self, total: Total) -> None:
        """Show a total, unless there is a later one of its postal code."""
        postal_code, last_updated = total["postal_code"], total["last_updated"]
        before = self.rows.get(postal_code)
        if before is None:
            bikes_before = None
        elif last_updated > before.total["last_updated"]:
            bikes_before = before.bikes
        elif last_updated == before.total["last_updated"]:  # replaces it
            bikes_before = before.bikes_before
        else:
            return
        self.rows[postal_code] = Row(total, NAMES.get(postal_code, ""), bikes_before)
        self.added += 1

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table meanwhile. Log lines go into it, and warnings also to stderr afterwards.

        If nothing interrupts the caller, the whole table is printed at the end and stays.
        """
        console = Console(force_terminal=True)
        live = Live(self, console=console, screen=True, auto_refresh=False)
        ended = Event()
        drawing = Thread(target=self._draw, args=(live, ended), daemon=True)
        with self.log.collecting():
            try:
                live.start()
                drawing.start()
                yield
            finally:
                ended.set()
                live.stop()
        if self.rows:
            console.print(self)

    def _draw(self, live: Live, ended: Event) -> None:
        """Draw what has come once nothing more comes, as for the totals of a snapshot."""
        drawn = seen = None
        drawn_at = 0.0
        while not ended.wait(CHECK_SECONDS):
            state = (self.added, self.log.added, int(time.time()), live.console.size)
            has_waited = time.monotonic() - drawn_at > MAX_WAIT
            if state != drawn and (state == seen or has_waited):
                live.refresh()
                drawn, drawn_at = state, time.monotonic()
            seen = state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as large as the window, in which `Live` draws it, or the whole of it."""
        width, height = console.size
        rows = sorted(self.rows.values(), key=self.sort_key)
        newest = max((row.total["last_updated"] for row in rows), default=0)
        header = _wrap(self._header(rows, newest), console)
        columns = fitting_columns(width)
        if not console.is_alt_screen:
            yield from header
            yield _table(rows, newest, columns)
            return
        header = header[: max(height // 2, 1)]
        yield from header
        if not rows:
            log_lines = _wrap(self.log.last(height), console)
            yield from log_lines[-max(height - len(header), 1) :]
            return
        warnings = _wrap(self.log.last(MAX_WARNINGS, logging.WARNING), console)[: height // 3]
        room = height - len(header) - 1 - len(warnings)
        shown = rows if len(rows) <= room else rows[: max(room - 1, 0)]
        yield _table(shown, newest, columns)
        if len(shown) < len(rows):
            left_out = f"{len(rows) - len(shown)} more do not fit into the window"
            yield Text(left_out, "dim italic", no_wrap=True, overflow="ellipsis")
        yield from warnings

    def _header(self, rows: list[Row], newest: int) -> Iterator[Text]:
        """The title, the newest snapshot and its age, and the sums over its rows."""
        if self.title:
            yield Text(self.title, "bold")
        snapshot = Text("No totals yet")
        if rows:
            age = duration(time.time() - newest)
            snapshot = Text(f"Snapshot of {local_time(newest)}, {age} old")
        if self.is_kafka_away():
            snapshot.append("  Kafka does not answer", "bold red")
        yield snapshot
        if rows:
            yield _sums(rows, newest)


def _sums(rows: list[Row], newest: int) -> Text:
    """The line of sums over the rows of the newest snapshot."""
    current = [row for row in rows if row.total["last_updated"] == newest]

    def total(field: str) -> str:
        return f"{sum(row.total[field] for row in current):,}"

    changes = [row.change for row in current if row.change is not None]
    sums = Text(f"{total('num_bikes_available')} bikes", "bold")
    if changes:
        sums.append(f" {sum(changes):+,}", _change_style(sum(changes)))
    sums.append(
        f" ({total('mechanical')} mechanical, {total('ebike')} electric),"
        f" {total('num_docks_available')} docks, {total('stations')} stations,"
        f" {len(current)} postal codes"
    )
    if len(current) < len(rows):
        sums.append(f"; {len(rows) - len(current)} older, dimmed")
    return sums


def _table(rows: list[Row], newest: int, columns: dict[Column, int]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="underline")
    for column, width in columns.items():
        table.add_column(
            column.heading, width=width, justify=column.justify, no_wrap=True, overflow="ellipsis"
        )
    for row in rows:
        is_older = row.total["last_updated"] < newest
        cells = [column.cell(row, width) for column, width in columns.items()]
        table.add_row(*cells, style="dim" if is_older else "")
    return table


def _wrap(texts: Iterable[Text], console: Console) -> list[Text]:
    """The lines that these texts take in the console's width."""
    return [line for text in texts for line in text.wrap(console, console.width)]


def duration(seconds: float) -> str:
    """Such as `12 s`, `4 min 5 s`, `3 h 12 min` or `2 d 4 h`; a negative one is 0 s."""
    minutes, seconds = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class LogLines(logging.Handler):
    """The last lines of the log, for the table: on the terminal itself they would tear it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=MAX_LOG_LINES)
        self.added = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.added += 1

    def last(self, count: int, level: int = logging.INFO) -> list[Text]:
        """The last lines of this level or above, at most so many."""
        records = [record for record in list(self.records) if record.levelno >= level]
        return [
            Text(FORMATTER.format(record), "yellow" if record.levelno >= logging.WARNING else "dim")
            for record in deque(records, maxlen=max(count, 0))
        ]

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the log meanwhile. If stderr is a terminal, it has the warnings afterwards."""
        root = logging.getLogger()
        handlers, is_terminal = root.handlers, sys.stderr.isatty()
        root.handlers = [self] if is_terminal else [*handlers, self]
        try:
            yield
        finally:
            root.handlers = handlers
            for record in self.records if is_terminal else ():
                if record.levelno >= logging.WARNING:
                    root.handle(record)
