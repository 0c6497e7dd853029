"""The producer publishes the positions of the stations, and the totals do without them."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from local.day import Day
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until

PROBLEM = "The stations' positions, which only maps need, were not published: "
NOW = int(time.time())
FIELDS = ("stationCode", "name", "lat", "lon", "capacity")


def _information(code: str, **other: Any) -> dict[str, Any]:
    """An entry of `station_information.json`."""
    return {"stationCode": code, "name": "A", "lat": 48.9, "lon": 2.3, "capacity": 20} | other


def _answer(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"lastUpdatedOther": NOW, "ttl": 3600, "data": {"stations": list(entries)}}


def _published(pipeline: Pipeline) -> list[tuple[bytes, dict[str, Any]]]:
    records = pipeline.records(pipeline.settings.station_topic)
    return [(record.key, json.loads(record.value)) for record in records]


def test_the_topic_has_each_station_of_the_simulator_once_however_often_the_producer_starts(
    pipeline: Pipeline,
) -> None:
    day = Day(period=1)
    pipeline.simulate(day)
    expected = [
        (entry["stationCode"].encode(), {name: entry[name] for name in FIELDS})
        for entry in day.information(NOW)["data"]["stations"]
    ]
    producer = pipeline.start("kafka_project.py")
    producer.wait_for("Published 1485 new or changed station positions\n")
    assert producer.stop() == 0
    assert _published(pipeline) == expected

    again = pipeline.start("kafka_project.py", "--once")
    assert again.end() == 0
    assert "positions" not in again.log()
    assert _published(pipeline) == expected


def test_only_what_has_changed_is_published_and_bad_entries_are_counted(
    pipeline: Pipeline,
) -> None:
    api = pipeline.serve_api()
    api.put(feed(NOW, station()))
    kept, moved, new = _information("16107"), _information("32017"), _information("6015")
    api.put(_answer(kept, moved, _information("7", lat="48")), "station_information.json")
    first = pipeline.start("kafka_project.py", "--once")
    assert first.end() == 0
    assert (
        "Published 2 new or changed station positions; left out 1 without a code or a position"
    ) in first.log()
    moved |= {"lat": 48.95}
    api.put(_answer(new, moved, kept), "station_information.json")
    second = pipeline.start("kafka_project.py", "--once")
    assert second.end() == 0
    assert "Published 2 new or changed station positions\n" in second.log()
    codes = [code for code, _ in _published(pipeline)]
    assert codes == [b"16107", b"32017", b"6015", b"32017"]
    assert dict(_published(pipeline))[b"32017"]["lat"] == 48.95


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "station_information.json returned 404"),
        ({"data": {"stations": "none"}}, "The feed has no stations: data.stations is 'none'"),
    ],
)
def test_without_positions_snapshots_are_published_and_one_line_says_why(
    pipeline: Pipeline, answer: dict[str, Any] | None, reason: str
) -> None:
    api = pipeline.serve_api()
    if answer is not None:
        api.put(answer, "station_information.json")
    api.put(feed(NOW - 1, station()))
    producer = pipeline.start("kafka_project.py")
    producer.wait_for(PROBLEM)
    api.put(feed(NOW, station()))
    wait_until(lambda: producer.log().count("Published 1 stations") == 2, "two snapshots")
    assert producer.stop() == 0
    (line,) = [line for line in producer.log().splitlines() if PROBLEM in line]
    assert reason in line
    assert _published(pipeline) == []


@pytest.fixture
def silent_information() -> Iterator[str]:
    """The address of an API with a new snapshot every second, whose information never comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/station_information.json"):
                self.rfile.read(1)  # returns when the client closes the connection
                return
            body = json.dumps(feed(int(time.time()), station())).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_positions_that_never_arrive_delay_no_snapshot(
    pipeline: Pipeline, silent_information: str
) -> None:
    producer = pipeline.start("kafka_project.py", VELIB_API_URL=silent_information)
    wait_until(lambda: producer.log().count("Published 1 stations") >= 3, "three snapshots")
    assert PROBLEM not in producer.log()  # it is still being waited for
    assert producer.stop() == 0
