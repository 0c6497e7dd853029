"""Prints the totals of `velib-projet-final-data`: the latest of every postal code, then new ones.

    python consumer.py                        aligned text
    python consumer.py --table                a live table that fills the terminal
    python consumer.py --json                 one JSON object a line, as stored
    python consumer.py --postal-code 75016    this postal code alone; the option may be repeated
    python consumer.py --from-beginning       every total, the oldest first
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
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

import config
from config import Settings
from velib import cli, connection, table, topics
from velib.areas import NAMES
from velib.cli import local_time, log, printable
from velib.errors import Failure
from velib.records import POSTAL_CODE, parse_dead_letter, parse_total
from velib.table import LiveTable

RECENT = 20_000  # offsets of each partition that are read first: four hours of the whole network
MAX_OFFSET = 2**63 - 1  # an offset has 64 bits
POLL_MS = 500
END_OFFSETS_MS = 5_000  # for Kafka to tell where the partitions end
RETRY_SECONDS = 1.0
CHECK_SECONDS = 5.0  # between two checks whether Kafka is there, while no record comes
MAX_REMEMBERED = 30_000  # printed totals; a job that was killed seldom writes more of them again
MAX_SHOWN = 60  # characters of a dead letter's value in the text form

BETWEEN_TOKENS = re.compile(r"[\t\r\n]")  # JSON does not allow them within a string

Offsets = dict[TopicPartition, int]


def main(table_class: type[LiveTable] = LiveTable) -> None:
    """Print the totals, or show them in a table of this class: the demo has one of its own."""
    options = _options()
    settings = config.load()
    deadline = Deadline(options.timeout_ms)
    topic = settings.dead_letter_topic if options.dead_letters else settings.final_topic
    reader = Reader(settings, topic, deadline)
    with _output(options, reader, table_class) as show:
        if not topics.ensure(settings, deadline.seconds_left()):
            return
        with reader:
            messages = dead_letters if options.dead_letters else totals
            for count, message in enumerate(messages(reader, options), start=1):
                show(message)
                deadline.renew()
                if count == options.max_messages:
                    break


@contextmanager
def _output(
    options: argparse.Namespace, reader: "Reader", table_class: type[LiveTable]
) -> Iterator[Callable[["Message"], None]]:
    """What shows a message: the live table, or a line on stdout."""
    if options.table and table.can_be_shown():
        live_table = table_class(options.sort or "postal_code", lambda: reader.is_away)
        with live_table.shown():
            yield lambda message: live_table.add(message.fields)
    elif options.json:
        yield lambda message: print(printable(message.json), flush=True)
    else:
        to_text = dead_letter_as_text if options.dead_letters else as_text
        yield lambda message: print(printable(to_text(message.fields)), flush=True)


class Message(NamedTuple):
    """A total or a dead letter: its fields, and the line that has them as JSON."""

    fields: dict[str, Any]
    json: str


class Deadline:
    """When the script ends: `timeout_ms` after it started, or after its last message."""

    def __init__(self, timeout_ms: int | None) -> None:
        """Without `timeout_ms` the deadline never passes."""
        self.timeout = float("inf") if timeout_ms is None else timeout_ms / 1000
        self.renew()

    def renew(self) -> None:
        self.time = time.monotonic() + self.timeout

    def seconds_left(self) -> float:
        return max(0.0, self.time - time.monotonic())

    def has_passed(self) -> bool:
        return self.seconds_left() == 0


class Reader:
    """Reads the committed records of a topic, of all its partitions, until the deadline.

    While Kafka is away it waits, and then it goes on where it was. Raises Failure if Kafka refuses.
    """

    def __init__(self, settings: Settings, topic: str, deadline: Deadline) -> None:
        self.settings, self.topic, self.deadline = settings, topic, deadline
        self.consumer: Any = None  # a KafkaConsumer, once connected
        self.beginnings: Offsets = {}
        self.ends: Offsets = {}  # as they were when it connected
        self.is_away = False
        self.next_check = time.monotonic() + CHECK_SECONDS

    def __enter__(self) -> "Reader":
        while not (self.ends or self.deadline.has_passed()):
            with self._waiting_out_failures():
                self.consumer = self.consumer or connection.committed_consumer(self.settings)
                partitions = topics.partitions(self.consumer, self.topic)
                self.consumer.assign(partitions)
                self.beginnings = dict.fromkeys(partitions, 0)
                self.ends = self.consumer.end_offsets(partitions, END_OFFSETS_MS)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.consumer is not None:
            self.consumer.close()

    def read(self, starts: Offsets, ends: Offsets | None = None) -> Iterator[Any]:
        """The records from the offsets `starts` up to `ends`; without `ends`, also each new one.

        They end early if the deadline passes.
        """
        ends = ends or dict.fromkeys(starts, MAX_OFFSET)
        for partition, start in starts.items():
            self.consumer.seek(partition, start)
        is_at_end = False
        while not (is_at_end or self.deadline.has_passed()):
            batches: dict[TopicPartition, list[Any]] = {}
            with self._waiting_out_failures():
                batches = self.consumer.poll(min(POLL_MS, 1000 * self.deadline.seconds_left()))
                # There is no position while Kafka is asked for its oldest record, if that is newer.
                positions = {p: self.consumer.position(p, POLL_MS) or 0 for p in ends}
                is_at_end = all(positions[p] >= end for p, end in ends.items())
            for partition, batch in batches.items():
                yield from (record for record in batch if record.offset < ends[partition])
            if not batches and time.monotonic() > self.next_check:
                self._check_kafka()

    @contextmanager
    def _waiting_out_failures(self) -> Iterator[None]:
        """Log a transient failure of Kafka and wait a second; raise Failure for any other."""
        try:
            yield
        except KafkaError as error:
            if not connection.is_transient(error):
                raise Failure(connection.refusal_message(self.settings, error)) from None
            log.warning("Kafka failed (%s): trying again", error)
            time.sleep(min(RETRY_SECONDS, self.deadline.seconds_left()))

    def _check_kafka(self) -> None:
        """Log that Kafka has gone away or is back: a poll without records does not tell."""
        was_away, self.is_away = self.is_away, not connection.is_reachable(self.settings)
        if self.is_away and not was_away:
            log.warning(connection.no_answer_message(self.settings))
        if was_away and not self.is_away:
            log.info("Kafka answers again")
        self.next_check = time.monotonic() + CHECK_SECONDS


def totals(reader: Reader, options: argparse.Namespace) -> Iterator[Message]:
    """Each total of the chosen postal codes, but no exact repeat."""
    chosen = options.postal_code
    repeats = Repeats()
    everything = reader.read(reader.beginnings)
    for record in everything if options.from_beginning else latest_then_new(reader):
        total = parse_total(record.value)
        if total is None or (chosen and total["postal_code"] not in chosen):
            continue
        if not repeats.has(record.value):
            yield Message(total, json=BETWEEN_TOKENS.sub(" ", record.value.decode()))


def latest_then_new(reader: Reader) -> Iterator[Any]:
    """The record of every postal code's latest total, then each new record."""
    recent = {partition: max(0, end - RECENT) for partition, end in reader.ends.items()}
    latest: dict[str, tuple[int, int]] = {}
    for starts, ends in ((recent, reader.ends), (reader.beginnings, recent)):
        later = later_totals(reader.read(starts, ends), latest)
        if reader.deadline.has_passed():
            return  # before all records were read: the rest may have later totals
        yield from later
    yield from reader.read(reader.ends)


def later_totals(records: Iterable[Any], latest: dict[str, tuple[int, int]]) -> list[Any]:
    """The record of each postal code's latest total, if later than `latest` says, by postal code.

    `latest` has the `last_updated` and the offset of every latest total, and is updated.
    Of totals with the same `last_updated`, the one with the greatest offset is the latest.
    """
    later = {}
    for record in records:
        total = parse_total(record.value)
        if total is None:
            continue
        postal_code, version = total["postal_code"], (total["last_updated"], record.offset)
        if postal_code not in latest or version > latest[postal_code]:
            latest[postal_code], later[postal_code] = version, record
    return [later[postal_code] for postal_code in sorted(later)]


class Repeats:
    """Recognises a total that was printed already: a killed job writes its last ones again."""

    def __init__(self) -> None:
        self.hashes: OrderedDict[int, None] = OrderedDict()

    def has(self, value: bytes) -> bool:
        """Whether `value` is one of the last MAX_REMEMBERED values, to which it is then added."""
        if hash(value) in self.hashes:
            return True
        self.hashes[hash(value)] = None
        if len(self.hashes) > MAX_REMEMBERED:
            self.hashes.popitem(last=False)
        return False


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
    add("--from-beginning", action="store_true", help="print every record, the oldest first")
    add("--dead-letters", action="store_true", help="print the records that could not be counted")
    add("--max-messages", type=_at_least_one, metavar="N", help="stop after N messages")
    add("--timeout-ms", type=_at_least_one, metavar="N", help="stop after N ms without a message")
    add(
        "--postal-code",
        type=_postal_code,
        metavar="CODE",
        action="append",
        help="print this one only (may be repeated)",
    )
    options = parser.parse_args()
    if options.table and (options.json or options.dead_letters or options.from_beginning):
        parser.error("--table does not go with --json, --dead-letters or --from-beginning")
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
    cli.run(main)
