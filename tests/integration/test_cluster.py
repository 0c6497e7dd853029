"""What is different on clusters: a raw topic of several partitions."""

import json
import time

from kafka import KafkaAdminClient

from local.day import Day
from tests import expected
from tests.in_process import RunJob
from tests.pipeline import Pipeline
from velib.kafka import topics

PARTITIONS = 3  # of the raw topic
STATIONS = 40


def test_the_last_total_of_a_snapshot_that_comes_in_pieces_is_right(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    raw_topic = {"num_partitions": PARTITIONS, "replication_factor": 1}
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({pipeline.settings.raw_topic: raw_topic})
    topics.ensure(pipeline.settings)
    feed = Day(STATIONS).status(int(time.time()))
    records = [
        (
            station["stationCode"].encode(),
            json.dumps(station | {"last_updated": feed["lastUpdatedOther"]}).encode(),
        )
        for station in feed["data"]["stations"]
    ]

    pipeline.write(pipeline.settings.raw_topic, *records[::2])
    run_job(VELIB_SHUFFLE_PARTITIONS="2")
    part = feed | {"data": {"stations": feed["data"]["stations"][::2]}}
    assert pipeline.totals() == expected.totals(part)

    pipeline.write(pipeline.settings.raw_topic, *records[1::2])
    run_job()
    assert pipeline.totals() == expected.totals(feed)
    state = pipeline.folder / "checkpoint" / "state" / "0"
    assert {path.name for path in state.iterdir()} == {"0", "1", "_metadata"}
