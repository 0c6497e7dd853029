"""The recording of the real producer, on a real Kafka."""

import gzip
import json
import os
import subprocess
import time
from pathlib import Path

from local.broker import free_port
from tests.expected import feed, station
from tests.pipeline import Pipeline, wait_until
from velib.runtime import local_time

NOW = int(time.time())


def recorded(folder: Path) -> list[bytes]:
    """The bodies of a recording, in the order of their files' names."""
    return [gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*/*.json.gz"))]


def test_each_new_snapshot_is_recorded_as_it_came_and_published(pipeline: Pipeline) -> None:
    api, folder = pipeline.serve_api(), pipeline.folder / "history"
    answers = [feed(NOW - 60 + 20 * n, station(bikes=n)) for n in range(3)]
    api.put(answers[0])
    once = pipeline.start("kafka_project.py", "--once", "--record", "history")
    assert once.end() == 0
    assert recorded(folder) == [json.dumps(answers[0]).encode()]
    producer = pipeline.start("kafka_project.py", "--record", "history")
    for answer in answers[1:]:
        api.put(answer)
        producer.wait_for(f"snapshot of {local_time(answer['lastUpdatedOther'])}")
    # What is published is recorded already.
    assert recorded(folder) == [json.dumps(answer).encode() for answer in answers]
    assert producer.stop() == 0


def test_snapshots_are_recorded_while_kafka_is_away(pipeline: Pipeline) -> None:
    pipeline.use(f"localhost:{free_port()}")
    api, folder = pipeline.serve_api(), pipeline.folder / "history"
    api.put(feed(NOW - 60, station()))
    producer = pipeline.start("kafka_project.py", "--record", "history")
    wait_until(lambda: len(recorded(folder)) == 1, "the first snapshot")
    api.put(feed(NOW, station()))
    wait_until(lambda: len(recorded(folder)) == 2, "the second snapshot")
    assert producer.stop() == 0


def test_every_snapshot_is_recorded_while_kafka_is_away(pipeline: Pipeline) -> None:
    pipeline.use(f"localhost:{free_port()}")
    broker = pipeline.start_broker()
    api, folder = pipeline.serve_api(), pipeline.folder / "history"
    api.put(feed(NOW - 60, station()))
    producer = pipeline.start("kafka_project.py", "--record", "history")
    producer.wait_for("Published 1 stations")
    broker.kill()
    api.put(feed(NOW - 30, station()))
    wait_until(lambda: len(recorded(folder)) == 2, "the second snapshot")
    api.put(feed(NOW, station()))
    wait_until(lambda: len(recorded(folder)) == 3, "the third snapshot")
    assert "Waiting for Kafka" in producer.log()
    assert producer.stop() == 0


def test_a_full_disk_stops_the_recording_but_not_the_publishing(pipeline: Pipeline) -> None:
    """A limit on the size of files refuses the recording's, as a full disk does."""
    api, folder = pipeline.serve_api(), pipeline.folder / "history"
    producer = pipeline.start("kafka_project.py", "--record", "history")
    producer.wait_for("refuses: 404")

    def limit_files(size: str) -> None:
        limit = f"--fsize={size}:unlimited"
        subprocess.run(["prlimit", f"--pid={producer.process.pid}", limit], check=True)

    limit_files(str(producer.err.stat().st_size + 10_000))
    noise = os.urandom(20_000).hex()
    api.put(feed(NOW - 60, station(name=noise)))
    producer.wait_for("Snapshots are not recorded in history, only published: File too large")
    wait_until(lambda: len(pipeline.published()) == 1, "the snapshot is published all the same")
    limit_files("unlimited")
    producer.wait_for("Snapshots are recorded again")
    assert recorded(folder) == [json.dumps(feed(NOW - 60, station(name=noise))).encode()]
    assert "0 are missing" in producer.log()
    assert list(folder.glob("*/.*")) == []
