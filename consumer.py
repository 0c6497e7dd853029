"""Prints the totals of `velib-projet-final-data`: the latest of every postal code, then new ones.

    python consumer.py                        aligned text
    python consumer.py --table                a live table that fills the terminal
    python consumer.py --json                 one JSON object a line, as stored
    python consumer.py --postal-code 75016    this postal code alone; the option may be repeated
    python consumer.py --from-beginning       every total, the oldest first
    python consumer.py --csv                  comma-separated values, with a header
    python consumer.py --since "2026-11-01 08:00" --until "2026-11-01 09:00"
                                              the totals of these snapshots, each once, then stop
    python consumer.py --dead-letters         the records that could not be counted, and why
    python consumer.py --timeout-ms 5000      end after five seconds without a message

A week of totals takes seconds to read. So the end of the topic is read first, and the latest total
that it has of each postal code is printed, in the order of the postal codes. Then the older records
are read: if they have a later total of a postal code, or its only one, that is printed too. After
that each new total is printed as it comes. The last line of a postal code is its latest total.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge

import config
from velib import metrics, runtime
from velib.errors import Failure
from velib.kafka import topics
from velib.kafka.reader import Deadline, Reader
from velib.runtime import local_time
from velib.totals import table
from velib.totals.areas import NAMES
from velib.totals.output import Lines
from velib.totals.records import COUNTS, POSTAL_CODE, parse_dead_letter, parse_total
from velib.totals.spans import (
    EVERYTHING,
    NOT_WHOLE,
    Repeats,
    Span,
    Wanted,
    latest_then_new,
    of_span,
)
from velib.totals.table import LiveTable

MAX_SHOWN = 60  # characters of a dead letter's value in the text form
CSV_COLUMNS = ("postal_code", "last_updated", *COUNTS)

TOTALS_SHOWN = Counter("velib_consumer_totals_shown", "Totals shown since the start.")
NEWEST_SNAPSHOT = Gauge(
    "velib_consumer_snapshot_timestamp_seconds", "The newest snapshot with a total shown."
)

BETWEEN_TOKENS = re.compile(r"[\t\r\n]")  # JSON does not allow them within a string


def main(table_class: type[LiveTable] = LiveTable) -> None:
    """Print the totals, or show them in a table of this class: the demo has one of its own."""
    options = _options()
    settings = config.load()
    metrics.serve(options.metrics_port)
    deadline = Deadline(options.timeout_ms)
    topic = settings.dead_letter_topic if options.dead_letters else settings.final_topic
    reader = Reader(settings, topic, deadline)
    with _output(options, reader, table_class) as show:
        if not topics.ensure(settings, timeout=deadline.seconds_left()):
            if options.span.has_end():
                raise Failure(NOT_WHOLE)
            return
        if options.span.has_end():
            options.span.wait_until_written()
            deadline.renew()
        with reader:
            messages = dead_letters if options.dead_letters else totals
            for count, message in enumerate(messages(reader, options), start=1):
                show(message)
                deadline.renew()
                if count == options.max_messages:
                    break


@contextmanager
def _output(
    options: argparse.Namespace, reader: Reader, table_class: type[LiveTable]
) -> Iterator[Callable[["Message"], None]]:
    """What shows a message: the live table, or a line on stdout."""
    if options.table and table.can_be_shown():
        live_table = table_class(options.sort or "postal_code", lambda: reader.is_away)
        with live_table.shown():
            yield lambda message: live_table.add(message.fields)
        return
    with Lines(",".join(CSV_COLUMNS) if options.csv else None) as lines:
        reader.before_poll = lines.flush
        if options.json:
            yield lambda message: lines.show(message.json)
        elif options.csv:
            yield lambda message: lines.show(as_csv(message.fields))
        else:
            to_text = dead_letter_as_text if options.dead_letters else as_text
            yield lambda message: lines.show(to_text(message.fields))


class Message(NamedTuple):
    """A total or a dead letter: its fields, and the line that has them as JSON."""

    fields: dict[str, Any]
    json: str


def totals(reader: Reader, options: argparse.Namespace) -> Iterator[Message]:
    """Each total of the chosen postal codes and of the span, but no exact repeat."""
    wanted = Wanted(options.span, options.postal_code)
    repeats, newest = Repeats(), 0
    for value in _values(reader, options, wanted):
        total = parse_total(value)
        if total is not None and wanted.has(total) and not repeats.has(value):
            newest = max(newest, total["last_updated"])
            TOTALS_SHOWN.inc()
            NEWEST_SNAPSHOT.set(newest)
            yield Message(total, json=BETWEEN_TOKENS.sub(" ", value.decode()))


def _values(reader: Reader, options: argparse.Namespace, wanted: Wanted) -> Iterator[bytes]:
    """The values of the records in which the totals are, in the order of the options."""
    if options.from_beginning:
        return (record.value for record in reader.read(reader.beginnings))
    if options.span != EVERYTHING:
        return of_span(reader, wanted)
    return latest_then_new(reader)


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


def dead_letters(reader: Reader, options: argparse.Namespace) -> Iterator[Message]:
    """Each raw record that could not be counted: one, if a killed job wrote it twice."""
    seen: set[int] = set()
    for record in reader.read(reader.beginnings):
        dead_letter = parse_dead_letter(record)
        place = hash(
            (record.value, *(dead_letter[part] for part in ("topic", "partition", "offset")))
        )
        if place not in seen:
            seen.add(place)
            yield Message(dead_letter, json=json.dumps(dead_letter))


def dead_letter_as_text(dead_letter: dict[str, str | None]) -> str:
    """One line: the raw record's place, the reason, its key, and the beginning of its value."""
    value = dead_letter["value"] or ""
    start = value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…"
    return (
        f"{dead_letter['topic']} {dead_letter['partition']}:{dead_letter['offset']}"
        f"  {dead_letter['reason']}  key {dead_letter['key']}  value {start}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print the totals by postal code.")
    add = parser.add_argument
    add("--table", action="store_true", help="show a live table that fills the terminal")
    add("--sort", choices=table.SORT_KEYS, help="the order of its rows (default: postal_code)")
    add("--json", action="store_true", help="print one JSON object a line, as stored")
    add("--csv", action="store_true", help="print comma-separated values below a header")
    add("--since", type=runtime.moment, metavar="T", help="only snapshots from T: 2026-11-01 08:00")
    add("--until", type=runtime.moment, metavar="T", help="only snapshots before T, then stop")
    add("--from-beginning", action="store_true", help="print every record, the oldest first")
    add("--dead-letters", action="store_true", help="print the records that could not be counted")
    add("--max-messages", type=_at_least_one, metavar="N", help="stop after N messages")
    add("--timeout-ms", type=_at_least_one, metavar="N", help="stop after N ms without a message")
    add(
        "--postal-code",
        type=_postal_code,
        metavar="CODE",
        action="append",
        default=[],
        help="print this one only (may be repeated)",
    )
    metrics.add_option(parser)
    options = parser.parse_args()
    has_span = options.since is not None or options.until is not None
    if options.table and (options.json or options.csv or options.dead_letters):
        parser.error("--table does not go with --json, --csv or --dead-letters")
    if options.csv and (options.json or options.dead_letters):
        parser.error("--csv does not go with --json or --dead-letters")
    if has_span and (options.table or options.from_beginning or options.dead_letters):
        parser.error("--since and --until do not go with --table, --from-beginning, --dead-letters")
    if options.table and options.from_beginning:
        parser.error("--table does not go with --from-beginning")
    options.span = Span.between(options.since, options.until)
    if options.span.is_empty():
        parser.error("--since has to be before --until")
    if options.sort and not options.table:
        parser.error("--sort goes with --table")
    if options.dead_letters and options.postal_code:
        parser.error("--postal-code does not go with --dead-letters: they may have none")
    return options


def _postal_code(text: str) -> str:
    if not POSTAL_CODE.fullmatch(text):
        reason = f"{text!r} is not a postal code: five digits, such as 75016"
        raise argparse.ArgumentTypeError(reason)
    return text


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    runtime.run_tool(main)
