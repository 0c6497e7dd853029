"""The topics' configuration, and the snapshot that a raw record is of, without Kafka."""

import json
import time

import pytest
from kafka.consumer.fetcher import ConsumerRecord

import config
from velib.kafka import topics
from velib.kafka.raw_topic import snapshot_of

DAY_MS = 86_400_000


def test_raw_records_are_kept_for_a_week_and_dead_letters_for_a_month() -> None:
    configurations = topics.configurations(config.load())
    assert int(configurations["velib-projet"]["retention.ms"]) == 7 * DAY_MS
    assert int(configurations["velib-projet-dead-letters"]["retention.ms"]) == 30 * DAY_MS


def test_the_newest_total_of_a_postal_code_is_kept_permanently_and_all_for_a_week() -> None:
    final = topics.configurations(config.load())["velib-projet-final-data"]
    assert final["cleanup.policy"] == "compact"
    assert int(final["min.compaction.lag.ms"]) == 7 * DAY_MS
    assert "retention.ms" not in final


def test_the_newest_position_of_a_station_is_kept_permanently() -> None:
    stations = topics.configurations(config.load())["velib-projet-stations"]
    assert stations == {"cleanup.policy": "compact"}


def test_a_dead_letter_may_be_larger_than_the_largest_raw_record() -> None:
    configurations = topics.configurations(config.load())
    kafkas_default = 1024 * 1024 + 12
    assert "max.message.bytes" not in configurations["velib-projet"]
    assert int(configurations["velib-projet-dead-letters"]["max.message.bytes"]) > kafkas_default


@pytest.mark.parametrize(
    ("value", "snapshot"),
    [
        (b'{"stationCode": "16107", "last_updated": 1732004538}', 1732004538),
        (b'{"stationCode": "16107"}', 0),
        (b'{"last_updated": "1732004538"}', 0),
        (b'{"last_updated": 1732004538.5}', 0),
        (b'{"last_updated": true}', 0),
        (b'{"last_updated": -1}', 0),
        (b"[1732004538]", 0),
        (b"1732004538", 0),
        (b"\xff", 0),
        (b"[" * 100_000, 0),
        (b"", 0),
        (None, 0),
    ],
)
def test_the_snapshot_of_a_raw_record_is_0_if_it_has_none(
    value: bytes | None, snapshot: int
) -> None:
    assert snapshot_of(_record(value)) == snapshot


def test_a_snapshot_from_the_future_is_ignored_but_not_one_from_a_fast_clock() -> None:
    now = int(time.time())
    for last_updated, snapshot in ((now + 60, now + 60), (now + 86_400, 0)):
        value = json.dumps({"last_updated": last_updated}).encode()
        assert snapshot_of(_record(value)) == snapshot


def _record(value: bytes | None) -> ConsumerRecord:
    fields = dict.fromkeys(ConsumerRecord._fields)
    return ConsumerRecord(**fields | {"value": value})
