"""The feed over HTTP: a real server on localhost that misbehaves in every way that is known."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

import kafka_project
from kafka_project import Feed, FeedError, check
from local.broker import free_port
from tests.expected import feed, station

GOOD = json.dumps(feed(1732004538, station())).encode()


BOMB = gzip.compress(b" " * (64 << 20), 1)


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says: /500/station_status.json gives a 500."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        self.close_connection = True
        if kind.isdecimal():
            self.answer(b"", int(kind))
        elif kind == "later":
            self.answer(b"", 429, {"Retry-After": "120"})
        elif kind == "at-a-date":
            self.answer(b"", 503, {"Retry-After": formatdate(time.time() + 120, usegmt=True)})
        elif kind == "circle":
            self.answer(b"", 302, {"Location": self.path})
        elif kind == "silent":
            time.sleep(2)
        elif kind == "trickle":
            self.head({"Content-Length": "1000000"})
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.05)
        elif kind == "cut":
            self.head({"Content-Length": str(len(GOOD))})
            self.wfile.write(GOOD[:50])
        elif kind == "huge":
            self.head({"Content-Length": str(1 << 30)})
            for _ in range(1 << 10):
                self.wfile.write(b" " * (1 << 20))
        elif kind == "bomb":
            self.answer(BOMB, 200, {"Content-Encoding": "gzip"})
        else:
            self.answer(GOOD, 200)

    def head(self, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in (headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, body: bytes, status: int, headers: dict[str, str] | None = None) -> None:
        self.head({"Content-Length": str(len(body))} | (headers or {}), status)
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(ConnectionError):  # who asked has enough
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("500", "refuses: 500"),
        ("503", "refuses: 503"),
        ("403", "refuses: 403"),
        ("later", "refuses: 429"),
        ("circle", "it redirects in a circle"),
        ("silent", "no answer for"),
        ("trickle", "sends too slowly"),
        ("cut", "the answer ends too early"),
        ("huge", "sends more than 16 MB"),
        ("bomb", "sends more than 16 MB"),
    ],
)
def test_an_answer_that_is_none_has_one_clear_line(
    server: str, kind: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_project, "READ_SECONDS", 1)
    monkeypatch.setattr(kafka_project, "WHOLE_SECONDS", 1)
    before = psutil.Process().memory_info().rss
    with pytest.raises(FeedError, match=reason) as error:
        Feed(f"{server}/{kind}").get()
    assert "\n" not in str(error.value)
    if kind == "huge":
        assert psutil.Process().memory_info().rss - before < 100 << 20


def test_a_refused_connection_has_one_clear_line() -> None:
    with pytest.raises(FeedError, match="connection refused"):
        Feed(f"http://127.0.0.1:{free_port()}").get()


def test_the_time_that_the_server_asks_for_is_given(server: str) -> None:
    for kind in ("later", "at-a-date"):
        with pytest.raises(FeedError) as error:
            Feed(f"{server}/{kind}").get()
        assert 110 < error.value.retry_after <= 120


def test_a_good_answer_is_read(server: str) -> None:
    assert check(Feed(f"{server}/good").get()).last_updated == 1732004538
