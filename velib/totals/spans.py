"""Reads totals: the latest one of each postal code first, or all of a time span."""

import math
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator
from threading import Event
from typing import Any, NamedTuple

from config import CLOCK_TOLERANCE
from velib.errors import Failure
from velib.kafka.reader import Reader
from velib.runtime import local_time, log
from velib.totals.records import parse_total

RECENT = 20_000  # last offsets of a partition, always read first: four hours of the bike network
MAX_REMEMBERED = 30_000  # keys; a restarted job rarely repeats more
GRACE = 300  # seconds after the end of a span until all of its totals are in the topic
MAX_SLEEP = 60.0  # seconds; then a suspended machine or a changed clock is noticed
NOT_WHOLE = "Kafka did not send all totals of the span in time: none are shown"


class Span(NamedTuple):
    """The snapshots from `since` up to but not including `until` (epoch seconds), and the postal
    codes asked for: an empty collection means all.
    """

    since: int = -1
    until: float = math.inf
    postal_codes: Collection[str] = ()

    def has(self, total: dict[str, Any]) -> bool:
        is_chosen = not self.postal_codes or total["postal_code"] in self.postal_codes
        return is_chosen and self.since <= total["last_updated"] < self.until

    def has_end(self) -> bool:
        return self.until < math.inf

    def has_all_snapshots(self) -> bool:
        return self == Span(postal_codes=self.postal_codes)

    def wait_until_written(self, stop: Event) -> None:
        """Wait until all totals of a span that has an end are in the topic, by our clock.

        A newer total does not prove it: the job writes the totals of a batch in any order.
        """
        written_at = self.until + GRACE
        if time.time() < written_at:
            end = local_time(self.until)
            log.info("Waiting until five minutes after %s, when all totals are written", end)
        while (seconds_left := written_at - time.time()) > 0:
            if stop.wait(min(seconds_left, MAX_SLEEP)):
                return


def values_of_span(reader: Reader, span: Span) -> Iterator[bytes]:
    """The values of the records that may contain a span's totals.

    Reading begins at what was written an hour before the span: a total is never written earlier
    than its snapshot's time, give or take the clocks. If the span has an end, yields the last value
    of each total, by snapshot and postal code; otherwise every record as stored, then each new one.
    Raises Failure if the timeout passes before a span with an end is read.
    """
    starts = reader.offsets_at(span.since - CLOCK_TOLERANCE)
    if span.has_end():
        yield from _latest_values(reader, reader.read(starts, reader.ends), span)
    else:
        yield from (record.value for record in reader.read(starts))


def _latest_values(reader: Reader, records: Iterable[Any], span: Span) -> Iterator[bytes]:
    """The last value of each total of a span, by snapshot and postal code; none if stopped.

    All of them are kept in memory: a later record may replace any of them.
    """
    latest: dict[int, dict[str, bytes]] = defaultdict(dict)
    newest = span.since
    for record in records:
        reader.renew()
        total = parse_total(record.value)
        if total is None:
            continue
        newest = max(newest, total["last_updated"])
        if span.has(total):
            latest[total["last_updated"]][sys.intern(total["postal_code"])] = record.value
    if reader.stop.is_set():
        return
    if reader.is_over():
        raise Failure(NOT_WHOLE)
    if newest < span.until - GRACE:
        reason = "the job may lag behind, or the feed had no new snapshot"
        log.warning("There are no totals after %s: %s", local_time(newest), reason)
    for _, snapshot in sorted(latest.items()):
        yield from (snapshot[postal_code] for postal_code in sorted(snapshot))


def latest_values_then_new(reader: Reader) -> Iterator[bytes]:
    """The value of every postal code's latest total, then the value of each new record."""
    recent = {partition: max(0, end - RECENT) for partition, end in reader.ends.items()}
    latest: dict[str, tuple[int, int]] = {}
    newest = later_totals(reader.read(recent, reader.ends), latest)
    if reader.is_over():
        return  # not all records were read: the others may contain later totals
    yield from (record.value for record in newest)
    older = later_totals(reader.read(ends=recent), latest)
    if reader.is_over():
        return
    yield from (record.value for record in older)
    yield from (record.value for record in reader.read(reader.ends))


def later_totals(records: Iterable[Any], latest: dict[str, tuple[int, int]]) -> list[Any]:
    """For each postal code the record of its latest total, unless `latest` has a later one; sorted
    by postal code.

    `latest` contains the `last_updated` and the offset of every latest total, and is updated. Of
    totals with the same `last_updated`, the one with the greatest offset is the latest.
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
    """Recognises a repeated record: after a kill the job writes its last ones again."""

    def __init__(self) -> None:
        self.hashes: OrderedDict[Hashable, int] = OrderedDict()
        """The hash of the last value of each of the MAX_REMEMBERED newest keys."""

    def check_and_remember(self, key: Hashable, value: bytes | None) -> bool:
        """Whether this is the last value of its key again; if not, remembers it."""
        if self.hashes.get(key) == hash(value):
            return True
        self.hashes[key] = hash(value)
        if len(self.hashes) > MAX_REMEMBERED:
            self.hashes.popitem(last=False)
        return False
