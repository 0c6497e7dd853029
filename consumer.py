"""Prints the totals of `velib-projet-final-data`: the latest of every postal code, then each new one as it comes.

python consumer.py                        as aligned text
python consumer.py --json                 one JSON object a line, as stored
python consumer.py --postal-code 75016    of this postal code alone (may be repeated)
python consumer.py --dead-letters         the records that could not be counted, and why
"""

import argparse
import csv
import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

import cli
import config
import topics
from cli import Failure, log, printable
from config import Settings

POLL_MS = 500
YEAR_9999 = 253_370_764_800  # epoch seconds; no date is later
BETWEEN_TOKENS = re.compile(r"[\t\r\n]")  # within a JSON string they are not allowed
POSTAL_CODE = re.compile("[0-9]{5}")
SHOWN = 60  # characters of a dead letter
REMEMBERED = 30_000  # totals, of 337 snapshots of the network: more than a job that was killed writes again, as a rule

NUMBERS = ("stations", "num_bikes_available", "mechanical", "ebike", "num_docks_available", "last_updated")


def main() -> None:
    arguments = _arguments()
    settings = config.load()
    timeout = arguments.timeout_ms / 1000 if arguments.timeout_ms is not None else float("inf")
    if not topics.ensure(settings, timeout):
        return
    try:
        lines = dead_letter_lines(settings, arguments) if arguments.dead_letters else total_lines(settings, arguments)
        for count, line in enumerate(until_silence(lines, timeout), start=1):
            print(printable(line), flush=True)
            if count == arguments.max_messages:
                break
    except KafkaError as error:
        raise Failure(topics.refused(settings, error)) from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print the totals by postal code.")
    parser.add_argument("--json", action="store_true", help="print each record as it is stored, one JSON object a line")
    parser.add_argument("--from-beginning", action="store_true", help="start with the oldest record instead of the latest")
    parser.add_argument(
        "--postal-code", action="append", metavar="CODE", type=_postal_code, help="print this one only (may be repeated)"
    )
    parser.add_argument("--max-messages", type=_at_least_one, metavar="N", help="stop after N messages")
    parser.add_argument("--timeout-ms", type=_at_least_one, metavar="N", help="stop after N ms without a message")
    parser.add_argument("--dead-letters", action="store_true", help="print what could not be counted, from the beginning")
    arguments = parser.parse_args()
    if arguments.dead_letters and arguments.postal_code:
        parser.error("--postal-code does not go with --dead-letters: they may have none")
    return arguments


def total_lines(settings: Settings, arguments: argparse.Namespace) -> Iterator[str | None]:
    """Each total to print, as a line; None when there is none now."""
    names = place_names()
    values = (record and record.value for record in records(settings, settings.final_topic, arguments.from_beginning))
    for item in wanted(values, arguments.postal_code):
        yield item and (item[0] if arguments.json else as_text(item[1], names))


def dead_letter_lines(settings: Settings, arguments: argparse.Namespace) -> Iterator[str | None]:
    """Each dead letter, once, as a line; None when there is none now."""
    seen: set[tuple[str, str]] = set()
    for record in records(settings, settings.dead_letter_topic, from_beginning=True):
        letter = record and dead_letter(record)
        if letter is None:
            yield None
        elif (place := (letter["partition"], letter["offset"])) not in seen:  # Spark writes a batch again if it was killed
            seen.add(place)
            yield json.dumps(letter) if arguments.json else dead_letter_as_text(letter)


def dead_letter(record: Any) -> dict[str, Any]:
    """What a dead letter says, as text: bytes that are no UTF-8 are written as \\xff."""
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    told = {name: headers.get(name, "") for name in ("reason", "topic", "partition", "offset")}
    key, value = (None if raw is None else raw.decode(errors="backslashreplace") for raw in (record.key, record.value))
    return told | {"key": key, "value": value}


def dead_letter_as_text(letter: dict[str, Any]) -> str:
    value = letter["value"] or ""
    start = value if len(value) <= SHOWN else value[:SHOWN] + "…"
    return f"{letter['topic']} {letter['partition']}:{letter['offset']}  {letter['reason']}  key {letter['key']}  value {start}"


def _postal_code(text: str) -> str:
    if not POSTAL_CODE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a postal code: five digits, such as 75016")
    return text


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def place_names() -> dict[str, str]:
    """The name of the place by postal code."""
    with (Path(__file__).parent / "data" / "postal_areas.csv").open(encoding="utf-8", newline="") as file:
        return {row["postal_code"]: row["name"] for row in csv.DictReader(file)}


def records(settings: Settings, topic: str, from_beginning: bool) -> Iterator[Any]:
    """The records of a topic: all, or the latest total of each key and then the new ones. None when there is none now."""
    consumer, ends = _connect(settings, topic)
    with consumer:
        consumer.assign(list(ends))
        consumer.seek_to_beginning(*ends)
        if not from_beginning:
            yield from latest(consumer, ends)
        is_away, looked = False, time.monotonic()
        while True:
            polled = consumer.poll(timeout_ms=POLL_MS)
            yield from (record for batch in polled.values() for record in batch)
            yield None
            if not polled and time.monotonic() - looked > topics.SILENT_SECONDS:
                is_away, looked = say_whether_away(settings, is_away), time.monotonic()


def say_whether_away(settings: Settings, was_away: bool) -> bool:
    """Whether Kafka is away now, of which `poll` tells nothing; says so when that has changed."""
    is_away = not topics.is_there(settings)
    if is_away and not was_away:
        log.warning(topics.silent(settings))
    if was_away and not is_away:
        log.info("Kafka answers again")
    return is_away


def _connect(settings: Settings, topic: str) -> tuple[KafkaConsumer, dict[TopicPartition, int]]:
    """A consumer and the end of each partition now. Of several brokers one may be away: it is tried until one answers."""
    while True:
        consumer = None
        try:
            consumer = KafkaConsumer(
                **topics.connection(settings),
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                max_poll_records=5000,
            )
            partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            return consumer, consumer.end_offsets(partitions)
        except KafkaError as error:
            if consumer is not None:
                consumer.close()
            if not topics.passes(error):
                raise
            log.warning("Kafka failed (%s): connecting again", error)
            time.sleep(1)


def latest(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> list[Any]:
    """The record of the newest snapshot of each postal code that stands before the given offsets, by postal code."""
    newest: dict[str, tuple[int, Any]] = {}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for batch in consumer.poll(timeout_ms=POLL_MS).values():
            for record in batch:
                total = parse(record.value)
                if total and total["last_updated"] >= newest.get(total["postal_code"], (0, None))[0]:
                    newest[total["postal_code"]] = (total["last_updated"], record)
    return [newest[postal_code][1] for postal_code in sorted(newest)]


def wanted(values: Iterator[bytes | None], postal_codes: list[str] | None) -> Iterator[tuple[str, dict[str, Any]] | None]:
    """Each value to print, as text and as an object; None when there is none now.

    Spark writes a batch again if it was killed while it wrote it: an exact repeat is not printed.
    """
    seen: OrderedDict[int, None] = OrderedDict()
    for value in values:
        total = parse(value)
        if value is None or total is None:
            yield None
            continue
        if hash(value) in seen or (postal_codes and total["postal_code"] not in postal_codes):
            continue
        seen[hash(value)] = None
        if len(seen) > REMEMBERED:
            seen.popitem(last=False)
        yield BETWEEN_TOKENS.sub(" ", value.decode()), total


def parse(value: bytes | None) -> dict[str, Any] | None:
    """The object in a value, None if it is none of `spark.py`'s; says so unless the value is empty."""
    if value is None:
        return None
    try:
        total = json.loads(value)
        is_whole = all(type(total[number]) is int for number in NUMBERS)
        if is_whole and POSTAL_CODE.fullmatch(total["postal_code"]) and 0 <= total["last_updated"] < YEAR_9999:
            return dict(total)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    log.warning("Not a total, so not printed: %s", ascii(value[:80]))
    return None


def until_silence(lines: Iterator[str | None], timeout: float) -> Iterator[str]:
    """Pass the lines on until none has come for `timeout` seconds."""
    last = time.monotonic()
    for line in lines:
        if line is not None:
            yield line
            last = time.monotonic()
        elif time.monotonic() - last >= timeout:
            return


def as_text(total: dict[str, Any], names: dict[str, str]) -> str:
    """One line: postal code, place, bikes, docks, stations, the snapshot's time on this machine's clock."""
    width = max(map(len, names.values()))
    return (
        f"{total['postal_code']}  {names.get(total['postal_code'], ''):{width}}"
        f"  {total['num_bikes_available']:5} bikes"
        f" ({total['mechanical']:4} mechanical + {total['ebike']:4} electric)"
        f"  {total['num_docks_available']:5} docks  {total['stations']:3} stations"
        f"  {datetime.fromtimestamp(total['last_updated']):%Y-%m-%d %H:%M:%S}"
    )


if __name__ == "__main__":
    cli.run(main)
