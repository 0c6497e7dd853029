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


def test_each_new_snapshot_is_recorded_as_it_came_even_while_kafka_is_away(
    pipeline: Pipeline,
) -> None:
    pipeline.use(f"localhost:{free_port()}")
    api, folder = pipeline.serve_api(), pipeline.folder / "history"
    answers = [feed(NOW - 90 + 30 * number, station(bikes=number)) for number in range(4)]
    bodies = [json.dumps(answer).encode() for answer in answers]
    api.put(answers[0])
    producer = pipeline.start("kafka_project.py", "--record", "history")
    wait_until(lambda: recorded(folder) == bodies[:1], "a snapshot without Kafka")
    broker = pipeline.start_broker()
    producer.wait_for("Published 1 stations")
    api.put(answers[1])
    producer.wait_for(f"snapshot of {local_time(answers[1]['lastUpdatedOther'])}")
    assert recorded(folder) == bodies[:2]  # what is published is recorded already
    broker.kill()
    api.put(answers[2])
    wait_until(lambda: recorded(folder) == bodies[:3], "a snapshot after Kafka has gone")
    api.put(answers[3])
    wait_until(lambda: recorded(folder) == bodies, "another one")
    assert producer.stop() == 0


def test_a_full_disk_stops_the_recording_but_not_the_publishing(pipeline: Pipeline) -> None:
    """A limit on the size of files refuses the recording's, as a full disk does."""
    api, folder = pipeline.serve_api(), pipeline.folder / "history"
    producer = pipeline.start("kafka_project.py", "--record", "history")
    producer.wait_for("404")

    def limit_files(size: str) -> None:
        limit = f"--fsize={size}:unlimited"
        subprocess.run(["prlimit", f"--pid={producer.process.pid}", limit], check=True)

    limit_files(str(producer.err.stat().st_size + 10_000))
    noise = os.urandom(20_000).hex()
    api.put(feed(NOW - 60, station(name=noise)))
    producer.wait_for("Snapshots are published, but not recorded in history: File too large")
    wait_until(lambda: len(pipeline.published()) == 1, "the snapshot is published anyway")
    limit_files("unlimited")
    producer.wait_for("Snapshots are recorded in history again")
    assert recorded(folder) == [json.dumps(feed(NOW - 60, station(name=noise))).encode()]
    assert list(folder.glob("*/.*")) == []
