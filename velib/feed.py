"""The Vélib' feed over HTTP: a `Feed` gives the state of all stations now, and where they are."""

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from velib.cli import log
from velib.topics import CLOCK_TOLERANCE

USER_AGENT = "velib-projet/1.0"  # the API answers 403 to the default User-Agent of a script
CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 15  # seconds without a byte
TOTAL_TIMEOUT = 30  # seconds for the whole answer
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # thirty times the feed
MAX_RETRY_AFTER = 3600.0  # seconds that a server may ask its clients to wait
MAX_BACKOFF = 300.0  # seconds between two polls of a feed that fails

CAUSES = {
    "Name or service not known": "unknown host",
    "Failed to resolve": "unknown host",
    "Connection refused": "connection refused",
    "CERTIFICATE_VERIFY_FAILED": "certificate not trusted",
    "Read timed out": f"no answer for {READ_TIMEOUT} s",
    "timed out": f"no connection within {CONNECT_TIMEOUT} s",
    "redirects": "it redirects in a circle",
    "IncompleteRead": "the answer ends too early",
    "Connection broken": "the answer ends too early",
    "Connection aborted": "it closed the connection",
}
"""The cause of an HTTP error by what its text contains; the first match counts."""


ErrorKind = Literal["http_status", "unreachable", "timeout", "malformed"]


class FeedError(Exception):
    """The feed has no answer that can be used now. The text says why."""

    def __init__(self, reason: str, kind: ErrorKind, retry_after: float = 0) -> None:
        """retry_after: the seconds that the server asks its clients to wait, 0 if it does not."""
        super().__init__(reason)
        self.kind = kind
        self.retry_after = retry_after


@dataclass(frozen=True)
class Snapshot:
    """One state of the whole feed."""

    last_updated: int
    """The feed's own time stamp, `lastUpdatedOther` (epoch seconds)."""

    stations: list[Any]
    """The stations as they came: each should be a JSON object, but the feed does not promise it."""


class Feed:
    """Reads the files of the API over one connection, within limits of time and size."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url
        self.session = requests.Session()
        self.session.headers["User-Agent"] = USER_AGENT
        retries = Retry(
            total=2,
            backoff_factor=0.3,
            status_forcelist=(500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,  # FeedError hands the wait to the caller
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retries))

    def snapshot(self) -> Snapshot:
        """The snapshot that the API has now; raises FeedError."""
        return parse(self._get("station_status.json"))

    def station_information(self) -> list[Any]:
        """The stations of `station_information.json`, as they came; raises FeedError."""
        return _stations(_json_object(self._get("station_information.json")))

    def _get(self, name: str) -> bytes:
        url, timeouts = f"{self.api_url}/{name}", (CONNECT_TIMEOUT, READ_TIMEOUT)
        try:
            with self.session.get(url, timeout=timeouts, stream=True) as response:
                if response.status_code != 200:
                    raise FeedError(
                        f"The API {url} refuses: {response.status_code} {response.reason}",
                        "http_status",
                        _seconds(response.headers.get("Retry-After")),
                    )
                return _body(url, response.raw)
        except (requests.RequestException, HTTPError) as error:
            kind: ErrorKind = "timeout" if "timed out" in str(error) else "unreachable"
            raise FeedError(f"The API {url} cannot be reached ({_cause(error)})", kind) from None


class Backoff:
    """The growing pauses between the polls of a feed that fails; logs each reason once."""

    def __init__(self, first_pause: float) -> None:
        """first_pause: seconds."""
        self.first_pause = self.next_pause = first_pause
        self.reason = ""
        self.failing_since = 0.0

    def failed(self, reason: str) -> float:
        """The seconds to wait before the next poll."""
        if not self.reason:
            self.failing_since = time.monotonic()
        if reason != self.reason:
            log.warning("%s. Trying again, with growing pauses", reason)
        self.reason = reason
        pause, self.next_pause = self.next_pause, min(self.next_pause * 2, MAX_BACKOFF)
        return pause

    def recovered(self) -> None:
        """The last poll had a snapshot: the next failure begins with the first pause again."""
        if self.reason:
            log.info("The feed is back after %.0f s", time.monotonic() - self.failing_since)
        self.reason, self.next_pause = "", self.first_pause


def parse(body: bytes) -> Snapshot:
    """The snapshot in the body of an answer; raises FeedError if it does not have the feed's shape.

    A bad station among good ones is no reason to refuse the snapshot: it ends in the dead letters.
    """
    answer = _json_object(body)
    last_updated = answer.get("lastUpdatedOther")
    if type(last_updated) is not int or last_updated <= 0:
        raise FeedError(
            f"The feed has no time stamp: lastUpdatedOther is {_short(last_updated)}", "malformed"
        )
    if last_updated >= time.time() + CLOCK_TOLERANCE:
        raise FeedError(
            f"The feed's time stamp is in the future: lastUpdatedOther is {_short(last_updated)}",
            "malformed",
        )
    return Snapshot(last_updated, _stations(answer))


def _body(url: str, response: HTTPResponse) -> bytes:
    deadline = time.monotonic() + TOTAL_TIMEOUT
    body = bytearray()
    # read1 returns what has arrived; read would wait until it has all the bytes asked for.
    while chunk := response.read1(64 * 1024, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise FeedError(
                f"The API {url} sends more than {MAX_ANSWER_BYTES >> 20} MB", "malformed"
            )
        if time.monotonic() > deadline:
            raise FeedError(
                f"The API {url} sends too slowly: no end after {TOTAL_TIMEOUT} s", "timeout"
            )
    return bytes(body)


def _json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in the body of an answer, an empty one if it is other JSON."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode(errors="replace")
        raise FeedError(
            f"The API sent something else than JSON (it starts with {start!r})", "malformed"
        ) from None
    return answer if isinstance(answer, dict) else {}


def _stations(answer: dict[str, Any]) -> list[Any]:
    """The stations of an answer, of which one at least is a JSON object."""
    data = answer.get("data")
    stations = data.get("stations") if isinstance(data, dict) else None
    if not isinstance(stations, list) or not stations:
        raise FeedError(
            f"The feed has no stations: data.stations is {_short(stations)}", "malformed"
        )
    if not any(isinstance(station, dict) for station in stations):
        raise FeedError(
            f"The feed's stations are no objects: the first is {_short(stations[0])}", "malformed"
        )
    return stations


def _seconds(retry_after: str | None) -> float:
    """The seconds to wait: Retry-After gives seconds or a date; 0 if the header has neither."""
    try:
        seconds = Retry().parse_retry_after(retry_after or "0")
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0
    return min(seconds, MAX_RETRY_AFTER)


def _cause(error: Exception) -> str:
    causes = (cause for sign, cause in CAUSES.items() if sign in str(error))
    return next(causes, type(error).__name__)


def _short(value: object) -> str:
    return repr(value)[:60]
