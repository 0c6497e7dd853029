"""Publishes what a map needs of each station: its name, position and capacity.

They come from `station_information.json` of the feed. A record's key is the station code:

    16107  {"stationCode":"16107","name":"Benjamin Godard - Victor Hugo","lat":48.865983,...}

Only maps use them. They have a thread, a transaction and a transactional id of their own, so that
no problem with them stops, delays or fences a snapshot.
"""

import json
from threading import Event
from typing import Any

from kafka.errors import KafkaError

from config import Settings
from velib.errors import Failure
from velib.feed.api import FeedError
from velib.feed.snapshot import Feed
from velib.kafka import topics
from velib.kafka.reader import latest_values
from velib.producer.publisher import fencing_producer, is_fenced, send_in_transaction
from velib.runtime import log

INTERVAL = 3600.0  # seconds between two checks of the feed
RETRY_INTERVAL = 300.0  # seconds after a check that failed
MAX_CODE, MAX_NAME = 100, 20_000  # characters; the longest name of the real feed has 56

Record = tuple[bytes, bytes]
"""Key and value."""


class Positions:
    """Publishes the entries of the feed that differ from the topic."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.left_out = 0  # in the previous check
        self.problem = ""

    def publish_hourly(self, stop: Event) -> None:
        """Publish what has changed, immediately and every hour, until `stop` is set."""
        while not stop.is_set():
            stop.wait(INTERVAL if self.publish() else RETRY_INTERVAL)

    def publish(self) -> bool:
        """Publish what has changed. Logs a problem once; returns True if there was none."""
        try:
            stations = Feed(self.settings).station_information()
            self._publish_changed(stations)
        except (FeedError, KafkaError, Failure) as error:
            is_lost_race = isinstance(error, KafkaError) and is_fenced(error)
            if str(error) != self.problem and not is_lost_race:
                log.warning(
                    "The stations' positions, which only maps need, were not published: %s", error
                )
            self.problem = str(error)
            return False
        self.problem = ""
        return True

    def _publish_changed(self, stations: list[Any]) -> None:
        topic = self.settings.station_topic
        records = [record for record in map(to_record, stations) if record is not None]
        left_out = len(stations) - len(records)
        changed = _changed(records, latest_values(self.settings, topic))
        if changed:
            with fencing_producer(self.settings, topics.positions_id(self.settings)) as producer:
                send_in_transaction(producer, topic, changed)
        if changed or left_out != self.left_out:
            log.info(
                "Published %d new or changed station positions%s",
                len(changed),
                f"; left out {left_out} without a code or a position" if left_out else "",
            )
        self.left_out = left_out


def _changed(records: list[Record], stored: dict[bytes, bytes]) -> list[Record]:
    """The records whose value differs from the stored one; of duplicate codes the last counts."""
    return [(key, value) for key, value in dict(records).items() if stored.get(key) != value]


def to_record(station: Any) -> Record | None:
    """The record of a station of the feed, None if it has no station code or no position.

    The code may be a number in the feed, and is a string in the record. An invalid name becomes
    "", an invalid capacity null.
    """
    fields = station if isinstance(station, dict) else {}
    code, name, capacity = fields.get("stationCode"), fields.get("name"), fields.get("capacity")
    code = str(code) if type(code) is int else code
    position = (fields.get("lat"), fields.get("lon"))
    is_code = isinstance(code, str) and 0 < len(code) <= MAX_CODE
    if not (is_code and all(map(_is_degrees, position, (90, 180)))):
        return None
    entry = {
        "stationCode": code,
        "name": name[:MAX_NAME] if isinstance(name, str) else "",
        "lat": position[0],
        "lon": position[1],
        "capacity": capacity if type(capacity) is int and 0 <= capacity < 2**31 else None,
    }
    return str(code).encode(errors="replace"), json.dumps(entry, separators=(",", ":")).encode()


def _is_degrees(value: Any, limit: int) -> bool:
    """Whether a value is a number from -limit to limit, which NaN is not."""
    return type(value) in (int, float) and -limit <= value <= limit
