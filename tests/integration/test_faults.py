"""Kafka dies, a topic is recreated or cut, a checkpoint does not fit: the totals stay right."""

import json
import shutil
import time
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from local.broker import free_port
from local.day import Day
from tests.expected import feed, simulated_totals, station
from tests.in_process import RunJob
from tests.pipeline import Api, Pipeline, recorded, wait_until
from velib.errors import Failure
from velib.kafka import raw_topic


def _publish(pipeline: Pipeline, api: Api, *snapshots: tuple[int, int]) -> None:
    """Publish snapshots of two stations, given as time and mechanical bikes of each station."""
    for last_updated, bikes in snapshots:
        api.put(feed(last_updated, station("16107", bikes), station("16108", bikes)))
        pipeline.publish_once()


def _sums(pipeline: Pipeline) -> dict[int, int]:
    """The mechanical bikes of each snapshot in the final topic."""
    return {snapshot: total["mechanical"] for (_, snapshot), total in pipeline.totals().items()}


def _recorded(pipeline: Pipeline) -> dict[int, dict[str, Any]]:
    """The answers of the API in the folder `history`, by their time."""
    answers = map(json.loads, recorded(pipeline.folder / "history"))
    return {answer["lastUpdatedOther"]: answer for answer in answers}


def test_every_script_outlives_a_broker_that_is_killed_and_comes_back(pipeline: Pipeline) -> None:
    pipeline.use(f"localhost:{free_port()}")
    broker = pipeline.start_broker()
    day = Day(300, period=2)
    pipeline.simulate(day)
    producer = pipeline.start("kafka_project.py", "--record", "history")
    job = pipeline.start("spark.py", VELIB_STATIONS="all")
    consumer = pipeline.start("consumer.py", "--json", "--from-beginning")
    wait_until(consumer.printed, "totals before")
    broker.kill()
    producer.wait_for("Waiting for Kafka at")
    consumer.wait_for("does not answer: waiting for it")
    killed = time.time()
    wait_until(lambda: max(_recorded(pipeline)) > killed, "a snapshot is recorded without Kafka")
    pipeline.start_broker()
    back = int(time.time())
    consumer.wait_for("Kafka answers again")
    wait_until(
        lambda: json.loads(consumer.printed()[-1])["last_updated"] > back, "totals after", 180
    )
    assert producer.stop() == 0
    expected_totals = simulated_totals(day, pipeline.published())
    wait_until(lambda: pipeline.totals().keys() >= expected_totals.keys(), "all totals", 180)
    assert pipeline.totals() == expected_totals
    wait_until(lambda: len(consumer.printed()) >= len(expected_totals), "everything is printed")
    printed = consumer.printed_totals()
    assert {
        (total["postal_code"], total["last_updated"]) for total in printed
    } == expected_totals.keys()
    assert len(printed) == len(expected_totals), "a total was printed again"
    assert job.stop() == 0
    answers = _recorded(pipeline)
    assert answers.keys() >= pipeline.published().keys()
    assert answers == {snapshot: day.status(snapshot) for snapshot in answers}


def test_the_checkpoint_of_a_topic_that_was_recreated_is_refused_and_can_be_reset(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    now = int(time.time())
    api = pipeline.serve_api()
    _publish(pipeline, api, (now - 120, 3))
    run_job()
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.delete_topics([pipeline.settings.raw_topic])
    # More records than before: the offsets alone would fit.
    _publish(pipeline, api, (now - 60, 4), (now, 5))
    with pytest.raises(Failure, match=r"does not fit the topic .*type: python spark\.py --reset-"):
        run_job()
    notes = pipeline.folder / "checkpoint" / "notes.txt"
    notes.touch()
    unanswered = pipeline.start("spark.py", "--reset-checkpoint")
    assert unanswered.end() == 1
    assert "add --yes" in unanswered.log()
    run_job(reset_checkpoint=True)
    assert _sums(pipeline) == {now - 120: 6, now - 60: 8, now: 10}
    assert notes.exists(), "only Spark's files are deleted"


def test_a_checkpoint_of_other_counts_is_refused(pipeline: Pipeline, run_job: RunJob) -> None:
    _publish(pipeline, pipeline.serve_api(), (int(time.time()), 3))
    run_job()
    counts = pipeline.folder / "checkpoint" / "counts"
    counts.write_text(counts.read_text().replace("ebike", "cargo"))
    counts.with_name(".counts.crc").unlink()  # Hadoop's own check of the file
    with pytest.raises(Failure, match="the job has changed what it counts"):
        run_job()


def test_a_checkpoint_that_retention_has_passed_is_refused_and_a_cut_snapshot_is_not_counted(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    now = int(time.time())
    api = pipeline.serve_api()
    _publish(pipeline, api, (now - 180, 3))
    run_job()
    _publish(pipeline, api, (now - 120, 4), (now - 60, 5))
    stations = [
        record.offset
        for record in pipeline.raw()
        if json.loads(record.value)["last_updated"] == now - 120
    ]
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.delete_records({TopicPartition(pipeline.settings.raw_topic, 0): stations[1]})
    with pytest.raises(Failure, match="does not fit the topic"):
        run_job()
    # As a job leaves its checkpoint that crashes before its first batch.
    checkpoint = pipeline.folder / "checkpoint"
    shutil.rmtree(checkpoint)
    (checkpoint / "offsets").mkdir(parents=True)
    (checkpoint / "topic-id").touch()
    assert "has lost its oldest records" in run_job()
    # Of two stations of the cut snapshot one is left: no total is better than a wrong one.
    assert _sums(pipeline) == {now - 180: 6, now - 60: 10}


@pytest.mark.parametrize(
    ("cuts", "first_whole"),
    [
        ((0, 0), (0, 0)),  # nothing is lost
        ((1, 0), (2, 2)),  # one partition has lost a part of snapshot 100
        ((2, 0), (4, 4)),  # it has lost all of 100: its oldest, 160, may be cut
        ((1, 3), (4, 4)),  # the other one has lost a part of 160
        ((3, 6), (6, 6)),  # the other one has lost everything: any snapshot may be cut
    ],
)
def test_a_job_without_a_checkpoint_starts_after_the_snapshot_that_may_have_lost_records(
    pipeline: Pipeline, cuts: tuple[int, int], first_whole: tuple[int, int]
) -> None:
    topic = pipeline.settings.raw_topic
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({topic: {"num_partitions": 2}})
        with KafkaProducer(**pipeline.client) as producer:
            for snapshot in (100, 100, 160, 160, 220, 220):  # at offsets 0 to 5 of each partition
                for partition in (0, 1):
                    value = json.dumps({"last_updated": snapshot}).encode()
                    producer.send(topic, value, partition=partition).get(timeout=30)
        admin.delete_records({TopicPartition(topic, n): offset for n, offset in enumerate(cuts)})
    assert raw_topic.first_offsets(pipeline.settings) == dict(enumerate(first_whole))


def test_a_dead_letter_is_one_line_of_the_jobs_log(pipeline: Pipeline, run_job: RunJob) -> None:
    stations = (station("16107"), station("99999"))
    pipeline.serve_api().put(feed(int(time.time()), *stations))
    pipeline.publish_once()
    job_log = run_job()
    assert "1 dead letter: stationCode without a postal code" in job_log
    assert "Nothing could be counted" not in job_log
