"""The whole pipeline on a simulated feed: what each of its processes takes, and what is on disk."""

import re
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from bench.bench import Bench
from bench.measure import Figures
from bench.processes import Process, running
from local.broker import free_port
from velib.errors import Failure

TIMEOUT = 120.0  # seconds until the first total
PUBLISHED = r"Published \d+ stations"
TOTALS = r"records in, (\d+) totals out"
POSTAL_CODES = 87


def cost(bench: Bench, seconds: int) -> Figures:
    """Memory (MB) and CPU seconds a snapshot of each process, over `seconds` seconds with a
    snapshot each, after half of that as a warm-up. KB a snapshot in the topics, MB of the
    checkpoint.
    """
    run, port = bench.new_environment(), free_port()
    feed = {"VELIB_API_URL": f"http://localhost:{port}", "VELIB_POLL_SECONDS": "1"}
    simulator = [sys.executable, "-m", "local.simulator", "--port", str(port), "--period", "1"]

    def start(*script: str) -> AbstractContextManager[Process]:
        return running([sys.executable, *script], run.folder, run.variables | feed)

    with (
        running(simulator, run.folder),
        start("kafka_project.py") as producer,
        start("spark.py") as job,
        start("consumer.py", "--json") as consumer,
    ):
        parts = {"Kafka": bench.broker, "producer": producer, "job": job, "consumer": consumer}
        _wait_for_output(consumer)
        time.sleep(seconds / 2)
        before, published_before = _cpu_seconds(parts), _published(producer)
        time.sleep(seconds)
        after, published = _cpu_seconds(parts), _published(producer)
    snapshots = published - published_before
    figures: Figures = {
        name: {
            "memory_mb": part.memory / 1e6,
            "cpu_per_snapshot": (after[name] - before[name]) / snapshots,
        }
        for name, part in parts.items()
    }
    totals = sum(map(int, re.findall(TOTALS, job.err.read_text())))
    written = totals / POSTAL_CODES
    kept = bench.folder / "kafka" / "data"
    settings = run.settings
    return figures | {
        "raw_kb": _size(kept / f"{settings.raw_topic}-0", "*.log") / _published(producer) / 1e3,
        "final_kb": _size(kept / f"{settings.final_topic}-0", "*.log") / written / 1e3,
        "checkpoint_mb": _size(Path(settings.checkpoint_dir), "*") / 1e6,
    }


def _wait_for_output(process: Process) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not process.out.stat().st_size:
        if time.monotonic() > deadline or process.wait(0.1) is not None:
            raise Failure(f"The consumer has printed no total: {process.problem()}")


def _published(producer: Process) -> int:
    """How many snapshots the producer has published."""
    return len(re.findall(PUBLISHED, producer.err.read_text()))


def _cpu_seconds(parts: dict[str, Process]) -> dict[str, float]:
    for part in parts.values():
        part.measure()
    return {name: part.cpu_seconds for name, part in parts.items()}


def _size(folder: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in folder.rglob(pattern) if file.is_file())
