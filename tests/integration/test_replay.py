"""The replay of recorded snapshots by the real producer, on a real Kafka."""

import gzip
import json
import signal
from functools import partial
from itertools import pairwise
from math import ceil

from local.day import Day
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until
from velib.feed.snapshot import parse
from velib.producer.recording import Recording
from velib.runtime import local_time

DAY = Day(90)
MORNING = 1732004538
REPLAY = ("kafka_project.py", "--replay", "history")


def record(pipeline: Pipeline, count: int) -> dict[int, list[object]]:
    """Record snapshots of a bike network; returns the stations of each, by its time."""
    recording = Recording(pipeline.folder / "history")
    answers = [DAY.status(MORNING + 60 * n) for n in range(count)]
    for answer in answers:
        recording.keep(parse(json.dumps(answer).encode()))
    return {answer["lastUpdatedOther"]: answer["data"]["stations"] for answer in answers}


def replayed(pipeline: Pipeline) -> dict[int, list[object]]:
    """The stations of each snapshot in the raw topic, as the feed had them."""
    return {
        last_updated: [
            {name: value for name, value in station.items() if name != "last_updated"}
            for station in stations
        ]
        for last_updated, stations in pipeline.published().items()
    }


def test_a_replay_that_is_stopped_or_killed_publishes_each_snapshot_whole_once_and_in_order(
    pipeline: Pipeline,
) -> None:
    recorded = record(pipeline, 100)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        wanted = len(pipeline.published()) + 2
        replay = pipeline.start(*REPLAY, "--speed", "60")
        has_more = partial(lambda count: len(pipeline.published()) >= count, wanted)
        wait_until(has_more, "some more snapshots")
        assert not replay.has_ended()
        status = replay.stop(number)
        assert status == {signal.SIGTERM: 0, signal.SIGKILL: -9, signal.SIGINT: 130}[number]
    left = 100 - len(pipeline.published())
    assert left > 20
    begun_at = pipeline.end_of_raw_topic()
    replay = pipeline.start(*REPLAY, "--speed", "0")
    assert replay.end() == 0
    assert f": {left * DAY.stations} records in " in replay.log()
    # A transaction of up to twenty snapshots ends with a marker, which takes an offset.
    assert pipeline.end_of_raw_topic() - begun_at == left * DAY.stations + ceil(left / 20)
    snapshots = [json.loads(record.value)["last_updated"] for record in pipeline.raw()]
    assert all(earlier <= later for earlier, later in pairwise(snapshots))
    assert len(snapshots) == 100 * DAY.stations
    assert replayed(pipeline) == recorded
    again = pipeline.start(*REPLAY, "--speed", "0")
    assert again.end() == 0
    assert "All 100 recorded snapshots are published already" in again.log()


def test_what_curl_appended_is_replayed_and_what_cannot_be_ends_with_status_1(
    pipeline: Pipeline,
) -> None:
    answers = b"".join(json.dumps(feed(MORNING + n, station())).encode() for n in range(3))
    (pipeline.folder / "all.gz").write_bytes(gzip.compress(answers))
    assert pipeline.start("kafka_project.py", "--replay", "all.gz", "--speed", "0").end() == 0
    assert pipeline.published().keys() == {MORNING, MORNING + 1, MORNING + 2}
    (pipeline.folder / "page").write_text("<html>502")
    page = pipeline.start("kafka_project.py", "--replay", "page", "--speed", "0")
    assert page.end() == 1
    warning, error = page.log().splitlines()
    assert warning.endswith("WARNING page is skipped: it contains no JSON object")
    assert error.endswith("ERROR   Nothing to replay: page has no snapshots (files: 1)")
    record(pipeline, 1)
    older = pipeline.start(*REPLAY, "--speed", "0")
    assert older.end() == 1
    assert older.log().endswith(
        f"{pipeline.settings.raw_topic} contains a snapshot of {local_time(MORNING + 2)}, which is"
        " newer than the recorded ones: replay into other topics (VELIB_RAW_TOPIC and the others)\n"
    )
    assert len(pipeline.raw()) == 3
