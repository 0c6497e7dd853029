"""The state of the pipeline, built from the records of its topics.

`PipelineState` takes each record of the four topics and answers what a reader wants to know: the
totals of the newest snapshot, the stations, the last day of a place, the backlog, what went wrong.
"""

import json
import math
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, pairwise
from statistics import median
from threading import RLock
from typing import Any

import config
from config import CLOCK_TOLERANCE, Settings
from velib.kafka import raw_topic
from velib.totals.records import (
    COUNTS,
    DEAD_LETTER,
    MAX_NUMBER,
    Counts,
    parse_dead_letter,
    parse_total,
)

DAY = 24 * 3600  # seconds
MAX_SNAPSHOTS = 2_000  # a day of the feed has 1,440
MAX_DEAD_LETTERS = 5_000  # the newest ones, whose reasons are counted
MAX_COUNT = 2**31  # as in the job, where a count is an `int`
MAX_FIELD = 300  # characters kept of each field of a dead letter
USUAL_GAPS = 10  # how many gaps between the newest snapshots the median is taken over


@dataclass(frozen=True)
class Station:
    """A station in a snapshot."""

    code: str
    is_open: bool
    counts: Counts
    """Its counts, even if it is closed; `stations` is 1."""


@dataclass(frozen=True)
class Position:
    """What rarely changes about a station; latitude and longitude in degrees."""

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


class PipelineState:
    """What the topics contain. One thread adds records, others may read: both take `lock`.

    All times are epoch seconds; 0 means never.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lock = RLock()
        self.version = 0
        """Grows with every record."""

        self.is_kafka_up = False
        self.producers: int | None = None
        """How many producers run; None if that is not known."""

        self.latest: dict[str, tuple[int, int, bytes]] = {}
        """The latest total of each postal code: its snapshot, its offset, and the stored value."""

        self.history: dict[int, dict[str, Counts]] = {}
        """The totals of the last day: snapshot, then postal code."""

        self.recorded: dict[int, datetime] = {}
        """When a snapshot of a replayed feed was recorded, in its own time zone."""

        self._sums: dict[int, Counts] = {}  # computed when first asked for
        self.newest_snapshot = 0
        """The newest snapshot that has a total."""

        self.total_written_at = 0.0
        self.stations: dict[str, Station] = {}
        """The stations of the newest snapshot in the raw topic, by code."""

        self.raw_snapshot = 0
        self.raw_published_at = 0.0
        self.raw_records: Counter[int] = Counter()
        """How many raw records have been read of each snapshot that has no total yet."""

        self.waiting_since = 0.0
        """When the job last made progress while records wait for it; 0 if none wait."""

        self.unread_backlog = 0
        """How many raw records without a total precede those that have been read."""

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
        """A later total of the same postal code and snapshot replaces the earlier one."""
        total = parse_total(record.value)
        if total is None:
            return
        code, snapshot = total["postal_code"], total["last_updated"]
        if snapshot > time.time() + CLOCK_TOLERANCE:
            return  # every real snapshot would be older than this one
        if (snapshot, record.offset) >= self.latest.get(code, (0, 0))[:2]:
            self.latest[code] = (snapshot, record.offset, record.value)
        if snapshot > self.newest_snapshot:
            self.newest_snapshot = snapshot
            self._forget_old_snapshots()
        if snapshot > self.newest_snapshot - DAY:
            counts = Counts(*[total[name] for name in COUNTS])
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
        snapshot = raw_topic.snapshot_of(record)
        # A record without a snapshot waits for the job with the records around it.
        self.raw_records[snapshot or self.raw_snapshot] += 1
        if snapshot > self.raw_snapshot:
            self.raw_snapshot, self.stations = snapshot, {}
            self._add_recorded_at(snapshot, record.value)
        if snapshot == self.raw_snapshot:
            self.raw_published_at = record.timestamp / 1000
            if snapshot > self.newest_snapshot:
                self.waiting_since = self.waiting_since or self.raw_published_at
            station = parse_station(record.value)
            if station is not None:
                self.stations[station.code] = station

    def _add_recorded_at(self, snapshot: int, value: bytes | None) -> None:
        """Keep when a snapshot was recorded, if its first raw record says so."""
        recorded_at = parse_recorded_at(value)
        if recorded_at:
            self.recorded[snapshot] = recorded_at
        if len(self.recorded) > MAX_SNAPSHOTS:
            del self.recorded[min(self.recorded)]

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
        # After a kill the job writes its last ones again.
        self.dead_letters[place] = DeadLetter(record.timestamp / 1000, fields)
        if len(self.dead_letters) > MAX_DEAD_LETTERS:
            self.dead_letters.popitem(last=False)

    def set_status(self, is_kafka_up: bool, producers: int | None, unread_backlog: int) -> None:
        """Set what no record shows: see the attributes with these names."""
        self.is_kafka_up, self.producers = is_kafka_up, producers
        self.unread_backlog = unread_backlog

    def reset_backlog(self) -> None:
        """Forget how many raw records have been read, before they are read again."""
        self.raw_records.clear()

    def totals(self) -> dict[str, Counts]:
        """The totals of the newest snapshot by postal code."""
        return self.history.get(self.newest_snapshot, {})

    def snapshots(self) -> list[int]:
        """The snapshots of the last day that have totals, the oldest first."""
        return sorted(self.history)

    def sum(self, snapshot: int) -> Counts | None:
        """The totals of a snapshot summed over all postal codes; None if it has none."""
        if snapshot in self.history and snapshot not in self._sums:
            totals = self.history[snapshot].values()
            self._sums[snapshot] = Counts(*map(sum, zip(*totals, strict=True)))
        return self._sums.get(snapshot)

    def series(self, postal_code: str, seconds: int, end: int) -> list[tuple[int, Counts | None]]:
        """The totals of a place over the `seconds` until `end`, by time.

        "" means all places. None marks a snapshot without a total of the place.
        """
        snapshots = [s for s in self.snapshots() if end - seconds <= s <= end]
        if not postal_code:
            return [(s, self.sum(s)) for s in snapshots]
        return [(s, self.history[s].get(postal_code)) for s in snapshots]

    def interval(self) -> int:
        """The median seconds between two snapshots, which outages do not change; 60 until there are
        two.
        """
        newest = self.snapshots()[-USUAL_GAPS - 1 :]
        gaps = [later - earlier for earlier, later in pairwise(newest)]
        return round(median(gaps)) if gaps else 60

    def waiting(self) -> int:
        """How many raw records belong to snapshots without a total."""
        later = [n for s, n in self.raw_records.items() if s > self.newest_snapshot]
        return self.unread_backlog + sum(later)

    def selected_stations(self) -> list[Station]:
        """The stations of the newest raw snapshot that VELIB_STATIONS selects."""
        codes = self.settings.stations
        return [s for s in self.stations.values() if codes == config.ALL or s.code in codes]

    def last_dead_letters(self, number: int, since: float) -> list[DeadLetter]:
        """At most `number` dead letters that were written since then, the newest first."""
        newest = islice(reversed(self.dead_letters.values()), number)
        return [letter for letter in newest if letter.written_at >= since]

    def dead_letters_since(self, since: float) -> list[DeadLetter]:
        """The dead letters that were written since then, the newest last."""
        return [letter for letter in self.dead_letters.values() if letter.written_at >= since]


def commonest_reason(dead_letters: list[DeadLetter]) -> str:
    """The reason that most of these dead letters have; "" if there are none."""
    reasons = Counter(letter.fields["reason"] for letter in dead_letters)
    return reasons.most_common(1)[0][0] if reasons else ""


def parse_station(value: bytes | None) -> Station | None:
    """The station in a raw record's value; None if its values make no sense.

    The job decides the same in velib/job/columns.py: `counts` which station is open and what it
    has, `reason` which values make sense. A kind of bikes that is missing or null is 0.
    """
    try:
        raw = json.loads(value or b"")
        entries = raw.get("num_bikes_available_types") or []
        types = {kind: number or 0 for entry in entries for kind, number in entry.items()}
        counts = Counts(
            *[
                types.get(count.kind, 0) if count.kind else raw[count.field] if count.field else 1
                for count in COUNTS.values()
            ]
        )
        flags = [str(raw[name]) for name in ("is_installed", "is_renting")]
        if (
            raw["stationCode"] is None
            or not set(flags) <= {"0", "1", "False", "True", "false", "true"}
            or not all(type(number) is int and 0 <= number < MAX_COUNT for number in counts)
        ):
            return None
        is_open = all(flag in ("1", "True", "true") for flag in flags)
        return Station(str(raw["stationCode"]), is_open, counts)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def parse_recorded_at(value: bytes | None) -> datetime | None:
    """When a raw record of a replayed feed was recorded (its field `recorded_at`, ISO 8601 with an
    offset). None if it does not say. The real feed never says it.
    """
    try:
        recorded_at = datetime.fromisoformat(json.loads(value or b"")["recorded_at"])
        return recorded_at if recorded_at.timestamp() and recorded_at.tzinfo else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def parse_position(value: bytes | None) -> Position | None:
    """The position in a record of the station topic; None if it is not one."""
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
