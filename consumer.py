"""Prints the totals of `velib-projet-final-data`: the latest of every postal code, then each new one as it comes.

python consumer.py                        as aligned text
python consumer.py --json                 one JSON object a line, as stored
python consumer.py --postal-code 75016    of this postal code alone (may be repeated)
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
from kafka.errors import AuthorizationError, SaslAuthenticationFailedError

import cli
import config
import topics
from cli import Failure, log
from config import Settings

POLL_MS = 500
YEAR_9999 = 253_370_764_800  # epoch seconds; no date is later
POSTAL_CODE = re.compile("[0-9]{5}")
REMEMBERED = 100_000  # records: more than a job that was killed writes again

NUMBERS = ("stations", "num_bikes_available", "mechanical", "ebike", "num_docks_available", "last_updated")


def main() -> None:
    arguments = _arguments()
    settings = config.load()
    names = place_names()
    timeout = arguments.timeout_ms / 1000 if arguments.timeout_ms is not None else float("inf")
    if not topics.ensure(settings, timeout):
        return
    try:
        totals = wanted(records(settings, arguments.from_beginning), arguments.postal_code)
        for count, (value, total) in enumerate(until_silence(totals, timeout), start=1):
            print(value if arguments.json else as_text(total, names), flush=True)
            if count == arguments.max_messages:
                break
    except (AuthorizationError, SaslAuthenticationFailedError) as error:
        raise Failure(f"Kafka at {settings.bootstrap_servers} refused: {error}") from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print the totals by postal code.")
    parser.add_argument("--json", action="store_true", help="print each record as it is stored, one JSON object a line")
    parser.add_argument("--from-beginning", action="store_true", help="start with the oldest record instead of the latest")
    parser.add_argument(
        "--postal-code", action="append", metavar="CODE", type=_postal_code, help="print this one only (may be repeated)"
    )
    parser.add_argument("--max-messages", type=_at_least_one, metavar="N", help="stop after N messages")
    parser.add_argument("--timeout-ms", type=_at_least_one, metavar="N", help="stop after N ms without a message")
    return parser.parse_args()


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


def records(settings: Settings, from_beginning: bool) -> Iterator[bytes | None]:
    """The values of the final topic: all, or the latest of each key and then the new ones. None when there is none now."""
    with KafkaConsumer(
        **topics.connection(settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=5000,
    ) as consumer:
        partitions = [
            TopicPartition(settings.final_topic, p) for p in consumer.partitions_for_topic(settings.final_topic) or ()
        ]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        if not from_beginning:
            yield from latest(consumer, consumer.end_offsets(partitions))
        while True:
            polled = consumer.poll(timeout_ms=POLL_MS)
            yield from (record.value for batch in polled.values() for record in batch)
            yield None


def latest(consumer: KafkaConsumer, ends: dict[TopicPartition, int]) -> list[bytes]:
    """The value of the newest snapshot of each postal code that stands before the given offsets, by postal code."""
    newest: dict[str, tuple[int, bytes]] = {}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for batch in consumer.poll(timeout_ms=POLL_MS).values():
            for record in batch:
                total = parse(record.value)
                if total and total["last_updated"] >= newest.get(total["postal_code"], (0, b""))[0]:
                    newest[total["postal_code"]] = (total["last_updated"], record.value)
    return [value for _, (_, value) in sorted(newest.items())]


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
        yield value.decode(), total


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


def until_silence(totals: Iterator[tuple[str, dict[str, Any]] | None], timeout: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pass the totals on until none has come for `timeout` seconds."""
    last = time.monotonic()
    for total in totals:
        if total is not None:
            yield total
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
