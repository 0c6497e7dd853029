"""The live table of `consumer.py --table`: the latest total of each postal code.

It uses the terminal's alternate screen, as `top` does: afterwards the terminal is as it was before.
"""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock
from typing import Any, Literal, NamedTuple

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from velib.kafka.reader import Reader
from velib.runtime import FORMATTER, local_time
from velib.totals.areas import NAMES
from velib.totals.records import COUNTS

REFRESHES = 2  # a second
MAX_LOG_LINES = 200  # kept in memory
MAX_WARNINGS = 3  # shown below the totals
GAP = 2  # characters between two columns

Total = dict[str, Any]


class Row(NamedTuple):
    """A total, or the sum of several, and its bikes in the previous snapshot, None if unknown."""

    total: Total
    bikes_before: int | None

    @property
    def bikes(self) -> int:
        return int(self.total["num_bikes_available"])

    @property
    def change(self) -> int | None:
        return None if self.bikes_before is None else self.bikes - self.bikes_before

    @property
    def fill(self) -> int:
        """The bikes' percentage of bikes and free docks, 0 if there are neither."""
        return 100 * self.bikes // max(1, self.bikes + int(self.total["num_docks_available"]))


SORT_KEYS: dict[str, Callable[[Row], Any]] = {
    "postal_code": lambda row: row.total["postal_code"],
    "bikes": lambda row: (-row.bikes, row.total["postal_code"]),
    "fill": lambda row: (-row.fill, row.total["postal_code"]),
}
"""The orders of the rows: by postal code, the most bikes first, the fullest first."""


def _count(field: str) -> Callable[[Row], str]:
    return lambda row: f"{row.total[field]:,}"


def _change(row: Row) -> Text:
    if not row.change:
        return Text("" if row.change is None else "0", "dim")
    return Text(f"{row.change:+,}", "green" if row.change > 0 else "red")


class Column(NamedTuple):
    heading: str
    priority: int  # a narrow window shows the columns with the lowest numbers
    width: int
    cell: Callable[[Row], RenderableType]
    justify: Literal["left", "right"] = "right"


COLUMNS = (
    Column("code", 1, 5, lambda row: row.total["postal_code"], "left"),
    Column("name", 5, 23, lambda row: NAMES.get(row.total["postal_code"], ""), "left"),
    Column("bikes", 2, 6, _count("num_bikes_available")),
    Column("change", 4, 6, _change),
    Column("mech.", 7, 6, _count("mechanical")),
    Column("elec.", 8, 6, _count("ebike")),
    Column("docks", 6, 6, _count("num_docks_available")),
    Column("full", 3, 4, lambda row: f"{row.fill}%"),
    Column("", 9, 20, lambda row: Bar(100, 0, row.fill, width=20, color="cyan"), "left"),
)


def fitting_columns(width: int) -> list[Column]:
    """The columns for which a window has room."""

    def width_up_to(priority: int) -> int:
        return sum(column.width + GAP for column in COLUMNS if column.priority <= priority) - GAP

    return [column for column in COLUMNS if width_up_to(column.priority) <= width]


def can_be_shown() -> bool:
    """Whether stdout is a terminal on which a table can be redrawn in place."""
    return sys.stdout is not None and sys.stdout.isatty() and not Console().is_dumb_terminal


class LiveTable:
    """The table. While it is shown it collects all log lines, which would otherwise tear it."""

    def __init__(
        self,
        sort: str | None = None,
        title: str = "",
        describe: Callable[[int], str] | None = None,
    ) -> None:
        """`sort` is one of SORT_KEYS, by default `postal_code`; the title is the first line.

        `describe` returns the line to show above the table for a snapshot (epoch seconds).
        """
        self.sort_key, self.title = SORT_KEYS[sort or "postal_code"], title
        self.describe = describe
        self.rows: dict[str, Row] = {}
        self.log = LogLines()
        self.reader: Reader | None = None
        # An exported COLUMNS or LINES would override the size of the window.
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        console = Console(force_terminal=True, _environ=environment)
        self.live = Live(self, console=console, screen=True, refresh_per_second=REFRESHES)
        self.is_shown, self.lock = False, Lock()

    def add(self, total: Total) -> None:
        """Show a total unless a later one of its postal code is shown."""
        row = self.rows.get(total["postal_code"])
        bikes_before = None
        if row is not None:
            if total["last_updated"] < row.total["last_updated"]:
                return
            is_replaced = total["last_updated"] == row.total["last_updated"]
            bikes_before = row.bikes_before if is_replaced else row.bikes
        self.rows[total["postal_code"]] = Row(total, bikes_before)

    @contextmanager
    def shown(self, reader: Reader) -> Iterator[None]:
        """Show the table while the block runs. If the reader was not stopped, the whole table is
        printed at the end, and stays.
        """
        with self.log.collecting():
            try:
                self.reader, self.is_shown = reader, True
                self.live.start(refresh=True)
                yield
            finally:
                with self.lock:
                    self.is_shown = False
                    self.live.stop()
        if self.rows and not reader.stop.is_set():
            self.live.console.print(self)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Give the terminal back while the block runs."""
        self.live.stop()
        yield
        with self.lock:
            if self.is_shown:
                self.live.start(refresh=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table cut to the window while `Live` draws it, otherwise the whole table."""
        width, height = console.size
        rows = sorted(self.rows.values(), key=self.sort_key)
        newest = max((row.total["last_updated"] for row in rows), default=0)
        current = [row for row in rows if row.total["last_updated"] == newest]
        header = _wrap(self._header(current, len(rows) - len(current)), console)
        yield from header
        if not rows:
            yield from _wrap(self.log.last(height), console)[-max(height - len(header), 1) :]
            return
        room, warnings = len(rows), list[Text]()
        if console.is_alt_screen:
            warnings = _wrap(self.log.last(MAX_WARNINGS, logging.WARNING), console)[: height // 3]
            room = height - len(header) - len(warnings) - 2  # the headings and the sums
        shown = rows if len(rows) <= room else rows[: max(room - 1, 0)]
        yield _table(current, shown, width)
        if len(shown) < len(rows):
            hidden = f"{len(rows) - len(shown)} rows hidden: enlarge the window"
            yield Text(hidden, "dim italic", no_wrap=True, overflow="ellipsis")
        yield from warnings

    def _header(self, current: list[Row], older: int) -> Iterator[Text]:
        """The title, and a line about the newest snapshot; `current` are its rows."""
        if self.title:
            yield Text(self.title, "bold")
        line = Text("No totals yet")
        if current:
            snapshot = current[0].total["last_updated"]
            if self.describe:
                yield Text(self.describe(snapshot), "bold")
            age = timedelta(seconds=max(0, int(time.time() - snapshot)))
            stations = sum(row.total["stations"] for row in current)
            line = Text(f"Snapshot of {local_time(snapshot)}, {age} old: {stations:,} stations")
            line.append(f" in {len(current)} postal codes")
        if older:
            line.append(f"; {older} older, dimmed")
        if self.reader is not None and self.reader.is_away:
            line.append("  Kafka does not answer", "bold red")
        yield line


def _sum(rows: list[Row]) -> Row:
    """The sum of these rows, as a row."""
    sums = {name: sum(row.total[name] for row in rows) for name in COUNTS}
    changes = [row.change for row in rows if row.change is not None]
    bikes_before = sums["num_bikes_available"] - sum(changes) if changes else None
    return Row({"postal_code": "all"} | sums, bikes_before)


def _table(current: list[Row], shown: list[Row], width: int) -> Table:
    """The sum of the current rows, then the shown rows; older ones are dimmed."""
    columns = fitting_columns(width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="underline")
    for column in columns:
        heading, _, width, _, justify = column
        table.add_column(heading, width=width, justify=justify, no_wrap=True)
    table.add_row(*[column.cell(_sum(current)) for column in columns], style="bold")
    for row in shown:
        style = "" if row in current else "dim"
        table.add_row(*[column.cell(row) for column in columns], style=style)
    return table


def _wrap(texts: Iterable[Text], console: Console) -> list[Text]:
    """The lines of these texts, wrapped to the width of the console."""
    return [line for text in texts for line in text.wrap(console, console.width)]


class LogLines(logging.Handler):
    """Keeps the last lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[tuple[int, str]] = deque(maxlen=MAX_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.add(record.levelno, FORMATTER.format(record))

    def add(self, level: int, line: str) -> None:
        self.lines.append((level, line))

    def last(self, count: int, min_level: int = logging.INFO) -> list[Text]:
        """The last lines of this level or above, at most `count`."""
        lines = [line for line in list(self.lines) if line[0] >= min_level]
        return [
            Text(line, "yellow" if level >= logging.WARNING else "dim")
            for level, line in lines[-count:]
        ]

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the log while the block runs; then print the warnings if stderr is a terminal."""
        root = logging.getLogger()
        handlers, is_terminal = root.handlers, sys.stderr is not None and sys.stderr.isatty()
        root.handlers = [self] if is_terminal else [*handlers, self]
        try:
            yield
        finally:
            root.handlers = handlers
            for warning in self.last(MAX_LOG_LINES, logging.WARNING) if is_terminal else ():
                print(warning, file=sys.stderr)
