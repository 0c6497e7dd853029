"""What the pipeline's records mean for a page, and which part is found to stand still."""

import json
import time
from typing import Any

import pytest
from kafka.consumer.fetcher import ConsumerRecord

import config
from velib.last_poll import LastPoll
from velib.page import health, state
from velib.page.health import Level
from velib.page.state import Counts, Live

SNAPSHOT = 1_732_004_538
RAW, FINAL, DEAD, POSITIONS = (
    "velib-projet",
    "velib-projet-final-data",
    "velib-projet-dead-letters",
    "velib-projet-stations",
)


def record(topic: str, value: Any, offset: int = 0, at: float = SNAPSHOT, **fields: Any) -> Any:
    """A record as kafka-python gives it, written at a time (epoch seconds)."""
    as_stored = value if isinstance(value, bytes) else json.dumps(value).encode()
    empty = dict.fromkeys(ConsumerRecord._fields) | {"headers": []}
    own = {"topic": topic, "value": as_stored, "offset": offset, "timestamp": int(at * 1000)}
    return ConsumerRecord(**(empty | own | fields))


def total(postal_code: str, snapshot: int, bikes: int, ebike: int = 0, docks: int = 0) -> Any:
    return {
        "postal_code": postal_code,
        "last_updated": snapshot,
        "stations": 1,
        "num_bikes_available": bikes,
        "mechanical": bikes - ebike,
        "ebike": ebike,
        "num_docks_available": docks,
    }


def raw(code: str, snapshot: int, bikes: int = 3, docks: int = 4, renting: Any = 1) -> Any:
    return {
        "stationCode": code,
        "last_updated": snapshot,
        "is_installed": 1,
        "is_renting": renting,
        "num_bikes_available": bikes,
        "num_bikes_available_types": [{"mechanical": bikes}, {"ebike": 0}],
        "num_docks_available": docks,
    }


@pytest.fixture
def live() -> Live:
    return Live(config.load().model_copy(update={"stations": config.ALL}))


def test_the_totals_of_the_newest_snapshot_are_summed(live: Live) -> None:
    for number, bikes in enumerate((7, 11)):
        snapshot = SNAPSHOT + 60 * number
        live.add(record(FINAL, total("75001", snapshot, bikes, ebike=2, docks=5)))
        live.add(record(FINAL, total("75002", snapshot, 10, ebike=10, docks=1)))
    newest = live.newest_snapshot
    assert newest == SNAPSHOT + 60
    assert live.totals()["75001"] == Counts(1, 11, 9, 2, 5)
    assert live.sum(newest) == Counts(2, 21, 9, 12, 6)
    assert live.sum(live.previous_snapshot()) == Counts(2, 17, 5, 12, 6)
    assert live.interval() == 60


def test_a_repeated_total_counts_once_and_the_last_one_counts(live: Live) -> None:
    for offset, bikes in enumerate((4, 4, 6)):
        live.add(record(FINAL, total("75001", SNAPSHOT, bikes), offset))
        assert live.sum(SNAPSHOT) == Counts(1, bikes, bikes, 0, 0)


def test_an_older_total_changes_neither_the_newest_nor_the_latest(live: Live) -> None:
    live.add(record(FINAL, total("75001", SNAPSHOT, 5), 7))
    live.add(record(FINAL, total("75001", SNAPSHOT - 60, 9), 8))
    live.add(record(FINAL, total("75002", SNAPSHOT - 200_000, 9), 9))
    assert live.totals() == {"75001": Counts(1, 5, 5, 0, 0)}
    latest = {code: json.loads(value) for code, (_, _, value) in live.latest.items()}
    assert latest["75001"]["num_bikes_available"] == 5
    assert latest["75002"]["last_updated"] == SNAPSHOT - 200_000
    assert live.series("75001", 3600) == [
        (SNAPSHOT - 60, Counts(1, 9, 9, 0, 0)),
        (SNAPSHOT, Counts(1, 5, 5, 0, 0)),
    ]


def test_a_day_is_remembered_and_no_more(live: Live) -> None:
    times = range(SNAPSHOT - 3 * state.DAY, SNAPSHOT + 1, 120)
    for snapshot in times:
        live.add(record(FINAL, total("75001", snapshot, 1)))
    expected = [snapshot for snapshot in times if snapshot > SNAPSHOT - state.DAY]
    assert sorted(live.history) == expected
    for snapshot in range(SNAPSHOT + 1, SNAPSHOT + 5_000):
        live.add(record(FINAL, total("75001", snapshot, 1)))
    assert len(live.history) <= state.MAX_SNAPSHOTS + 1


def test_a_place_without_a_total_is_a_gap_in_its_series(live: Live) -> None:
    live.add(record(FINAL, total("75001", SNAPSHOT, 5)))
    live.add(record(FINAL, total("75002", SNAPSHOT + 60, 5)))
    assert live.series("75001", 3600)[-1] == (SNAPSHOT + 60, None)
    assert [snapshot for snapshot, _ in live.series("", 30)] == [SNAPSHOT + 60]


def test_a_new_snapshot_replaces_the_stations_and_an_old_one_does_not(live: Live) -> None:
    live.add(record(RAW, raw("16107", SNAPSHOT, bikes=2)))
    live.add(record(RAW, raw("32017", SNAPSHOT, renting=False)))
    live.add(record(RAW, raw("16107", SNAPSHOT + 60, bikes=0, renting=True)))
    live.add(record(RAW, raw("16107", SNAPSHOT, bikes=9)))
    assert list(live.stations) == ["16107"]
    assert live.stations["16107"].num_bikes_available == 0
    assert live.stations["16107"].is_open


@pytest.mark.parametrize(
    "change",
    [
        {"num_bikes_available": "3"},
        {"num_bikes_available": -1},
        {"num_bikes_available_types": None},
        {"num_docks_available": None},
        {"num_docks_available": 2.5},
    ],
)
def test_a_station_whose_numbers_make_no_sense_is_not_shown(change: dict[str, Any]) -> None:
    assert state.parse_station(json.dumps(raw("16107", SNAPSHOT) | change).encode()) is None


@pytest.mark.parametrize("value", [None, b"", b"[]", b"\xff", b"[" * 100_000, b'{"lat": "x"}'])
def test_what_is_no_station_and_no_position_is_ignored(value: bytes | None) -> None:
    assert state.parse_station(value) is None
    assert state.parse_position(value) is None


def test_a_position_can_be_taken_back(live: Live) -> None:
    entry = {"stationCode": "16107", "name": "<b>", "lat": 48.8, "lon": 2.3, "capacity": 35}
    live.add(record(POSITIONS, entry, key=b"16107"))
    assert live.positions["16107"] == state.Position("<b>", 48.8, 2.3, 35)
    live.add(record(POSITIONS, b"", key=b"16107"))
    assert live.positions == {}


def test_dead_letters_are_counted_once_each_by_their_reason(live: Live) -> None:
    def dead_letter(offset: int, reason: bytes) -> Any:
        headers = [("reason", reason), ("topic", b"t"), ("partition", b"0")]
        return record(DEAD, b"x", headers=[*headers, ("offset", str(offset).encode())])

    for offset, reason in ((1, b"no code"), (2, b"bad"), (3, b"bad"), (3, b"bad")):
        live.add(dead_letter(offset, reason))
    letters = live.dead_letters_since(SNAPSHOT - 1)
    assert len(letters) == 3
    assert live.dead_letters_since(SNAPSHOT + 1) == []
    assert state.commonest_reason(letters) == "bad"


def test_what_waits_for_the_job_is_counted(live: Live) -> None:
    for snapshot in (SNAPSHOT, SNAPSHOT + 60, SNAPSHOT + 120):
        for code in ("16107", "32017"):
            live.add(record(RAW, raw(code, snapshot)))
    assert live.waiting() == 6
    live.add(record(FINAL, total("75016", SNAPSHOT + 60, 1)))
    assert live.waiting() == 2
    live.note(True, None, 100)
    assert live.waiting() == 102
    live.add(record(FINAL, total("75016", SNAPSHOT + 120, 1)))
    live.note(True, None, 0)
    assert live.waiting() == 0


# What is found when a part stands still: a pipeline that ran well until `SNAPSHOT + 60`.


@pytest.fixture
def running(live: Live) -> Live:
    for snapshot in (SNAPSHOT, SNAPSHOT + 60):
        live.add(record(RAW, raw("16107", snapshot), at=snapshot + 5))
        live.add(record(FINAL, total("75016", snapshot, 1), at=snapshot + 6))
    live.note(True, LastPoll(SNAPSHOT + 65, SNAPSHOT + 125, ""), 0)
    return live


def levels(live: Live, now: float) -> dict[str, Level]:
    return {finding.part: finding.level for finding in health.findings(live, now)}


def test_all_is_good_while_all_parts_run(running: Live) -> None:
    assert set(levels(running, SNAPSHOT + 70).values()) == {Level.GOOD}


def test_a_producer_that_is_overdue_stands_still(running: Live) -> None:
    found = levels(running, SNAPSHOT + 300)
    assert found["producer"] is Level.BAD
    assert found["feed"] is Level.WARNING  # nobody has looked
    assert found["job"] is Level.GOOD


def test_a_feed_without_news_stands_still_first_amber_then_red(running: Live) -> None:
    for age, level in ((170, Level.GOOD), (190, Level.WARNING), (700, Level.BAD)):
        now = SNAPSHOT + 60 + age
        running.note(True, LastPoll(now - 2, now + 5, ""), 0)
        assert levels(running, now)["feed"] is level
        assert levels(running, now)["producer"] is Level.GOOD


def test_a_feed_that_cannot_be_read_is_named_with_the_error(running: Live) -> None:
    now = SNAPSHOT + 70
    running.note(True, LastPoll(now, now + 5, "The API refuses: 500"), 0)
    (feed,) = [f for f in health.findings(running, now) if f.part == "feed"]
    assert feed.level is Level.BAD
    assert feed.values["error"] == "The API refuses: 500"


def test_a_job_that_leaves_records_waiting_stands_still(running: Live) -> None:
    running.add(record(RAW, raw("16107", SNAPSHOT + 120), at=SNAPSHOT + 125))
    running.note(True, LastPoll(SNAPSHOT + 140, SNAPSHOT + 170, ""), 0)
    assert levels(running, SNAPSHOT + 130)["job"] is Level.GOOD
    (job,) = [f for f in health.findings(running, SNAPSHOT + 150) if f.part == "job"]
    assert job.level is Level.BAD
    assert job.values == {"records": 1, "since_at": SNAPSHOT + 125}
    assert health.worst(health.findings(running, SNAPSHOT + 150)).part == "job"


def test_a_kafka_that_is_away_hides_the_others(running: Live) -> None:
    running.note(False, running.last_poll, 0)
    found = levels(running, SNAPSHOT + 70)
    assert found["kafka"] is Level.BAD
    assert {found[part] for part in ("feed", "producer", "job")} == {Level.WARNING}


def test_a_snapshot_of_long_ago_is_old(live: Live) -> None:
    live.add(record(RAW, raw("16107", SNAPSHOT), at=time.time()))
    live.add(record(FINAL, total("75016", SNAPSHOT, 1), at=time.time()))
    live.note(True, LastPoll(time.time(), time.time() + 5, ""), 0)
    assert levels(live, time.time())["feed"] is Level.BAD
