"""The pipeline as it is now, built from the records of its topics; knows no page.

`Live` takes each record of the four topics and answers what a reader wants to know: the totals of
the newest snapshot, the stations, the last day of a place, what waits and what went wrong.
"""

import json
import math
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from itertools import islice
from threading import RLock
from typing import Any, NamedTuple

import config
from config import Settings
from velib.kafka import topics
from velib.last_poll import LastPoll
from velib.totals.records import DEAD_LETTER, MAX_NUMBER, parse_dead_letter, parse_total

DAY = 24 * 3600  # seconds
MAX_SNAPSHOTS = 2_000  # a day of the feed has 1,440
MAX_DEAD_LETTERS = 5_000  # the newest ones, whose reasons are counted
MAX_FIELD = 300  # characters that are kept of a field of a dead letter


class Counts(NamedTuple):
    """The numbers of a total, named as in the topic."""

    stations: int
    num_bikes_available: int
    mechanical: int
    ebike: int
    num_docks_available: int


@dataclass(frozen=True)
class Station:
    """A station in a snapshot, with the feed's names."""

    code: str
    is_open: bool
    num_bikes_available: int
    mechanical: int
    ebike: int
    num_docks_available: int


@dataclass(frozen=True)
class Position:
    """What does not change of a station; latitude and longitude in degrees."""

    name: str
    latitude: float
    longitude: float
    capacity: int


@dataclass(frozen=True)
class DeadLetter:
    """A raw record that could not be counted."""

    written_at: float
    """Epoch seconds."""

    fields: dict[str, str]
    """By the names of records.DEAD_LETTER, cut to MAX_FIELD characters."""


class Live:
    """What the topics hold. One thread adds records, others may read: both take `lock`.

    All times are epoch seconds; 0 stands for never.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = RLock()
        self.version = 0
        """Grows with every record."""

        self.is_kafka_up = False
        self.last_poll: LastPoll | None = None
        self.latest: dict[str, tuple[int, int, bytes]] = {}
        """Of each postal code the latest total: its snapshot, its offset, and as stored."""

        self.history: dict[int, dict[str, Counts]] = {}
        """The totals of the last day: snapshot, then postal code."""

        self._sums: dict[int, Counts] = {}  # of the snapshots whose sum was asked for
        self.newest_snapshot = 0
        """The newest snapshot that has a total."""

        self.total_written_at = 0.0
        self.stations: dict[str, Station] = {}
        """The stations of the newest snapshot in the raw topic, by code."""

        self.raw_snapshot = 0
        self.raw_published_at = 0.0
        self.raw_records: Counter[int] = Counter()
        """How many raw records of each snapshot have been read, but not of those with totals."""

        self.waiting_since = 0.0
        """When the job last made progress while records wait for it; 0 if none wait."""

        self.records_before = 0
        """How many raw records without a total lie before those that have been read."""

        self.positions: dict[str, Position] = {}
        self.dead_letters: OrderedDict[tuple[str, ...], DeadLetter] = OrderedDict()
        """By the place of the raw record: topic, partition and offset."""

    def add(self, record: Any) -> None:
        """Take a record of one of the four topics."""
        add_record = {
            self.settings.raw_topic: self._add_station,
            self.settings.final_topic: self._add_total,
            self.settings.station_topic: self._add_position,
            self.settings.dead_letter_topic: self._add_dead_letter,
        }[record.topic]
        add_record(record)
        self.version += 1

    def _add_total(self, record: Any) -> None:
        """Of totals of one postal code and snapshot the last one counts: a repeat replaces it."""
        total = parse_total(record.value)
        if total is None:
            return
        code, snapshot = total["postal_code"], total["last_updated"]
        if snapshot > time.time() + topics.CLOCK_TOLERANCE:
            return  # everything that is really new would be older than this one
        if (snapshot, record.offset) >= self.latest.get(code, (0, 0))[:2]:
            self.latest[code] = (snapshot, record.offset, record.value)
        if snapshot > self.newest_snapshot:
            self.newest_snapshot = snapshot
            self._forget_old_snapshots()
        if snapshot > self.newest_snapshot - DAY:
            counts = Counts(*[total[name] for name in Counts._fields])
            self.history.setdefault(snapshot, {})[code] = counts
            self._sums.pop(snapshot, None)
        if snapshot == self.newest_snapshot:
            self.total_written_at = record.timestamp / 1000
            self.waiting_since = self.total_written_at if snapshot < self.raw_snapshot else 0.0

    def _forget_old_snapshots(self) -> None:
        oldest = self.newest_snapshot - DAY
        too_many = sorted(self.history)[:-MAX_SNAPSHOTS]
        for snapshot in {*too_many, *(s for s in self.history if s <= oldest)}:
            del self.history[snapshot]
            self._sums.pop(snapshot, None)
        for snapshot in [s for s in self.raw_records if s < self.newest_snapshot]:
            del self.raw_records[snapshot]

    def _add_station(self, record: Any) -> None:
        snapshot = topics.snapshot_of(record)
        # A record without a snapshot waits for the job with those that it came with.
        self.raw_records[snapshot or self.raw_snapshot] += 1
        if snapshot > self.raw_snapshot:
            self.raw_snapshot, self.stations = snapshot, {}
        if snapshot == self.raw_snapshot:
            self.raw_published_at = record.timestamp / 1000
            if snapshot > self.newest_snapshot:
                self.waiting_since = self.waiting_since or self.raw_published_at
            station = parse_station(record.value)
            if station is not None:
                self.stations[station.code] = station

    def _add_position(self, record: Any) -> None:
        code = (record.key or b"").decode(errors="replace")
        position = parse_position(record.value)
        if position is None:
            self.positions.pop(code, None)
        else:
            self.positions[code] = position

    def _add_dead_letter(self, record: Any) -> None:
        all_fields = parse_dead_letter(record)
        fields = {name: (all_fields[name] or "")[:MAX_FIELD] for name in DEAD_LETTER}
        place = tuple(fields[name] for name in ("topic", "partition", "offset"))
        # A killed job writes its last ones again.
        self.dead_letters[place] = DeadLetter(record.timestamp / 1000, fields)
        if len(self.dead_letters) > MAX_DEAD_LETTERS:
            self.dead_letters.popitem(last=False)

    def note(self, is_kafka_up: bool, last_poll: LastPoll | None, records_before: int) -> None:
        """Note what no record tells: whether Kafka answers, the last poll, what waits unread."""
        self.is_kafka_up, self.last_poll = is_kafka_up, last_poll
        self.records_before = records_before

    def forget_waiting(self) -> None:
        """The raw topic is read again: its records must not be counted twice."""
        self.raw_records.clear()

    def totals(self) -> dict[str, Counts]:
        """The totals of the newest snapshot by postal code."""
        return self.history.get(self.newest_snapshot, {})

    def previous_snapshot(self) -> int:
        """The snapshot before the newest one; 0 if there is none."""
        return max((s for s in self.history if s < self.newest_snapshot), default=0)

    def sum(self, snapshot: int) -> Counts | None:
        """The sum over all postal codes of a snapshot; None if it is not known."""
        if snapshot in self.history and snapshot not in self._sums:
            self._sums[snapshot] = sum_of(self.history[snapshot])
        return self._sums.get(snapshot)

    def series(self, postal_code: str, seconds: int) -> list[tuple[int, Counts | None]]:
        """The totals of a place over the `seconds` that end with the newest snapshot, by time.

        "" stands for all places. None stands for a snapshot without a total of the place.
        """
        start = self.newest_snapshot - seconds
        snapshots = sorted(s for s in self.history if s >= start)
        if not postal_code:
            return [(s, self.sum(s)) for s in snapshots]
        return [(s, self.history[s].get(postal_code)) for s in snapshots]

    def interval(self) -> int:
        """The seconds between the two newest snapshots; 60 until there are two."""
        newest = sorted(self.history)[-2:]
        return newest[1] - newest[0] if len(newest) == 2 else 60

    def waiting(self) -> int:
        """How many raw records are of snapshots that have no total yet."""
        later = [n for s, n in self.raw_records.items() if s > self.newest_snapshot]
        return self.records_before + sum(later)

    def selected_stations(self) -> list[Station]:
        """The stations of the newest raw snapshot that VELIB_STATIONS selects."""
        codes = self.settings.stations
        return [s for s in self.stations.values() if codes == config.ALL or s.code in codes]

    def last_dead_letters(self, number: int, since: float) -> list[DeadLetter]:
        """At most so many of the dead letters that were written since then, the newest first."""
        newest = islice(reversed(self.dead_letters.values()), number)
        return [letter for letter in newest if letter.written_at >= since]

    def dead_letters_since(self, time: float) -> list[DeadLetter]:
        """The dead letters that were written since then, the newest last."""
        return [letter for letter in self.dead_letters.values() if letter.written_at >= time]


def sum_of(totals: dict[str, Counts]) -> Counts:
    """The sum over postal codes of each number; there is at least one."""
    return Counts(*map(sum, zip(*totals.values(), strict=True)))


def commonest_reason(dead_letters: list[DeadLetter]) -> str:
    """The reason that most of these dead letters have; "" if there are none."""
    reasons = Counter(letter.fields["reason"] for letter in dead_letters)
    return reasons.most_common(1)[0][0] if reasons else ""


def parse_station(value: bytes | None) -> Station | None:
    """The station in a raw record's value; None if its numbers make no sense."""
    try:
        raw = json.loads(value or b"")
        types = {kind: n for entry in raw["num_bikes_available_types"] for kind, n in entry.items()}
        numbers = [
            raw["num_bikes_available"],
            types.get("mechanical", 0),
            types.get("ebike", 0),
            raw["num_docks_available"],
        ]
        if not all(type(number) is int and 0 <= number < MAX_NUMBER for number in numbers):
            return None
        flags = (str(raw[name]).lower() for name in ("is_installed", "is_renting"))
        is_open = all(flag in ("1", "true") for flag in flags)
        return Station(str(raw["stationCode"]), is_open, *numbers)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def parse_position(value: bytes | None) -> Position | None:
    """The position in a record of the station topic; None if it is none."""
    try:
        entry = json.loads(value or b"")
        latitude, longitude = float(entry["lat"]), float(entry["lon"])
        if not (math.isfinite(latitude) and math.isfinite(longitude)):
            return None
        capacity = entry.get("capacity")
        return Position(
            str(entry.get("name") or ""),
            latitude,
            longitude,
            capacity if type(capacity) is int and 0 <= capacity < MAX_NUMBER else 0,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
