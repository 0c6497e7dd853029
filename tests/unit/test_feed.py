"""The feed over HTTP: a real server on localhost that misbehaves in every way that is known."""

import codecs
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from config import Settings
from local.broker import free_port
from tests.expected import feed, station
from velib.feed import api
from velib.feed.api import FeedError
from velib.feed.snapshot import Feed, Snapshot, parse
from velib.feed.watch import FeedWatch
from velib.producer.polling import FailureLog
from velib.runtime import local_time

GOOD = json.dumps(feed(1732004538, station())).encode()
INFORMATION = [{"stationCode": "16107", "name": "Benjamin Godard", "lat": 48.86, "lon": 2.27}]
GZIP_BOMB = gzip.compress(bytes(100 << 20))


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
        elif kind == "next-year":
            self.answer(b"", 503, {"Retry-After": str(365 * 86400)})
        elif kind == "soon":
            self.answer(b"", 503, {"Retry-After": "soon"})
        elif kind == "circle":
            self.answer(b"", 302, {"Location": self.path})
        elif kind == "no-answer":
            self.rfile.read(1)  # returns when the client closes the connection
        elif kind == "slow-circle":
            time.sleep(0.4)
            self.answer(b"", 302, {"Location": self.path})
        elif kind in ("slow", "slow-head"):
            self.head({"Content-Length": "1000000"}, ends=kind == "slow")
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
            self.answer(GZIP_BOMB, 200, {"Content-Encoding": "gzip"})
        elif kind == "gzip":
            self.answer(gzip.compress(GOOD), 200, {"Content-Encoding": "gzip"})
        elif self.path == "/good/station_information.json":
            self.answer(json.dumps({"data": {"stations": INFORMATION}}).encode(), 200)
        elif kind.startswith("at-") and kind[3:].isdecimal():
            self.answer(json.dumps(feed(int(kind[3:]), station())).encode(), 200)
        elif kind == "chunked":
            self.head({"Transfer-Encoding": "chunked"})
            for part in (GOOD[:50], GOOD[50:], b""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        elif kind == "bom":
            self.answer(codecs.BOM_UTF8 + GOOD, 200)
        elif kind == "only-for-us" and self.headers["User-Agent"] != "velib-projet/1.0":
            self.answer(b"", 403)
        else:
            self.answer(GOOD, 200)

    def head(self, headers: dict[str, str], status: int = 200, ends: bool = True) -> None:
        self.send_response(status)
        for name, value in (headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        if ends:
            self.end_headers()
        else:
            self.flush_headers()

    def answer(self, body: bytes, status: int, headers: dict[str, str] | None = None) -> None:
        self.head({"Content-Length": str(len(body))} | (headers or {}), status)
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client has given up, as it should
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def _feed(url: str) -> Feed:
    return Feed(Settings(api_url=url))


@pytest.mark.parametrize("kind", ["good", "gzip", "chunked", "bom", "only-for-us"])
def test_a_good_answer_is_a_snapshot(server: str, kind: str) -> None:
    assert _feed(f"{server}/{kind}").snapshot() == Snapshot(1732004538, [station()])


def test_the_information_is_the_stations_of_its_own_file(server: str) -> None:
    assert _feed(f"{server}/good").station_information() == INFORMATION


def test_a_failure_of_the_information_names_its_file(server: str) -> None:
    with pytest.raises(FeedError, match=r"/404/station_information\.json returned 404"):
        _feed(f"{server}/404").station_information()


@pytest.mark.parametrize(
    ("kind", "reason", "error_kind"),
    [
        ("500", "returned 500", "http_status"),
        ("503", "returned 503", "http_status"),
        ("304", "returned 304", "http_status"),
        ("401", r"returned 401 .*the address may need a key: VELIB_API_KEY", "http_status"),
        ("403", r"returned 403 .*the address may need a key: VELIB_API_KEY", "http_status"),
        ("later", "returned 429", "http_status"),
        ("circle", "redirect loop", "unreachable"),
        ("no-answer", r"\(no complete answer within 1 s\)", "timeout"),
        ("slow", r"\(no complete answer within 1 s\)", "timeout"),
        ("slow-head", r"\(no complete answer within 1 s\)", "timeout"),
        ("slow-circle", r"\(no complete answer within 1 s\)", "timeout"),
        ("cut", "response truncated", "unreachable"),
        ("huge", "sends more than 64 MB", "malformed"),
        ("bomb", "sends more than 64 MB", "malformed"),
    ],
)
def test_each_failure_of_the_api_is_one_clear_line_and_has_a_kind(
    server: str, kind: str, reason: str, error_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if error_kind == "timeout":
        monkeypatch.setattr(api, "TIMEOUT", 1)
    started, before = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises(FeedError, match=reason) as error:
        _feed(f"{server}/{kind}").snapshot()
    assert "\n" not in str(error.value)
    assert error.value.kind == error_kind
    assert time.monotonic() - started < (2 if error_kind == "timeout" else api.TIMEOUT)
    if kind == "huge":
        assert psutil.Process().memory_info().rss - before < 100 << 20


def test_a_refused_connection_is_one_clear_line() -> None:
    with pytest.raises(FeedError, match="connection refused") as error:
        _feed(f"http://127.0.0.1:{free_port()}").snapshot()
    assert error.value.kind == "unreachable"


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("later", 120, 120),
        ("at-a-date", 110, 120),
        ("next-year", 3600, 3600),  # a server may ask for an hour at most
        ("soon", 0, 0),
        ("403", 0, 0),
    ],
)
def test_the_wait_that_the_server_asks_for_is_in_the_error(
    server: str, kind: str, least: float, most: float
) -> None:
    with pytest.raises(FeedError) as error:
        _feed(f"{server}/{kind}").snapshot()
    assert least <= error.value.retry_after <= most


def test_each_reason_is_logged_once_and_the_recovery_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="velib")
    failures = FailureLog()
    failures.recovered()
    for number, reason in enumerate(("refused", "refused", "no answer", "no answer")):
        failures.failed(FeedError(reason, "timeout", details=f" at {number} o'clock"))
    failures.recovered()
    failures.recovered()
    assert caplog.messages == [
        "refused at 0 o'clock. Retrying with increasing delays",
        "no answer at 2 o'clock. Retrying with increasing delays",
        "The feed is back after 0 s",
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>maintenance</html>", "is not JSON"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stat', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"", "is not JSON"),
        (b"[]", "no timestamp"),
        (b"null", "no timestamp"),
        (b'{"lastUpdatedOther": "1732004538", "data": {"stations": [{}]}}', "no timestamp"),
        (b'{"lastUpdatedOther": true, "data": {"stations": [{}]}}', "no timestamp"),
        (b'{"lastUpdatedOther": 1732004538.5, "data": {"stations": [{}]}}', "no timestamp"),
        (b'{"lastUpdatedOther": -1, "data": {"stations": [{}]}}', "no timestamp"),
        (b'{"lastUpdatedOther": 1732004538}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": []}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stations": []}}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stations": {"16107": 3}}}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stations": [1, 2]}}', "not objects"),
    ],
)
def test_an_answer_of_another_shape_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FeedError, match=reason) as error:
        parse(body)
    assert "\n" not in str(error.value)
    assert error.value.kind == "malformed"


def test_a_snapshot_of_next_year_is_refused_but_not_one_from_a_fast_clock() -> None:
    now = int(time.time())
    with pytest.raises(FeedError, match="in the future"):
        parse(json.dumps(feed(now + 365 * 86400, station())).encode())
    assert parse(json.dumps(feed(now + 60, station())).encode()).last_updated == now + 60


@pytest.mark.parametrize(
    ("api_clock", "verdict"),
    [
        (None, "This machine's clock may be wrong: the API does not send its own time"),
        (3 * 3600, "This machine's clock is wrong: the API's says {}"),
        (0, "The timestamp is wrong: the API's own clock says {}"),
    ],
)
def test_a_snapshot_from_the_future_is_refused_with_both_times_and_the_clock_that_is_wrong(
    api_clock: int | None, verdict: str
) -> None:
    """`api_clock`: the seconds by which the API's clock is ahead of this machine's."""
    now = int(time.time())
    body = json.dumps(feed(now + 3 * 3600, station())).encode()
    with pytest.raises(FeedError) as error:
        parse(body, None if api_clock is None else now + api_clock)
    text = str(error.value)
    assert text.startswith(f"The feed's timestamp is in the future: {local_time(now + 3 * 3600)},")
    assert re.search(rf"this machine's clock says ({local_time(now)}|{local_time(now + 1)})", text)
    assert text.endswith(verdict.format(local_time(now + (api_clock or 0))))


def test_a_time_stamp_in_milliseconds_is_refused_and_quoted() -> None:
    with pytest.raises(FeedError, match="in the future: 1732004538000, while"):
        parse(json.dumps(feed(1732004538000, station())).encode())


def test_the_time_of_the_api_comes_from_its_answer(server: str) -> None:
    in_three_hours = int(time.time()) + 3 * 3600
    with pytest.raises(FeedError, match="The timestamp is wrong: the API's own clock says"):
        _feed(f"{server}/at-{in_three_hours}").snapshot()


def test_one_bad_station_among_good_ones_does_not_stop_the_snapshot() -> None:
    stations = [station(), None, {"stationCode": None}]
    body = json.dumps({"lastUpdatedOther": 1732004538, "data": {"stations": stations}})
    assert parse(body.encode()) == Snapshot(1732004538, stations)


def test_a_stalled_feed_and_its_recovery_are_each_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", logger="velib")
    monkeypatch.setattr("velib.feed.watch.STALLED_AFTER", 0.2)
    watch = FeedWatch(Settings(stations="all"))
    old, same, new = (Snapshot(last_updated, [station()]) for last_updated in (60, 120, 180))
    watch.check(same)
    watch.check(same)
    assert caplog.messages == []
    while not caplog.messages:
        watch.check(same)
        watch.check(old)  # of a cache that lags behind
    watch.check(same)
    watch.check(new)
    watch.check(new)
    still, moves = caplog.messages
    assert still == f"The feed has had no new snapshot since {local_time(120)}"
    assert moves == "The feed is updating again after 0 s"


def test_a_feed_may_stall_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("velib.feed.watch.STALLED_AFTER", 0)
    watch = FeedWatch(Settings(stations="all"))
    for last_updated in (60, 60, 60, 120, 120, 120):
        watch.check(Snapshot(last_updated, [station()]))
    assert [message for message in caplog.messages if "no new" in message] == [
        f"The feed has had no new snapshot since {local_time(last_updated)}"
        for last_updated in (60, 120)
    ]


@pytest.mark.parametrize(
    ("before", "after", "is_warned_of"), [(1485, 1, True), (10, 4, True), (10, 5, False)]
)
def test_a_feed_that_has_lost_most_of_its_stations_is_logged_once(
    caplog: pytest.LogCaptureFixture, before: int, after: int, is_warned_of: bool
) -> None:
    watch = FeedWatch(Settings(stations="all"))
    for last_updated, count in ((60, before), (120, after), (120, after), (180, after)):
        watch.check(Snapshot(last_updated, [station()] * count))
    warning = (
        f"The feed has shrunk: snapshot {local_time(120)} has {after} stations,"
        f" the previous one had {before}. It is published as it is"
    )
    assert caplog.messages == [warning] * is_warned_of
