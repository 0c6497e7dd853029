"""The Vélib' feed: a `Feed` reads the current state of all stations, and their positions."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from config import CLOCK_TOLERANCE, Settings
from velib.feed.api import Api, FeedError
from velib.runtime import local_time


@dataclass(frozen=True)
class Snapshot:
    """One state of the whole feed."""

    last_updated: int
    """The feed's own timestamp, `lastUpdatedOther` (epoch seconds)."""

    stations: list[Any]
    """The stations as received: each should be a JSON object, but the feed may send others."""

    body: bytes = field(default=b"", repr=False, compare=False)
    """The API's answer that contains them."""


class Feed:
    """Reads the files of the API that VELIB_API_URL names."""

    def __init__(self, settings: Settings) -> None:
        self.api = Api(settings.api_url, settings.api_key)

    def snapshot(self) -> Snapshot:
        """The API's current snapshot; raises FeedError."""
        answer = self.api.get("station_status.json")
        return parse(answer.body, answer.clock)

    def station_information(self) -> list[Any]:
        """The stations of `station_information.json`, as received; raises FeedError."""
        return _stations(_json_object(self.api.get("station_information.json").body))


def parse(body: bytes, api_clock: float | None = None) -> Snapshot:
    """The snapshot in the body of an answer; raises FeedError if it does not have the feed's shape.

    A bad station among good ones does not invalidate the snapshot: it becomes a dead letter.
    `api_clock`: the time by the API's own clock (epoch seconds), if it is known.
    """
    answer = _json_object(body)
    last_updated = answer.get("lastUpdatedOther")
    if type(last_updated) is not int or last_updated <= 0:
        raise FeedError(
            f"The feed has no timestamp: lastUpdatedOther is {_short(last_updated)}", "malformed"
        )
    if last_updated >= time.time() + CLOCK_TOLERANCE:
        raise FeedError(
            "The feed's timestamp is in the future",
            "malformed",
            details=f": {_shown_time(last_updated)}, while this machine's clock says"
            f" {local_time(time.time())}. {_wrong_clock(last_updated, api_clock)}",
        )
    return Snapshot(last_updated, _stations(answer), body)


def _wrong_clock(last_updated: int, api_clock: float | None) -> str:
    """Which clock is wrong, when the feed's timestamp is ahead of this machine's clock."""
    if api_clock is None:
        return "This machine's clock may be wrong: the API does not send its own time"
    if last_updated < api_clock + CLOCK_TOLERANCE:
        return f"This machine's clock is wrong: the API's says {local_time(api_clock)}"
    return f"The timestamp is wrong: the API's own clock says {local_time(api_clock)}"


def _shown_time(last_updated: int) -> str:
    try:
        return local_time(last_updated)
    except (ValueError, OverflowError):  # out of range, such as milliseconds
        return _short(last_updated)


def _json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in the body of an answer, an empty one if it is other JSON."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode(errors="replace")
        raise FeedError(
            f"The answer of the API is not JSON (it starts with {start!r})", "malformed"
        ) from None
    return answer if isinstance(answer, dict) else {}


def _stations(answer: dict[str, Any]) -> list[Any]:
    """The stations of an answer; at least one of them is a JSON object."""
    data = answer.get("data")
    stations = data.get("stations") if isinstance(data, dict) else None
    if not isinstance(stations, list) or not stations:
        raise FeedError(
            f"The feed has no stations: data.stations is {_short(stations)}", "malformed"
        )
    if not any(isinstance(station, dict) for station in stations):
        raise FeedError(
            f"The feed's stations are not objects: the first is {_short(stations[0])}", "malformed"
        )
    return stations


def _short(value: object) -> str:
    return repr(value)[:60]
