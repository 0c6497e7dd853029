"""The producer's own rules, without Kafka: the pace of its polls, missing stations, records."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import pytest

from config import Settings
from kafka_project import keep_newest
from tests.expected import feed, station
from velib.errors import Failure
from velib.feed.snapshot import Feed, Snapshot
from velib.feed.watch import FeedWatch
from velib.producer.polling import poll, poll_once
from velib.producer.publisher import Publisher, to_record
from velib.runtime import local_time

NOW = int(time.time())
POLL_SECONDS = 3.6  # a twelfth of it is 0.3

Answer = tuple[int, int]
"""An HTTP status, and the time of the snapshot (200) or the seconds of Retry-After (others)."""


class Server:
    """An API whose answers a test chooses; it records the time of each request."""

    def __init__(self) -> None:
        self.answers: Iterator[Answer] = iter([])
        self.asked_at: list[float] = []
        self.stop = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked_at.append(time.monotonic())
                status, number = next(server.answers)
                body = json.dumps(feed(number, station())).encode() if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status != 200:
                    self.send_header("Retry-After", str(number))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{self.http.server_port}"
        self.feed = Feed(Settings(api_url=url))

    def poll(self, count: int, *answers: Answer) -> list[int]:
        """The times of the first snapshots that polling these answers yields."""
        self.answers = iter(answers)
        snapshots = itertools.islice(poll(self.feed, POLL_SECONDS, self.stop), count)
        return [snapshot.last_updated for snapshot in snapshots]

    def pauses(self) -> list[float]:
        """The seconds between one request and the next."""
        return [later - earlier for earlier, later in itertools.pairwise(self.asked_at)]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with server.http:
        yield server
        server.http.shutdown()


def test_a_new_snapshot_starts_the_poll_period_and_the_first_one_does_not(server: Server) -> None:
    times = [NOW, NOW, NOW + 1, NOW + 1]
    assert server.poll(4, *[(200, time) for time in times]) == times
    after_first, after_same, after_new = server.pauses()
    assert after_first < POLL_SECONDS / 2
    assert after_same < POLL_SECONDS / 2
    assert after_new > POLL_SECONDS * 0.75


def test_an_older_snapshot_does_not_start_the_poll_period(server: Server) -> None:
    times = [NOW, NOW - 60, NOW, NOW - 60]
    assert server.poll(4, *[(200, time) for time in times]) == times
    assert max(server.pauses()) < POLL_SECONDS / 2


def test_polling_continues_after_failures_as_late_as_the_server_asks(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="velib")
    assert server.poll(1, (404, 0), (404, 0), (429, 4), (200, NOW)) == [NOW]
    first, second, asked_for = server.pauses()
    assert first < 2 and second < 2
    assert asked_for > 3
    not_found, too_many, back = caplog.messages
    assert "returned 404" in not_found
    assert "returned 429" in too_many
    assert back.startswith("The feed is back after ")


def test_polling_ends_when_the_script_stops_even_if_the_feed_fails(server: Server) -> None:
    server.answers = itertools.repeat((404, 0))
    threading.Timer(1, server.stop.set).start()
    started = time.monotonic()
    assert list(poll(server.feed, 3_600, server.stop)) == []
    assert time.monotonic() - started < 30


def test_with_the_option_once_a_failure_of_the_feed_ends_the_script(server: Server) -> None:
    server.answers = iter([(404, 0), (200, NOW)])
    with pytest.raises(Failure, match="returned 404"):
        poll_once(server.feed)
    assert poll_once(server.feed) == Snapshot(NOW, [station()])


def _warnings(
    caplog: pytest.LogCaptureFixture, configured: str, *snapshots: list[Any]
) -> list[str]:
    watch = FeedWatch(Settings(stations=configured))
    for stations in snapshots:
        watch.check(Snapshot(NOW, stations))
    return caplog.messages


def test_each_station_that_the_feed_lacks_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both, one = [station("16107"), station("32017")], [station("16107")]
    assert _warnings(caplog, "16107,32017,4242", both, both, one, both, one) == [
        "The feed has no station 4242 (VELIB_STATIONS)",
        "The feed has no station 32017 (VELIB_STATIONS)",
    ]


def test_odd_station_codes_cause_no_false_warning(caplog: pytest.LogCaptureFixture) -> None:
    stations = [{"stationCode": code} for code in (16107, None, [1], {"a": 1}, "32017")]
    assert _warnings(caplog, "16107,32017", [*stations, None, 3, [], {}]) == []


def test_without_a_choice_of_stations_none_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    assert _warnings(caplog, "all", [station("16107")]) == []


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"stationCode": "16107"}, b"16107", {"stationCode": "16107", "last_updated": NOW}),
        ({"stationCode": 16107}, b"16107", {"stationCode": 16107, "last_updated": NOW}),
        ({"stationCode": "\ud800"}, b"?", {"stationCode": "\ud800", "last_updated": NOW}),
        ({"stationCode": None}, None, {"stationCode": None, "last_updated": NOW}),
        ({"last_updated": 1}, None, {"last_updated": NOW}),
        ([1, None], None, [1, None]),
        (None, None, None),
    ],
)
def test_a_record_is_the_station_as_it_came_with_the_time_of_its_snapshot(
    given: Any, key: bytes | None, value: Any
) -> None:
    record_key, record_value = to_record(given, NOW)
    assert (record_key, json.loads(record_value)) == (key, value)


def test_after_a_stop_while_kafka_is_awaited_nothing_is_attempted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ensure(settings: Settings, stop: threading.Event) -> bool:
        stop.set()
        return False

    asked: list[Settings] = []
    monkeypatch.setattr("velib.kafka.topics.ensure", ensure)
    monkeypatch.setattr("velib.kafka.raw_topic.newest_snapshot", asked.append)
    assert Publisher(Settings(), threading.Event()).find_newest() == 0
    assert asked == []


def test_of_the_snapshots_that_wait_for_kafka_the_newest_is_kept_and_a_line_names_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "velib")
    publisher, waiting = Publisher(Settings(), threading.Event()), Queue[Snapshot](maxsize=1)
    publisher.newest = 100
    for last_updated in (100, 160, 160, 220, 60):
        keep_newest(waiting, Snapshot(last_updated, []), publisher)
    assert waiting.get_nowait().last_updated == 220
    assert caplog.messages == [
        f"Snapshot {local_time(160)} is not published: a newer one came while Kafka was unavailable"
    ]
