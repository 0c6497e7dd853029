"""The real scripts on a real Kafka: whatever happens, the totals are the plain sums over the snapshots."""

import itertools
import json
import time
from functools import partial
from typing import Any

import pytest
from kafka import KafkaProducer

from local.simulator import make_network, station_status
from tests import expected
from tests.expected import feed, station
from tests.integration.conftest import Pipeline, put, wait_until

SCRIPTS = ("kafka_project.py", "spark.py", "consumer.py")
DEFAULT = {"16107", "32017"}


def sums(stations: int, seed: int, snapshots: set[int], selected: set[str] | None = None) -> dict[tuple[str, int], Any]:
    """The plain sums over what the simulator served at these times."""
    network = make_network(stations, seed)
    totals: dict[tuple[str, int], Any] = {}
    for snapshot in snapshots:
        totals |= expected.totals(station_status(network, snapshot, seed), selected)
    return totals


@pytest.mark.parametrize("order", list(itertools.permutations(SCRIPTS)), ids=lambda order: "-".join(o[0] for o in order))
def test_totals_equal_the_plain_sums_whatever_script_starts_first(pipeline: Pipeline, order: tuple[str, ...]) -> None:
    everything = order[0] != "spark.py"  # both ways of selecting, in turn
    pipeline.simulate(stations=1500)
    selection = {"VELIB_STATIONS": "all"} if everything else {}
    for name in order:
        script = pipeline.start(name, *(["--json", "--from-beginning"] if name == "consumer.py" else []), **selection)
        script.wait_for({"kafka_project.py": "Published", "spark.py": "runs on", "consumer.py": ""}[name])
    consumer = next(script for script in pipeline.scripts if script.err.name.startswith("consumer"))
    wait_until(lambda: len({json.loads(line)["last_updated"] for line in consumer.printed()}) >= 3, "three snapshots")
    assert pipeline.scripts[1 + order.index("kafka_project.py")].stop() == 0
    expected_totals = sums(1500, 1, pipeline.published(), None if everything else DEFAULT)
    wait_until(lambda: pipeline.totals().keys() >= expected_totals.keys(), "all totals")
    for script in pipeline.scripts:
        assert script.process.poll() is not None or script.stop() == 0
    assert pipeline.totals() == expected_totals

    totals = pipeline.totals()
    printed = [json.loads(line) for line in consumer.printed()]
    assert all(totals[total["postal_code"], total["last_updated"]] == total for total in printed)
    if everything:
        assert len({postal_code for postal_code, _ in totals}) == 89


def test_two_snapshots_do_not_add_up_and_an_unchanged_or_older_feed_publishes_nothing(pipeline: Pipeline) -> None:
    now = int(time.time())
    served = pipeline.serve_folder()
    put(served, feed(now, station("16107", 3), station("32017", 5), station("6015", 9)))
    producer, job = pipeline.start("kafka_project.py"), pipeline.start("spark.py")
    pipeline.wait_for_totals({now})
    time.sleep(1)  # a dozen polls of the unchanged feed
    put(served, feed(now - 60, station("16107", 100)))
    producer.wait_for("published already")
    put(served, feed(now + 1, station("16107", 4), station("32017", 6), station("6015", 9)))
    totals = pipeline.wait_for_totals({now + 1})
    assert len(pipeline.raw()) == 6
    assert {key: total["mechanical"] for key, total in totals.items()} == {
        ("75016", now): 3,
        ("93200", now): 5,
        ("75016", now + 1): 4,
        ("93200", now + 1): 6,
    }
    assert (producer.stop(), job.stop()) == (0, 0)


def test_records_are_keyed_by_station_and_postal_code_and_are_as_the_feed_has_them(pipeline: Pipeline) -> None:
    now = int(time.time())
    served = pipeline.serve_folder()
    put(served, feed(now, station("16107", new_field=None), station("11031_relais")))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    assert [(record.key, json.loads(record.value)) for record in pipeline.raw()] == [
        (b"16107", station("16107", new_field=None) | {"last_updated": now}),
        (b"11031_relais", station("11031_relais") | {"last_updated": now}),
    ]
    again = pipeline.start("kafka_project.py", "--once")
    assert again.end() == 0
    assert "published already" in again.said()
    assert pipeline.start("spark.py", "--available-now", VELIB_STATIONS="all").end() == 0
    records = pipeline.records(pipeline.topic("final"))
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


def test_a_producer_killed_in_the_middle_of_a_transaction_leaves_nothing_half_published(pipeline: Pipeline) -> None:
    stations = 15_000  # so many that the transaction takes its time
    pipeline.simulate(stations, period=1)
    raw = pipeline.topic("raw")
    victim = pipeline.start("kafka_project.py")
    wait_until(lambda: pipeline.records(raw, committed=False), "the first records of the transaction")
    victim.kill()
    begun = len(pipeline.records(raw, committed=False))
    assert 0 < begun < stations, "the producer was not killed in the middle"
    assert pipeline.raw() == []

    heir, job = pipeline.start("kafka_project.py"), pipeline.start("spark.py", VELIB_STATIONS="all")
    heir.wait_for("Published")
    assert heir.stop() == 0
    expected_totals = sums(stations, 1, pipeline.published())
    wait_until(lambda: pipeline.totals().keys() >= expected_totals.keys(), "all totals")
    assert job.stop() == 0
    assert pipeline.totals() == expected_totals
    assert len(pipeline.raw()) == stations * len(pipeline.published())


def _has_totals_after(pipeline: Pipeline, newest: int, count: int) -> bool:
    return len({snapshot for _, snapshot in pipeline.totals() if snapshot > newest}) >= count


def test_a_job_killed_goes_on_from_its_checkpoint_to_the_same_totals(pipeline: Pipeline) -> None:
    pipeline.simulate(stations=1500, period=1)
    producer = pipeline.start("kafka_project.py", VELIB_POLL_SECONDS="0.5")
    for _ in range(2):
        newest = max((snapshot for _, snapshot in pipeline.totals()), default=0)
        victim = pipeline.start("spark.py", VELIB_STATIONS="all")
        wait_until(partial(_has_totals_after, pipeline, newest, 3), "totals of three more snapshots")
        victim.kill()
    assert producer.stop() == 0
    assert pipeline.start("spark.py", "--available-now", VELIB_STATIONS="all").end() == 0
    published = pipeline.published()
    assert pipeline.totals() == sums(1500, 1, published)


def test_a_record_that_cannot_be_counted_is_a_dead_letter_and_stops_nothing(pipeline: Pipeline) -> None:
    now = int(time.time())
    served = pipeline.serve_folder()
    put(served, feed(now, station("16107", 3), station("99999", 5), {"stationCode": None}))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    hostile: list[tuple[bytes | None, bytes | None]] = [(b"16107", None), (None, b"\xff" * 900_000), (b"x", b"[1]")]
    with KafkaProducer(**pipeline.client) as producer:
        for key, value in hostile:
            producer.send(pipeline.topic("raw"), key=key, value=value)
    job = pipeline.start("spark.py", "--available-now")
    assert job.end() == 0
    assert "6 records in" in job.said()
    assert "5 dead letters, most of them: " in job.said()
    assert [total["mechanical"] for total in pipeline.totals().values()] == [3]
    dead = pipeline.records(pipeline.topic("dead_letter"))
    by_offset = {dict(record.headers)["offset"]: record for record in dead}
    originals = {str(record.offset).encode(): record for record in pipeline.raw()}
    assert len(dead) == len(by_offset) == 5
    for offset, record in by_offset.items():
        assert (record.key, record.value) == (originals[offset].key, originals[offset].value)
        assert dict(record.headers)["topic"] == pipeline.topic("raw").encode()
        assert dict(record.headers)["partition"] == b"0"
        assert dict(record.headers)["reason"]


def test_dead_letters_that_a_killed_job_has_not_written_are_written_by_the_next(pipeline: Pipeline) -> None:
    now = int(time.time())
    put(pipeline.serve_folder(), feed(now, station("16107", 3), station("99999", 5), {"stationCode": None}))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    assert pipeline.start("spark.py", "--available-now").end() == 0
    assert len(pipeline.records(pipeline.topic("dead_letter"))) == 2
    note = pipeline.folder / ".velib" / "checkpoint" / "dead-letters"
    for left in ("", None):  # a note that was being written, and none
        note.unlink() if left is None else note.write_text(left)
        before = len(pipeline.records(pipeline.topic("dead_letter")))
        assert pipeline.start("spark.py", "--available-now").end() == 0
        assert len(pipeline.records(pipeline.topic("dead_letter"))) == before + 2
    assert pipeline.start("spark.py", "--available-now").end() == 0
    assert len(pipeline.records(pipeline.topic("dead_letter"))) == before + 2, "written ones are not looked for again"
    assert [total["mechanical"] for total in pipeline.totals().values()] == [3]


def test_a_batch_after_a_pause_is_logged_and_its_dead_letters_are_written(pipeline: Pipeline) -> None:
    now = int(time.time())
    served = pipeline.serve_folder()
    put(served, feed(now - 60, station("16107", 3)))
    job = pipeline.start("spark.py")
    pipeline.start("kafka_project.py")
    job.wait_for("batch 0: 1 records in")
    time.sleep(12)  # after ten seconds without records Spark reports that it is idle
    put(served, feed(now, station("16107", 4), station("99999", 5)))
    job.wait_for("batch 1: 2 records in")
    job.wait_for("batch 1: 1 dead letters, most of them: stationCode without a postal code")
    assert len(pipeline.records(pipeline.topic("dead_letter"))) == 1


def test_a_second_producer_ends_the_first(pipeline: Pipeline) -> None:
    pipeline.simulate(stations=10, period=1)
    first = pipeline.start("kafka_project.py")
    first.wait_for("Published")
    second = pipeline.start("kafka_project.py")
    assert first.end() == 1
    assert "Another kafka_project.py publishes to" in first.said()
    second.wait_for("Published")
    assert second.stop() == 0
    assert pipeline.published() and len(pipeline.raw()) == 10 * len(pipeline.published())


def test_a_late_snapshot_is_dropped_with_a_warning(pipeline: Pipeline) -> None:
    now = int(time.time())
    served = pipeline.serve_folder()
    put(served, feed(now, station("16107", 3)))
    assert pipeline.start("kafka_project.py", "--once").end() == 0
    assert pipeline.start("spark.py", "--available-now").end() == 0
    late = json.dumps(station("16107", 8) | {"last_updated": now - 3600}).encode()
    for value in (json.dumps(station("16107", 3) | {"last_updated": now}).encode(), late):
        with KafkaProducer(**pipeline.client) as producer:
            producer.send(pipeline.topic("raw"), key=b"16107", value=value)
        job = pipeline.start("spark.py", "--available-now")
        assert job.end() == 0
    assert "1 sums dropped, of snapshots older than the watermark" in job.said()
    assert list(pipeline.totals()) == [("75016", now)]
