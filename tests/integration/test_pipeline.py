"""The real scripts on a real Kafka: the totals are the plain sums over the snapshots."""

import json
import time
from functools import partial

from local.day import Day
from tests.expected import feed, simulated_totals, station
from tests.in_process import RunJob, Start
from tests.pipeline import Pipeline, wait_until
from velib.kafka import topics
from velib.runtime import local_time


def test_the_totals_of_every_snapshot_equal_the_plain_sums(
    pipeline: Pipeline, run_job: RunJob, start: Start
) -> None:
    day = Day(period=2)
    pipeline.simulate(day)
    producer = pipeline.start("kafka_project.py")
    wait_until(lambda: len(pipeline.published()) >= 3, "three snapshots")
    assert producer.stop() == 0
    run_job()
    expected_totals = simulated_totals(day, pipeline.published())
    assert pipeline.totals() == expected_totals
    assert len({postal_code for postal_code, _ in expected_totals}) == 87
    consumer = start("--json", "--from-beginning", "--max-messages", str(len(expected_totals)))
    printed = consumer.end().printed_totals()
    assert {
        (total["postal_code"], total["last_updated"]): total for total in printed
    } == expected_totals


def test_two_snapshots_do_not_add_up_and_an_unchanged_or_older_feed_publishes_nothing(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    now = int(time.time())
    api = pipeline.serve_api()
    api.put(feed(now, station("16107", 3), station("32017", 5), station("6015", 9)))
    producer = pipeline.start("kafka_project.py")
    producer.wait_for("Published")
    polls = api.requests() + 12
    wait_until(lambda: api.requests() >= polls, "a dozen polls of the unchanged feed")
    api.put(feed(now - 60, station("16107", 100)))
    producer.wait_for("is already published")
    api.put(feed(now + 1, station("16107", 4), station("32017", 6), station("6015", 9)))
    wait_until(lambda: len(pipeline.raw()) == 6, "the new snapshot")
    assert producer.stop() == 0
    run_job(VELIB_STATIONS="16107,32017")
    totals = pipeline.totals()
    assert {key: total["mechanical"] for key, total in totals.items()} == {
        ("75016", now): 3,
        ("93200", now): 5,
        ("75016", now + 1): 4,
        ("93200", now + 1): 6,
    }


def test_records_are_keyed_by_station_and_postal_code_and_are_as_the_feed_has_them(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    now = int(time.time())
    api = pipeline.serve_api()
    api.put(feed(now, station("16107", new_field=None), station("11031_relais")))
    pipeline.publish_once()
    assert [(record.key, json.loads(record.value)) for record in pipeline.raw()] == [
        (b"16107", station("16107", new_field=None) | {"last_updated": now}),
        (b"11031_relais", station("11031_relais") | {"last_updated": now}),
    ]
    again = pipeline.start("kafka_project.py", "--once")
    assert again.end() == 0
    assert "is already published" in again.log()
    run_job()
    records = pipeline.records(pipeline.settings.final_topic)
    assert {record.key for record in records} == {b"75016", b"75011"}
    assert list(json.loads(records[0].value)) == [
        "postal_code",
        "last_updated",
        "stations",
        "num_bikes_available",
        "mechanical",
        "ebike",
        "num_docks_available",
    ]


def test_a_snapshot_of_a_producer_killed_in_its_transaction_is_published_whole_by_the_next_one(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    day, now = Day(15_000), int(time.time())  # so many stations that the transaction takes its time
    answer = day.status(now)
    pipeline.serve_api().put(answer)
    topics.ensure(pipeline.settings)
    victim = pipeline.start("kafka_project.py")
    wait_until(pipeline.end_of_raw_topic, "the first records of the transaction")
    victim.kill()
    begun = len(pipeline.records(pipeline.settings.raw_topic, committed=False))
    assert 0 < begun < day.stations, "the producer was not killed in the middle"
    assert pipeline.raw() == []

    pipeline.publish_once()
    run_job()
    whole = [each | {"last_updated": now} for each in answer["data"]["stations"]]
    assert pipeline.published() == {now: whole}
    assert pipeline.totals() == simulated_totals(day, [now])


def test_a_record_that_cannot_be_counted_is_a_dead_letter_and_stops_nothing(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    api = pipeline.serve_api()
    stations = (station("16107", 3), station("99999", 5), {"stationCode": None})
    api.put(feed(int(time.time()), *stations))
    pipeline.publish_once()
    hostile = ((b"16107", None), (None, b"\xff" * 900_000), (b"x", b"[1]"))
    pipeline.write(pipeline.settings.raw_topic, *hostile)
    job_log = run_job()
    assert "6 records in" in job_log
    assert "5 dead letters, most of them: " in job_log
    assert [total["mechanical"] for total in pipeline.totals().values()] == [3]
    originals = {str(record.offset).encode(): record for record in pipeline.raw()}
    dead_letters = pipeline.dead_letters()
    by_offset = {dict(record.headers)["offset"]: record for record in dead_letters}
    assert len(dead_letters) == len(by_offset) == 5
    for offset, record in by_offset.items():
        assert (record.key, record.value) == (originals[offset].key, originals[offset].value)
        headers = dict(record.headers)
        assert headers["topic"] == pipeline.settings.raw_topic.encode()
        assert headers["partition"] == b"0"
        assert headers["reason"]


def _snapshots_of_dead_letters(pipeline: Pipeline) -> list[int]:
    return [json.loads(record.value)["last_updated"] for record in pipeline.dead_letters()]


def test_totals_and_dead_letters_that_a_killed_job_has_not_written_are_written_by_the_next(
    pipeline: Pipeline, run_job: RunJob
) -> None:
    now = int(time.time())
    api = pipeline.serve_api()
    pipeline.start("kafka_project.py")
    job = pipeline.start("spark.py", VELIB_CHECKPOINT_DIR="checkpoint")
    for snapshot in (now - 120, now - 60):
        api.put(feed(snapshot, station("16107", 3), station("99999", 5)))
        wait_until(
            partial(lambda snapshot: snapshot in _snapshots_of_dead_letters(pipeline), snapshot),
            "the dead letter of a snapshot",
        )
    api.put(feed(now, station("16107", 4), station("99999", 6), {"stationCode": None}))
    pipeline.wait_for_totals({now})
    job.kill()
    run_job()
    dead = {record.offset for record in pipeline.raw() if record.key != b"16107"}
    assert len(dead) == 4
    dead_letters = pipeline.dead_letters()
    assert {int(dict(record.headers)["offset"]) for record in dead_letters} == dead
    assert {key: total["mechanical"] for key, total in pipeline.totals().items()} == {
        ("75016", now - 120): 3,
        ("75016", now - 60): 3,
        ("75016", now): 4,
    }


def test_a_late_snapshot_is_dropped_with_a_warning(pipeline: Pipeline, run_job: RunJob) -> None:
    now = int(time.time())
    # A batch goes by the watermark of the batch before it.
    for bikes, last_updated in ((3, now), (3, now), (8, now - 3600)):
        late = json.dumps(station("16107", bikes) | {"last_updated": last_updated}).encode()
        topics.ensure(pipeline.settings)
        pipeline.write(pipeline.settings.raw_topic, (b"16107", late))
        job_log = run_job()
    assert "1 totals dropped, of snapshots older than the watermark" in job_log
    assert f"watermark {local_time(now - 600)}" in job_log
    assert list(pipeline.totals()) == [("75016", now)]
