"""What a map needs of each station: its name, position and capacity, published to a topic.

They come from `station_information.json` of the feed. A record's key is the station code:

    16107  {"stationCode":"16107","name":"Benjamin Godard - Victor Hugo","lat":48.865983,...}

The totals do without them, so nothing that is wrong with them stops or delays a snapshot.
"""

import json
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from config import Settings
from velib.feed.api import FeedError
from velib.feed.snapshot import Feed
from velib.kafka import topics
from velib.runtime import in_thread, log

INTERVAL = 3600.0  # seconds between two looks at the feed
RETRY_INTERVAL = 300.0  # seconds after a look that failed
MAX_CODE, MAX_NAME = 100, 20_000  # characters; the longest name of the real feed has 56

Record = tuple[bytes, bytes]
"""Key and value."""


@dataclass(frozen=True)
class Changes:
    """What the feed has and the topic has not."""

    records: list[Record]
    left_out: int
    """How many entries have no station code or no position."""


class StationInformation:
    """Publishes the entries that are new or have changed, at the start and then hourly."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.look: futures.Future[Changes] | None = None  # the one that is under way
        self.next_look = 0.0  # on the monotonic clock
        self.left_out = 0
        self.problem = ""

    def publish_changes(
        self, publish: Callable[[list[Record]], None], timeout: float | None
    ) -> None:
        """Have `publish` called with the changes if it is time to look for them.

        Waits `timeout` seconds for the feed, for ever if that is None: should it take longer, the
        next call has its answer. Raises KafkaError, and the next call then looks again.
        """
        if self.look is None:
            if time.monotonic() < self.next_look:
                return
            self.look = in_thread(lambda: changes(self.settings))
        if not futures.wait([self.look], timeout).done:
            return
        look, self.look = self.look, None
        try:
            found = look.result()
        except FeedError as error:
            self._log_problem(str(error))
            self.next_look = time.monotonic() + RETRY_INTERVAL
            return
        if found.records:
            publish(found.records)
        self._log(found)
        self.next_look = time.monotonic() + INTERVAL

    def _log_problem(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("Positions of stations, which maps need, are not published: %s", problem)
        self.problem = problem

    def _log(self, found: Changes) -> None:
        if found.records or found.left_out != self.left_out:
            log.info(
                "Published the positions of %d stations that are new or have changed%s",
                len(found.records),
                f"; {found.left_out} without code or position left out" if found.left_out else "",
            )
        self.left_out, self.problem = found.left_out, ""


def changes(settings: Settings) -> Changes:
    """The entries of the feed that the topic does not hold; raises FeedError, KafkaError."""
    stations = Feed(settings).station_information()
    records = [record for record in map(to_record, stations) if record is not None]
    held = topics.latest_values(settings, settings.station_topic)
    changed = [(key, value) for key, value in dict(records).items() if held.get(key) != value]
    return Changes(changed, len(stations) - len(records))


def to_record(station: Any) -> Record | None:
    """The record of a station of the feed, None if it has no station code or no position.

    The code may be a number in the feed, and is a string in the record. A name that is no text is
    "", a capacity that is no count is null.
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
