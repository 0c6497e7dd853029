"""The replay of recorded snapshots by the real producer, on a real Kafka."""

import json
import signal
import sys
import time
from functools import partial
from itertools import pairwise

from local.broker import free_port
from local.simulator import make_network, station_status
from tests import PROJECT
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until
from tests.terminal import Terminal
from velib.feed.snapshot import parse
from velib.kafka import clients
from velib.producer.recording import Recording
from velib.runtime import local_time

NETWORK = make_network(300, 1)
MORNING = 1732004538
SPEED = ("--speed", "0")


def record(pipeline: Pipeline, count: int) -> dict[int, list[object]]:
    """Record so many snapshots of a network; returns the stations of each, by its time."""
    recording = Recording(pipeline.folder / "history")
    answers = [station_status(NETWORK, MORNING + 60 * n, 1) for n in range(count)]
    for answer in answers:
        recording.keep(parse(json.dumps(answer).encode()))
    return {answer["lastUpdatedOther"]: answer["data"]["stations"] for answer in answers}


def replayed(pipeline: Pipeline) -> dict[int, list[object]]:
    """The stations of each snapshot in the raw topic, as the feed had them."""
    return {
        last_updated: [
            {name: value for name, value in one.items() if name != "last_updated"}
            for one in stations
        ]
        for last_updated, stations in pipeline.published().items()
    }


def test_a_replay_publishes_each_snapshot_whole_once_and_in_order(pipeline: Pipeline) -> None:
    recorded = record(pipeline, 5)
    replay = pipeline.start("kafka_project.py", "--replay", "history", *SPEED)
    assert replay.end() == 0
    assert replayed(pipeline) == recorded
    snapshots = [json.loads(record.value)["last_updated"] for record in pipeline.raw()]
    assert all(earlier <= later for earlier, later in pairwise(snapshots))
    assert "1500 records in " in replay.log()
    again = pipeline.start("kafka_project.py", "--replay", "history", *SPEED)
    assert again.end() == 0
    assert "All 5 recorded snapshots are published already" in again.log()
    assert len(pipeline.raw()) == 5 * 300


def test_a_replay_that_is_stopped_or_killed_goes_on_without_repeating(pipeline: Pipeline) -> None:
    recorded = record(pipeline, 60)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        wanted = len(pipeline.published()) + 2
        replay = pipeline.start("kafka_project.py", "--replay", "history", "--speed", "300")
        has_more = partial(lambda count: len(pipeline.published()) >= count, wanted)
        wait_until(has_more, "some more snapshots")
        assert not replay.has_ended()
        status = replay.stop(number)
        assert status == {signal.SIGTERM: 0, signal.SIGKILL: -9, signal.SIGINT: 130}[number]
    assert len(pipeline.published()) < 60
    assert pipeline.start("kafka_project.py", "--replay", "history", *SPEED).end() == 0
    assert replayed(pipeline) == recorded
    assert len(pipeline.raw()) == 60 * 300


def test_a_replay_outlives_a_kafka_that_goes_away(pipeline: Pipeline) -> None:
    pipeline.use(f"localhost:{free_port()}")
    broker = pipeline.start_broker()
    recorded = record(pipeline, 40)
    replay = pipeline.start("kafka_project.py", "--replay", "history", "--speed", "120")
    wait_until(lambda: clients.is_reachable(pipeline.settings), "Kafka listens")
    wait_until(lambda: "ready" in broker.printed(), "Kafka is ready")
    wait_until(lambda: len(pipeline.published()) > 2, "some snapshots")
    broker.kill()
    replay.wait_for("does not answer")
    pipeline.start_broker()
    assert replay.end() == 0
    assert replayed(pipeline) == recorded
    assert len(pipeline.raw()) == 40 * 300


def test_a_replay_into_a_topic_with_newer_snapshots_is_refused_and_disturbs_nobody(
    pipeline: Pipeline,
) -> None:
    record(pipeline, 2)
    now = int(time.time())
    api = pipeline.serve_api()
    api.put(feed(now - 60, station()))
    live = pipeline.start("kafka_project.py")
    live.wait_for("Published 1 stations")
    replay = pipeline.start("kafka_project.py", "--replay", "history", *SPEED)
    assert replay.end() == 1
    topic = pipeline.settings.raw_topic
    assert replay.log().endswith(
        f"{topic} has a snapshot of {local_time(now - 60)}, which is newer than the recorded ones:"
        " replay into other topics (VELIB_RAW_TOPIC and the others)\n"
    )
    api.put(feed(now, station()))
    live.wait_for(f"the snapshot of {local_time(now)}")
    assert pipeline.published().keys() == {now - 60, now}


def test_a_terminal_has_a_bar_and_the_warnings_above_it(pipeline: Pipeline) -> None:
    record(pipeline, 100)
    (pipeline.folder / "history" / "broken.json").write_text('{"lastUpdatedOther": 1732004539,')
    environment = pipeline.environment | pipeline.user("kafka_project.py")
    script = f"{sys.executable} {PROJECT}/kafka_project.py"
    command = f"{script} --replay history --speed 600; echo status $?"
    terminal = Terminal(command, pipeline.folder, environment)
    try:
        terminal.wait_for("/101 snapshots, 2024-11-19")
        terminal.wait_for("broken.json is skipped: The API sent something else than JSON")
        assert "records/s, 0:00:" in terminal.text()
        assert terminal.text().count("snapshots, 2024") == 1
        terminal.wait_for("status 0")
        assert "Replayed up to 2024-11-19" in terminal.text()
    finally:
        terminal.kill()
    assert len(pipeline.published()) == 100
