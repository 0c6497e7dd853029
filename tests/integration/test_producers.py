"""Several producers on one feed: each snapshot is published once, whatever happens to them."""

import json
import signal
import time
from collections import Counter

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from local.day import Day
from local.security import PRODUCER
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until
from velib.kafka import raw_topic
from velib.runtime import local_time

UNKNOWN = "Unhandled error in EndTxnResponse: [Error -1] UnknownError"
"""What Kafka rarely answers to the commit of a producer that is just being fenced. Whether it has
committed is not known then, so the producer warns, and looks into the topic again.
"""


def _counts(pipeline: Pipeline) -> Counter[tuple[str, int]]:
    """How often each station of each snapshot is in the raw topic."""
    stations = [json.loads(record.value) for record in pipeline.raw()]
    return Counter((each["stationCode"], each["last_updated"]) for each in stations)


def test_three_producers_publish_each_snapshot_once_even_when_one_is_killed(
    pipeline: Pipeline,
) -> None:
    pipeline.simulate(Day(200, period=1))
    pipeline.environment["VELIB_POLL_SECONDS"] = "0.6"
    producers = [pipeline.start("kafka_project.py") for _ in range(3)]
    wait_until(lambda: len(pipeline.published()) >= 4, "the first snapshots")
    producers[0].kill()
    killed_at = max(pipeline.published())
    wait_until(lambda: max(pipeline.published()) > killed_at + 4, "snapshots after the kill")
    for producer in producers[1:]:
        assert producer.stop() == 0
        warnings = [line for line in producer.log().splitlines() if "Kafka failed" in line]
        assert [line for line in warnings if UNKNOWN not in line] == [], "a lost race is no failure"
    assert set(_counts(pipeline).values()) == {1}
    assert {len(stations) for stations in pipeline.published().values()} == {200}


def test_a_suspended_producer_neither_publishes_an_old_snapshot_nor_repeats_one(
    pipeline: Pipeline,
) -> None:
    now = int(time.time())
    api = pipeline.serve_api()
    api.put(feed(now, station()))
    suspended = pipeline.start("kafka_project.py")
    suspended.wait_for("Published 1 stations")
    suspended.process.send_signal(signal.SIGSTOP)
    other = pipeline.start("kafka_project.py")
    for snapshot in (now + 1, now + 2):
        api.put(feed(snapshot, station()))
        other.wait_for(f"snapshot of {local_time(snapshot)}")
    suspended.process.send_signal(signal.SIGCONT)
    api.put(feed(now + 3, station()))
    wait_until(lambda: now + 3 in pipeline.published(), "the last snapshot")
    assert [suspended.stop(), other.stop()] == [0, 0]
    assert [record.offset for record in pipeline.raw()] == sorted(r.offset for r in pipeline.raw())
    assert [json.loads(record.value)["last_updated"] for record in pipeline.raw()] == [
        now,
        now + 1,
        now + 2,
        now + 3,
    ]


def test_positions_that_kafka_refuses_stop_no_snapshot_and_are_one_line(
    pipeline: Pipeline,
) -> None:
    pipeline.simulate(Day(10, period=1))
    with KafkaAdminClient(**pipeline.client) as admin:
        pattern = ResourcePattern(ResourceType.TOPIC, pipeline.settings.station_topic)
        deny = ACLPermissionType.DENY
        admin.create_acls([ACL(f"User:{PRODUCER}", "*", ACLOperation.WRITE, deny, pattern)])
    producer = pipeline.start("kafka_project.py")
    wait_until(lambda: len(pipeline.published()) >= 3, "three snapshots")
    producer.wait_for("The stations' positions, which only maps need, were not published")
    assert producer.stop() == 0


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_topic_that_kafka_recompresses_is_read(codec: str, pipeline: Pipeline) -> None:
    raw = pipeline.settings.raw_topic
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({raw: {"configs": {"compression.type": codec}}})
    stations = [station(str(code)) | {"last_updated": 1732004538} for code in range(3_000)]
    pipeline.write(raw, *[(b"key", json.dumps(each).encode()) for each in stations])
    assert [json.loads(record.value) for record in pipeline.raw()] == stations
    assert raw_topic.newest_snapshot(pipeline.settings) == 1732004538
