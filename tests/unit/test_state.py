"""What the pipeline's records mean for a page, and which part is found to have stopped."""

import json
from typing import Any

import pytest
from kafka.consumer.fetcher import ConsumerRecord

import config
from velib.page import health
from velib.page.health import Finding, Level
from velib.page.state import (
    DAY,
    MAX_SNAPSHOTS,
    PipelineState,
    Position,
    commonest_reason,
    parse_position,
    parse_station,
)
from velib.page.text import Words
from velib.totals.records import Counts

SNAPSHOT = 1_732_004_538
RAW, FINAL, DEAD, POSITIONS = (
    "velib-projet",
    "velib-projet-final-data",
    "velib-projet-dead-letters",
    "velib-projet-stations",
)


def record(topic: str, value: Any, offset: int = 0, at: float = SNAPSHOT, **fields: Any) -> Any:
    """A record as kafka-python returns it, written at a time (epoch seconds)."""
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
def state() -> PipelineState:
    return PipelineState(config.load().model_copy(update={"stations": config.ALL}))


def test_the_totals_of_the_newest_snapshot_are_summed(state: PipelineState) -> None:
    for number, bikes in enumerate((7, 11)):
        snapshot = SNAPSHOT + 60 * number
        state.add(record(FINAL, total("75001", snapshot, bikes, ebike=2, docks=5)))
        state.add(record(FINAL, total("75002", snapshot, 10, ebike=10, docks=1)))
    newest = state.newest_snapshot
    assert newest == SNAPSHOT + 60
    assert state.totals()["75001"] == Counts(1, 11, 9, 2, 5)
    assert state.sum(newest) == Counts(2, 21, 9, 12, 6)
    assert state.sum(SNAPSHOT) == Counts(2, 17, 5, 12, 6)
    assert state.interval() == 60


def test_a_repeated_total_counts_once_and_the_last_one_counts(state: PipelineState) -> None:
    for offset, bikes in enumerate((4, 4, 6)):
        state.add(record(FINAL, total("75001", SNAPSHOT, bikes), offset))
        assert state.sum(SNAPSHOT) == Counts(1, bikes, bikes, 0, 0)


def test_an_older_total_changes_neither_the_newest_nor_the_latest(state: PipelineState) -> None:
    state.add(record(FINAL, total("75001", SNAPSHOT, 5), 7))
    state.add(record(FINAL, total("75001", SNAPSHOT - 60, 9), 8))
    state.add(record(FINAL, total("75002", SNAPSHOT - 200_000, 9), 9))
    assert state.totals() == {"75001": Counts(1, 5, 5, 0, 0)}
    latest = {code: json.loads(value) for code, (_, _, value) in state.latest.items()}
    assert latest["75001"]["num_bikes_available"] == 5
    assert latest["75002"]["last_updated"] == SNAPSHOT - 200_000
    assert state.series("75001", 3600, SNAPSHOT) == [
        (SNAPSHOT - 60, Counts(1, 9, 9, 0, 0)),
        (SNAPSHOT, Counts(1, 5, 5, 0, 0)),
    ]


def test_one_day_is_remembered(state: PipelineState) -> None:
    times = range(SNAPSHOT - 3 * DAY, SNAPSHOT + 1, 120)
    for snapshot in times:
        state.add(record(FINAL, total("75001", snapshot, 1)))
    expected = [snapshot for snapshot in times if snapshot > SNAPSHOT - DAY]
    assert sorted(state.history) == expected
    for snapshot in range(SNAPSHOT + 1, SNAPSHOT + 5_000):
        state.add(record(FINAL, total("75001", snapshot, 1)))
    assert len(state.history) <= MAX_SNAPSHOTS + 1


def test_a_place_without_a_total_is_a_gap_in_its_series(state: PipelineState) -> None:
    state.add(record(FINAL, total("75001", SNAPSHOT, 5)))
    state.add(record(FINAL, total("75002", SNAPSHOT + 60, 5)))
    assert state.series("75001", 3600, SNAPSHOT + 60)[-1] == (SNAPSHOT + 60, None)
    assert [snapshot for snapshot, _ in state.series("", 30, SNAPSHOT + 60)] == [SNAPSHOT + 60]


def test_a_new_snapshot_replaces_the_stations_and_an_old_one_does_not(state: PipelineState) -> None:
    state.add(record(RAW, raw("16107", SNAPSHOT, bikes=2)))
    state.add(record(RAW, raw("32017", SNAPSHOT, renting=False)))
    state.add(record(RAW, raw("16107", SNAPSHOT + 60, bikes=0, renting=True)))
    state.add(record(RAW, raw("16107", SNAPSHOT, bikes=9)))
    assert list(state.stations) == ["16107"]
    assert state.stations["16107"].counts.num_bikes_available == 0
    assert state.stations["16107"].is_open


@pytest.mark.parametrize(
    "change",
    [
        {"num_bikes_available": "3"},
        {"num_bikes_available": -1},
        {"num_docks_available": None},
        {"num_docks_available": 2.5},
        {"num_docks_available": 2**31},
        {"is_renting": None},
        {"is_renting": 2},
        {"is_renting": "TRUE"},
        {"stationCode": None},
    ],
)
def test_a_station_whose_values_make_no_sense_is_not_shown(change: dict[str, Any]) -> None:
    assert parse_station(json.dumps(raw("16107", SNAPSHOT) | change).encode()) is None


@pytest.mark.parametrize("types", [None, [], [{"mechanical": None}]])
def test_a_kind_of_bikes_that_is_missing_or_null_is_zero_as_in_the_job(types: Any) -> None:
    station = parse_station(
        json.dumps(raw("16107", SNAPSHOT) | {"num_bikes_available_types": types}).encode()
    )
    assert station is not None
    assert station.counts.mechanical == station.counts.ebike == 0


@pytest.mark.parametrize("value", [None, b"", b"[]", b"\xff", b"[" * 100_000, b'{"lat": "x"}'])
def test_a_value_that_is_not_a_station_or_a_position_is_ignored(value: bytes | None) -> None:
    assert parse_station(value) is None
    assert parse_position(value) is None


def test_a_position_can_be_removed(state: PipelineState) -> None:
    entry = {"stationCode": "16107", "name": "<b>", "lat": 48.8, "lon": 2.3, "capacity": 35}
    state.add(record(POSITIONS, entry, key=b"16107"))
    assert state.positions["16107"] == Position("<b>", 48.8, 2.3, 35)
    state.add(record(POSITIONS, b"", key=b"16107"))
    assert state.positions == {}


def test_dead_letters_are_counted_once_each_by_their_reason(state: PipelineState) -> None:
    def dead_letter(offset: int, reason: bytes) -> Any:
        headers = [("reason", reason), ("topic", b"t"), ("partition", b"0")]
        return record(DEAD, b"x", headers=[*headers, ("offset", str(offset).encode())])

    for offset, reason in ((1, b"no code"), (2, b"bad"), (3, b"bad"), (3, b"bad")):
        state.add(dead_letter(offset, reason))
    letters = state.dead_letters_since(SNAPSHOT - 1)
    assert len(letters) == 3
    assert state.dead_letters_since(SNAPSHOT + 1) == []
    assert commonest_reason(letters) == "bad"


def test_the_records_that_wait_for_the_job_are_counted(state: PipelineState) -> None:
    for snapshot in (SNAPSHOT, SNAPSHOT + 60, SNAPSHOT + 120):
        for code in ("16107", "32017"):
            state.add(record(RAW, raw(code, snapshot)))
    assert state.waiting() == 6
    state.add(record(FINAL, total("75016", SNAPSHOT + 60, 1)))
    assert state.waiting() == 2
    state.set_status(is_kafka_up=True, producers=1, unread_backlog=100)
    assert state.waiting() == 102
    state.add(record(FINAL, total("75016", SNAPSHOT + 120, 1)))
    state.set_status(is_kafka_up=True, producers=1, unread_backlog=0)
    assert state.waiting() == 0


def test_an_outage_does_not_change_the_usual_interval(state: PipelineState) -> None:
    assert state.interval() == 60, "until there are two snapshots"
    for snapshot in (0, 60, 121, 180, 4000, 4060):  # an outage of an hour
        state.add(record(FINAL, total("75001", SNAPSHOT + snapshot, 1)))
    assert state.interval() == 60
    age = 190  # three minutes without a new snapshot are not "live"
    assert health.age_level(state, age) is Level.WARNING
    for snapshot in range(4070, 4130, 10):
        state.add(record(FINAL, total("75001", SNAPSHOT + snapshot, 1)))
    assert state.interval() == 10, "most of the last gaps"


# Which part has stopped: a pipeline that ran well until `SNAPSHOT + 60`.


@pytest.fixture
def running(state: PipelineState) -> PipelineState:
    for snapshot in (SNAPSHOT, SNAPSHOT + 60):
        state.add(record(RAW, raw("16107", snapshot), at=snapshot + 5))
        state.add(record(FINAL, total("75016", snapshot, 1), at=snapshot + 6))
    state.set_status(is_kafka_up=True, producers=1, unread_backlog=0)
    return state


def found(state: PipelineState, now: float) -> dict[str, Finding]:
    return {finding.part: finding for finding in health.findings(state, now)}


def levels(state: PipelineState, now: float) -> dict[str, Level]:
    return {part: finding.level for part, finding in found(state, now).items()}


def test_all_is_good_while_all_parts_run(running: PipelineState) -> None:
    assert set(levels(running, SNAPSHOT + 70).values()) == {Level.GOOD}


@pytest.mark.parametrize(
    ("producers", "age", "producer", "feed"),
    [
        (1, 170, Level.GOOD, Level.GOOD),
        (1, 190, Level.GOOD, Level.WARNING),
        (2, 700, Level.GOOD, Level.BAD),
        (0, 170, Level.WARNING, Level.GOOD),
        (0, 190, Level.BAD, Level.WARNING),
        (0, 700, Level.BAD, Level.WARNING),  # nothing has polled the feed
        (None, 170, Level.GOOD, Level.GOOD),
        (None, 700, Level.BAD, Level.BAD),
    ],
)
def test_a_feed_without_news_differs_from_a_producer_that_does_not_run(
    running: PipelineState, producers: int | None, age: int, producer: Level, feed: Level
) -> None:
    running.set_status(is_kafka_up=True, producers=producers, unread_backlog=0)
    now = SNAPSHOT + 60 + age
    assert levels(running, now) | {"producer": producer, "feed": feed} == levels(running, now)
    assert found(running, now)["job"].level is Level.GOOD


def test_the_number_of_producers_is_shown(running: PipelineState) -> None:
    now = SNAPSHOT + 70
    texts = {}
    for producers in (0, 1, 3, None):
        running.set_status(is_kafka_up=True, producers=producers, unread_backlog=0)
        finding = found(running, now)["producer"]
        texts[producers] = health.sentence(finding, Words("en"), now)
    assert texts == {
        0: "not running",
        1: "running, published 5 s ago",
        3: "3 running, published 5 s ago",
        None: "published 5 s ago",
    }


def test_a_job_that_leaves_records_waiting_has_stalled(running: PipelineState) -> None:
    running.add(record(RAW, raw("16107", SNAPSHOT + 120), at=SNAPSHOT + 125))
    assert levels(running, SNAPSHOT + 130)["job"] is Level.GOOD
    job = found(running, SNAPSHOT + 150)["job"]
    assert job.level is Level.BAD
    assert job.values == {"records": 1, "since": health.Time(SNAPSHOT + 125)}
    assert health.worst(health.findings(running, SNAPSHOT + 150)).part == "job"


def test_a_kafka_that_is_away_hides_the_others(running: PipelineState) -> None:
    running.set_status(is_kafka_up=False, producers=None, unread_backlog=0)
    level = levels(running, SNAPSHOT + 70)
    assert level["kafka"] is Level.BAD
    assert {level[part] for part in ("feed", "producer", "job")} == {Level.WARNING}
