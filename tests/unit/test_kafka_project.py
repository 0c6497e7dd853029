"""The producer's checks of the feed, without Kafka."""

import json
import time

import pytest

from kafka_project import FeedError, Snapshot, check
from tests.expected import feed, station


def test_a_good_feed_is_a_snapshot_with_its_stations_as_they_came() -> None:
    body = json.dumps(feed(1732004538, station("16107"), station("6015", station_opening_hours=None))).encode()
    snapshot = check(body)
    assert snapshot.last_updated == 1732004538
    assert snapshot.stations == [station("16107"), station("6015", station_opening_hours=None)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>maintenance</html>", "something else than JSON"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stat', "something else than JSON"),
        (b"\xff\xfe", "something else than JSON"),
        (b"[" * 100_000, "something else than JSON"),
        (b"", "something else than JSON"),
        (b"[]", "no time stamp"),
        (b"null", "no time stamp"),
        (b'{"lastUpdatedOther": "1732004538", "data": {"stations": [{}]}}', "no time stamp"),
        (b'{"lastUpdatedOther": true, "data": {"stations": [{}]}}', "no time stamp"),
        (b'{"lastUpdatedOther": 1732004538.5, "data": {"stations": [{}]}}', "no time stamp"),
        (b'{"lastUpdatedOther": -1, "data": {"stations": [{}]}}', "no time stamp"),
        (b'{"lastUpdatedOther": 1732004538}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": []}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stations": []}}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stations": {"16107": 3}}}', "no stations"),
        (b'{"lastUpdatedOther": 1732004538, "data": {"stations": [1, 2]}}', "no objects"),
    ],
)
def test_another_answer_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FeedError, match=reason) as error:
        check(body)
    assert "\n" not in str(error.value)


def test_a_snapshot_of_next_year_is_refused_and_one_of_a_slow_clock_is_not() -> None:
    with pytest.raises(FeedError, match="in the future"):
        check(json.dumps(feed(int(time.time()) + 365 * 86400, station())).encode())
    assert check(json.dumps(feed(int(time.time()) + 60, station())).encode())


def test_one_bad_station_among_good_ones_does_not_stop_the_snapshot() -> None:
    body = json.dumps({"lastUpdatedOther": 1732004538, "data": {"stations": [station(), None, {"stationCode": None}]}})
    assert check(body.encode()) == Snapshot(1732004538, [station(), None, {"stationCode": None}])
