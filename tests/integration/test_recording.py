"""The recording of the real producer, on a real Kafka."""

import json
import os
import subprocess
import time

from tests.expected import feed, station
from tests.pipeline import Pipeline, recorded, wait_until

NOW = int(time.time())


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
