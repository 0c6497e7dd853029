"""Prints the totals of `velib-projet-final-data`: the latest of every postal code, then new ones.

    python consumer.py                        aligned text
    python consumer.py --table                a live table that fills the terminal
    python consumer.py --json                 one JSON object per line, as stored
    python consumer.py --postal-code 75016    only this postal code; the option may be repeated
    python consumer.py --from-beginning       every total, the oldest first
    python consumer.py --csv                  comma-separated values, with a header
    python consumer.py --since "2026-11-01 08:00" --until "2026-11-01 09:00"
                                              the totals of these snapshots, each once, then stop
    python consumer.py --dead-letters         the records that could not be counted, and why
    python consumer.py --timeout-ms 5000      end after five seconds without a message

Reading a week of totals takes seconds. So the end of the topic is read first, and the latest total
that it contains of each postal code is printed, in order of postal code. Then the older records are
read. A total found there is printed only if its postal code had none so far, or if it is of a later
snapshot. After that each new total is printed when it arrives. The last line of a postal code is
its latest total.
"""

import argparse
import json
import re
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from threading import Event
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge

import config
from velib import metrics, runtime
from velib.errors import Failure
from velib.kafka.reader import Reader
from velib.runtime import local_time, printable
from velib.totals import table
from velib.totals.areas import NAMES
from velib.totals.records import COUNTS, POSTAL_CODE, parse_dead_letter, parse_total
from velib.totals.spans import Repeats, Span, latest_values_then_new, values_of_span
from velib.totals.table import LiveTable

MAX_SHOWN = 60  # characters of a dead letter's value in the text form
CSV_COLUMNS = ("postal_code", "last_updated", *COUNTS)

TOTALS_SHOWN = Counter("velib_consumer_totals_shown", "Totals shown since the start.")
NEWEST_SNAPSHOT = Gauge(
    "velib_consumer_snapshot_timestamp_seconds", "The newest snapshot with a total shown."
)

BETWEEN_TOKENS = re.compile(r"[\t\r\n]")  # JSON does not allow them within a string


class Message(NamedTuple):
    """A total or a dead letter."""

    fields: dict[str, Any]
    value: bytes
    """The record's value."""


def main(options: argparse.Namespace, live_table: LiveTable | None, stop: Event) -> None:
    """Print the totals or the dead letters that the options ask for, or show them in a table."""
    settings = config.load()
    metrics.serve(options.metrics_port)
    topic = settings.dead_letter_topic if options.dead_letters else settings.final_topic
    reader = Reader(settings, topic, stop, options.timeout_ms)
    with _output(options, reader, live_table) as show:
        has_topic = reader.wait_for_topic()
        if has_topic and options.span.has_end():
            options.span.wait_until_written(stop)
            reader.renew()
        with reader:
            messages = dead_letters(reader) if options.dead_letters else totals(reader, options)
            for message in islice(messages, options.max_messages):
                if stop.is_set():
                    break
                show(message)
                reader.renew()


def totals(reader: Reader, options: argparse.Namespace) -> Iterator[Message]:
    """Each total of the chosen postal codes and snapshots, without repeats."""
    repeats, newest = Repeats(), 0
    for value in _candidates(reader, options):
        total = parse_total(value)
        if total is None or not options.span.has(total):
            continue
        if not repeats.check_and_remember((total["postal_code"], total["last_updated"]), value):
            TOTALS_SHOWN.inc()
            if total["last_updated"] > newest:
                newest = total["last_updated"]
                NEWEST_SNAPSHOT.set(newest)
            yield Message(total, value)


def _candidates(reader: Reader, options: argparse.Namespace) -> Iterator[bytes]:
    """The values of records that may hold these totals, in the order that the options ask for."""
    if not options.span.has_all_snapshots():
        return values_of_span(reader, options.span)
    if options.from_beginning:
        return (record.value for record in reader.read())
    return latest_values_then_new(reader)


def dead_letters(reader: Reader) -> Iterator[Message]:
    """Each raw record that could not be counted, without repeats."""
    repeats = Repeats()
    for record in reader.read():
        letter = parse_dead_letter(record)
        place = letter["topic"], letter["partition"], letter["offset"]
        if not repeats.check_and_remember(place, record.value):
            yield Message(letter, record.value)


@contextmanager
def _output(
    options: argparse.Namespace, reader: Reader, live_table: LiveTable | None
) -> Iterator[Callable[[Message], None]]:
    """Yield a function that shows a message: in the live table, or as a line on stdout."""
    if live_table is not None:
        with live_table.shown(reader):
            yield lambda message: live_table.add(message.fields)
        return
    lines = Lines(",".join(CSV_COLUMNS) if options.csv else None)
    reader.before_poll = lines.check_reader
    yield lambda message: lines.add(to_line(message, options))
    if not reader.stop.is_set():
        lines.end()


class Lines:
    """Prints lines, each in one write: a pipe takes up to PIPE_BUF bytes as a whole or not at all,
    so no line is cut off if the script is stopped while the pipe is full.

    The header is printed before the first line, or by `end` if there are no lines. If the script
    fails before that, nothing is printed: a header without lines means that there are no totals.
    """

    def __init__(self, header: str | None) -> None:
        self.header = header

    def add(self, line: str) -> None:
        """Print a line. Raises BrokenPipeError if the reader of a pipe has exited, and Failure if
        the line cannot be written.
        """
        self.end()
        try:
            print(printable(line), flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            runtime.discard_stdout()  # its buffer cannot be written either
            raise Failure(f"The output cannot be written: {error.strerror}") from None

    def end(self) -> None:
        """Print the header, unless it is printed already."""
        header, self.header = self.header, None
        if header is not None:
            self.add(header)

    @staticmethod
    def check_reader() -> None:
        """Raise BrokenPipeError if stdout is a pipe whose reader has exited."""
        if sys.stdout is not None:  # the shell has closed it: `>&-`
            poll = select.poll()
            poll.register(sys.stdout, 0)
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
                raise BrokenPipeError


def to_line(message: Message, options: argparse.Namespace) -> str:
    """The message as the options ask for it, without the newline."""
    if options.dead_letters:
        return json.dumps(message.fields) if options.json else dead_letter_as_text(message.fields)
    if options.json:
        return BETWEEN_TOKENS.sub(" ", message.value.decode())
    return as_csv(message.fields) if options.csv else as_text(message.fields)


def as_text(total: dict[str, Any]) -> str:
    """One line: postal code, place, bikes, docks, stations, and the snapshot's local time."""
    width = max(map(len, NAMES.values()))
    return (
        f"{total['postal_code']}  {NAMES.get(total['postal_code'], ''):{width}}"
        f"  {total['num_bikes_available']:5} bikes"
        f" ({total['mechanical']:4} mechanical + {total['ebike']:4} electric)"
        f"  {total['num_docks_available']:5} docks  {total['stations']:3} stations"
        f"  {local_time(total['last_updated'])}"
    )


def as_csv(total: dict[str, Any]) -> str:
    """A line of comma-separated values, none of which needs quotes."""
    return ",".join(str(total[column]) for column in CSV_COLUMNS)


def dead_letter_as_text(dead_letter: dict[str, str | None]) -> str:
    """One line: the raw record's place, the reason, its key, and the beginning of its value."""
    value = dead_letter["value"] or ""
    start = value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…"
    return (
        f"{dead_letter['topic']} {dead_letter['partition']}:{dead_letter['offset']}"
        f"  {dead_letter['reason']}  key {dead_letter['key']}  value {start}"
    )


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse these arguments, by default those of the command line."""
    parser = argparse.ArgumentParser(description="Print the totals by postal code.")
    add = parser.add_argument
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--table", action="store_true", help="a live table that fills the terminal")
    form.add_argument("--json", action="store_true", help="one JSON object per line, as stored")
    form.add_argument("--csv", action="store_true", help="comma-separated values below a header")
    add("--sort", choices=table.SORT_KEYS, help="the order of the table (default: postal_code)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from-beginning", action="store_true", help="every record, oldest first")
    start.add_argument(
        "--since",
        type=runtime.moment,
        metavar="T",
        help="only snapshots from T on, such as '2026-11-01 08:00'",
    )
    add("--until", type=runtime.moment, metavar="T", help="only snapshots before T, then stop")
    add(
        "--postal-code",
        type=_postal_code,
        metavar="CODE",
        action="append",
        default=[],
        help="only this postal code (may be repeated)",
    )
    add("--dead-letters", action="store_true", help="the records that could not be counted")
    add("--max-messages", type=_at_least_one, metavar="N", help="stop after N messages")
    add("--timeout-ms", type=_at_least_one, metavar="N", help="stop after N ms without a message")
    metrics.add_option(parser)
    options = parser.parse_args(arguments)
    since = -1 if options.since is None else options.since
    until = float("inf") if options.until is None else options.until
    options.span = Span(since, until, options.postal_code)
    is_span = not options.span.has_all_snapshots()
    if options.table and (options.from_beginning or is_span):
        parser.error("--table cannot be combined with --from-beginning, --since or --until")
    if options.dead_letters and (options.table or options.csv or options.postal_code or is_span):
        parser.error(
            "--dead-letters cannot be combined with --table, --csv, --postal-code, --since"
            " or --until"
        )
    if options.sort and not options.table:
        parser.error("--sort needs --table")
    if since >= until:
        parser.error("--since must be before --until")
    return options


def _postal_code(text: str) -> str:
    if not POSTAL_CODE.fullmatch(text):
        reason = f"{text!r} is not a postal code: five digits, such as 75016"
        raise argparse.ArgumentTypeError(reason)
    return text


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    options = parse_options()
    live_table = None
    if options.table and table.can_be_shown():
        live_table = LiveTable(options.sort)
        runtime.suspend_within(live_table.hidden)
    runtime.run(partial(main, options, live_table))
