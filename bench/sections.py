"""What is measured: each section is a list of runs, in turns, so that no contender has the best
moment of the machine.
"""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

import kafka_project
from bench.bench import PERIOD, Bench, Task
from bench.contenders import CATCH_UP, CLASSROOM, JOB, LIVE, QUIX, Contender
from bench.fill import RECORDS, STATIONS, snapshots
from bench.measure import Figures, Place, catch_up, live
from bench.processes import Process, running
from local.broker import free_port
from velib.errors import Failure
from velib.feed import Snapshot

FEW = (CLASSROOM, QUIX)
"""These would take many minutes for five million records: they have a million, and no advantage
from that, as they are no faster over more.
"""

POSTAL_CODES = 89
GROWTH_TURNS = 3
FEW_SNAPSHOTS = 10  # for the warm-up of larger networks, which give Java more to do in each


def latency(bench: Bench) -> list[Task]:
    """From the commit of a snapshot of 1,500 stations to the last of its totals."""
    size = bench.size
    seconds = (size.warm_up * 0.2) + size.measured * PERIOD

    def task(contender: Contender, turn: int) -> Task:
        return Task(
            f"{contender.name}, run {turn + 1} of {size.turns}",
            contender.name,
            contender.start + seconds,
            lambda: live(contender, bench.place(), STATIONS, size.warm_up, size.measured, PERIOD),
        )

    return [task(c, turn) for turn in range(size.turns) for c in present(LIVE, bench)]


def catching_up(bench: Bench) -> list[Task]:
    """The records that wait in the topic."""
    size = bench.size

    def snapshots_for(contender: Contender) -> int:
        return size.few_snapshots if contender in FEW else size.snapshots

    def task(contender: Contender, turn: int) -> Task:
        count = snapshots_for(contender)
        return Task(
            f"{contender.name}, {count * RECORDS:,} records, run {turn + 1} of {size.turns}",
            contender.name,
            contender.start + count * RECORDS / contender.speed + count / 500,
            lambda: catch_up_with(bench, contender, count),
        )

    contenders = present(CATCH_UP, bench)
    counts = sorted({snapshots_for(contender) for contender in contenders})
    return [
        *[filling(bench, count, 1) for count in counts],
        *[task(c, turn) for turn in range(size.turns) for c in contenders],
    ]


def filling(bench: Bench, count: int, partitions: int) -> Task:
    def run() -> Figures:
        bench.raw_topic(count, partitions)
        return {}

    return Task(f"writing {count * RECORDS:,} records", "", count / 30, run)


def catch_up_with(
    bench: Bench, contender: Contender, count: int, partitions: int = 1, **environment: str
) -> Figures:
    topic, expected = bench.raw_topic(count, partitions)
    return catch_up(contender, bench.place(topic), expected, count * RECORDS, **environment)


def cost(bench: Bench) -> list[Task]:
    """What the whole pipeline takes, on a feed with a snapshot a second."""
    count, turns = bench.size.cost_snapshots, bench.size.turns
    return [
        Task(
            f"the whole pipeline, run {turn + 1} of {turns}",
            "pipeline",
            15 + 1.3 * count,
            lambda: pipeline_cost(bench, count),
        )
        for turn in range(turns)
    ]


def pipeline_cost(bench: Bench, count: int) -> Figures:
    """Memory (MB) and CPU seconds a snapshot of each process; bytes on disk."""
    place, port = bench.place(), free_port()
    feed = {"VELIB_API_URL": f"http://localhost:{port}", "VELIB_POLL_SECONDS": "1"}
    simulator = [sys.executable, "-m", "local.simulator", "--port", str(port), "--period", "1"]

    def start(*script: str) -> AbstractContextManager[Process]:
        return running([sys.executable, *script], place.folder, place.environment | feed)

    with (
        running(simulator, place.folder),
        start("kafka_project.py") as producer,
        start("spark.py") as job,
        start("consumer.py", "--json") as consumer,
    ):
        parts = {"Kafka": bench.broker, "producer": producer, "job": job, "consumer": consumer}
        _wait_for_lines(consumer, 1)
        _wait_for_lines(consumer, _lines(consumer) + count // 3 * POSTAL_CODES)  # the warm-up
        before, seen = _cpu_seconds(parts), _lines(consumer)
        _wait_for_lines(consumer, seen + count * POSTAL_CODES)
        after, snapshot_count = _cpu_seconds(parts), (_lines(consumer) - seen) / POSTAL_CODES
    figures: Figures = {
        name: {
            "memory_mb": part.memory / 1e6,
            "cpu_per_snapshot": (after[name] - before[name]) / snapshot_count,
        }
        for name, part in parts.items()
    }
    whole = (consumer.out.read_text().count("\n")) / POSTAL_CODES
    return figures | {
        "raw_kb": _topic_bytes(bench, place.settings.raw_topic) / whole / 1e3,
        "final_kb": _topic_bytes(bench, place.settings.final_topic) / whole / 1e3,
        "checkpoint_mb": _size(Path(place.settings.checkpoint_dir), "*") / 1e6,
    }


def _lines(process: Process) -> int:
    return process.out.read_text().count("\n")


def _wait_for_lines(process: Process, count: int) -> None:
    deadline = time.monotonic() + 300
    while _lines(process) < count:
        if time.monotonic() > deadline or process.wait(0.1) is not None:
            raise Failure(f"The consumer has not printed {count} totals: {process.problem()}")


def _cpu_seconds(parts: dict[str, Process]) -> dict[str, float]:
    for part in parts.values():
        part.look()
    return {name: part.cpu_seconds for name, part in parts.items()}


def _topic_bytes(bench: Bench, topic: str) -> int:
    return _size(bench.folder / "kafka" / "data" / f"{topic}-0", "*.log")


def _size(folder: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in folder.rglob(pattern) if file.is_file())


def growth(bench: Bench) -> list[Task]:
    """The job alone: with larger networks, with more cores, with more partitions."""
    size = bench.size
    turns = min(GROWTH_TURNS, size.turns)
    count = size.growth_snapshots

    def larger(stations: int) -> Task:
        warm_up, measured = size.warm_up, size.measured
        if stations > STATIONS:
            warm_up, measured = min(warm_up, FEW_SNAPSHOTS), min(measured, 2 * FEW_SNAPSHOTS)
        seconds = JOB.start + (warm_up + measured) * (0.3 + stations / 20_000)
        name = f"{stations:,} stations"
        return Task(
            name,
            name,
            seconds,
            lambda: live(JOB, bench.place(), stations, warm_up, measured, PERIOD),
        )

    def scaled(cores: int, partitions: int) -> Task:
        master = {"VELIB_SPARK_MASTER": f"local[{cores}]"}
        name = f"cores: {cores}, partitions: {partitions}"
        return Task(
            name,
            name,
            JOB.start + count * RECORDS / 60_000,
            lambda: catch_up_with(bench, JOB, count, partitions, **master),
        )

    return [
        *[larger(stations) for _ in range(turns) for stations in size.stations],
        *[filling(bench, count, partitions) for partitions in sorted({p for _, p in size.scales})],
        *[scaled(*scale) for _ in range(turns) for scale in size.scales],
    ]


def publishing(bench: Bench) -> list[Task]:
    """The producer's own Publisher: from a snapshot that is read to the end of its commit."""

    def task(stations: int) -> Task:
        name = f"{stations:,} stations"
        return Task(name, name, 4 + stations / 400, lambda: publish(bench.place(), stations))

    return [task(s) for _ in range(bench.size.turns) for s in (STATIONS, 10 * STATIONS)]


def publish(place: Place, stations: int, count: int = 20) -> Figures:
    """Seconds for each of `count` snapshots, after some that are not measured."""
    logger, seconds = logging.getLogger("velib"), []
    logger.setLevel(logging.WARNING)  # its line for each snapshot
    try:
        with kafka_project.connect(place.settings) as publisher:
            for feed in islice(snapshots(stations), count + 5):
                snapshot = Snapshot(feed["lastUpdatedOther"], feed["data"]["stations"])
                started = time.monotonic()
                publisher.publish(snapshot)
                seconds.append(time.monotonic() - started)
    finally:
        logger.setLevel(logging.INFO)
    mean = sum(seconds[5:]) / count
    return {"records_per_second": stations / mean, "seconds": mean}


def present(contenders: list[Contender], bench: Bench) -> list[Contender]:
    """Those whose packages can be had here."""
    return [c for c in contenders if not (c.packages and bench.no_peers)]


ALL: dict[str, Callable[[Bench], list[Task]]] = {
    "latency": latency,
    "catch-up": catching_up,
    "cost": cost,
    "growth": growth,
    "publishing": publishing,
}
