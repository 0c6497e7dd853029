"""The simulated feed over HTTP, which can misbehave in every known way."""

import json
import random
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local import simulator
from local.day import Day

YEAR = 365 * 24 * 3600
HUGE = 1024**3  # bytes that an answer without an end would have

BAD_STATIONS: list[dict[str, Any]] = [
    {"stationCode": None},
    {"stationCode": "99999"},
    {"num_bikes_available": None},
    {"num_bikes_available": -1},
    {"num_docks_available": 2.5},
    {"num_docks_available": "ten"},
    {"num_bikes_available": 2**40},
    {"is_renting": "yes"},
    {"num_bikes_available_types": [{"mechanical": -3}]},
]
"""Fields that each make a station one that cannot be counted."""

BAD = "bad"
"""A field that no feed has: it marks the stations that cannot be counted."""


class Feed:
    """Serves the files of the API on a port of localhost and remembers every snapshot served."""

    def __init__(self, day: Day, seed: int, port: int) -> None:
        """The seed chooses the bad stations."""
        self.day, self.seed, self.port = day, seed, port
        self.served: set[int] = set()
        self.fault: str | None = None
        self.faulty_answers = 0
        self.start()

    def start(self) -> None:
        """Accept connections, in a thread."""
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fault = feed.fault
                feed.faulty_answers += fault is not None
                try:
                    FAULTS.get(fault or "", _good_answer)(feed, self)
                except OSError:  # the producer has hung up, as it should
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """From now on connections are refused."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, last_updated: int) -> dict[str, Any]:
        """The snapshot of a time, always the same; one in three has three bad stations."""
        answer = self.day.status(last_updated)
        chance = random.Random(self.seed * 1_000_003 + last_updated)
        if chance.random() < 0.33:
            stations = answer["data"]["stations"]
            for fault in chance.sample(BAD_STATIONS, 3):
                stations.insert(chance.randrange(len(stations)), stations[0] | {BAD: True} | fault)
        return answer

    def published(self, last_updated: int) -> list[dict[str, Any]]:
        """The raw records of a snapshot that was served, as they must be; none if it was not."""
        stations = self.answer(last_updated)["data"]["stations"]
        return [
            station | {"last_updated": last_updated}
            for station in (stations if last_updated in self.served else [])
        ]

    def now(self) -> int:
        """The time of the snapshot that the feed has now (epoch seconds)."""
        return simulator.newest(self.day.period)


def _send(
    request: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    request.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def _good_answer(feed: Feed, request: BaseHTTPRequestHandler) -> None:
    if request.path.endswith("/station_information.json"):
        information = feed.day.information(int(time.time()))
        _send(request, json.dumps(information).encode())
        return
    last_updated = feed.now()
    answer = feed.answer(last_updated)
    feed.served.add(last_updated)
    _send(request, json.dumps(answer).encode())


def _altered(
    change: Callable[[dict[str, Any]], object],
) -> Callable[[Feed, BaseHTTPRequestHandler], None]:
    """An answer in which something is wrong."""

    def send(feed: Feed, request: BaseHTTPRequestHandler) -> None:
        answer = feed.answer(feed.now())
        change(answer)
        _send(request, json.dumps(answer).encode())

    return send


def _cut(feed: Feed, request: BaseHTTPRequestHandler) -> None:
    body = json.dumps(feed.answer(feed.now())).encode()
    _send(request, body[: len(body) // 2])


def _hang_up(feed: Feed, request: BaseHTTPRequestHandler) -> None:
    body = json.dumps(feed.answer(feed.now())).encode()
    _send(request, body[: len(body) // 2], headers={"Content-Length": str(len(body))})


def _trickle(feed: Feed, request: BaseHTTPRequestHandler) -> None:
    _send(request, b"{", headers={"Content-Length": "100000"})
    while feed.fault == "trickles":
        request.wfile.write(b" ")
        time.sleep(0.2)


def _no_answer(feed: Feed, request: BaseHTTPRequestHandler) -> None:
    while feed.fault == "does not answer":
        time.sleep(0.2)


def _endless(feed: Feed, request: BaseHTTPRequestHandler) -> None:
    _send(request, b"[", headers={"Content-Length": str(HUGE)})
    for _ in range(HUGE // 2**16):
        request.wfile.write(b" " * 2**16)


FAULTS: dict[str, Callable[[Feed, BaseHTTPRequestHandler], None]] = {
    "answers 500": lambda feed, request: _send(request, b"", 500),
    "answers 503": lambda feed, request: _send(request, b"", 503),
    "answers 429, Retry-After": lambda feed, request: _send(
        request, b"", 429, {"Retry-After": "2"}
    ),
    "answers 403": lambda feed, request: _send(request, b"", 403),
    "redirects in a circle": lambda feed, request: _send(
        request, b"", 302, {"Location": request.path}
    ),
    "sends HTML": lambda feed, request: _send(request, b"<html>Maintenance</html>"),
    "sends cut JSON": _cut,
    "hangs up": _hang_up,
    "trickles": _trickle,
    "does not answer": _no_answer,
    "sends 1 GB": _endless,
    "has no stations": _altered(lambda answer: answer["data"].update(stations=[])),
    "has other types": _altered(lambda answer: answer.update(data="none", lastUpdatedOther="now")),
    "goes back in time": _altered(
        lambda answer: answer.update(lastUpdatedOther=answer["lastUpdatedOther"] - 600)
    ),
    "is of next year": _altered(
        lambda answer: answer.update(lastUpdatedOther=answer["lastUpdatedOther"] + YEAR)
    ),
}
"""The ways to answer badly, each with its description. Refused connections are `Feed.stop`."""
