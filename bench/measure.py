"""Runs a contender on topics of its own, and measures it from outside: its totals come first."""

import os
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition

import config
from bench.arrivals import Arrivals
from bench.contenders import COPY, PROJECT, Contender
from bench.fill import Publisher, Totals, make_raw_topic, snapshots
from local.broker import free_port
from tests.expected import totals
from velib import topics
from velib.errors import Failure

SAMPLE = 0.2  # seconds between two looks at the memory of a process
TIMEOUT = 1_200.0  # seconds that a contender has to catch up
STOP_TIMEOUT = 45.0  # seconds that a process has to end

Figures = dict[str, Any]
"""What was measured in a run; `problem` alone if it has no valid figures."""


@dataclass(frozen=True)
class Place:
    """Where a run takes place: a Kafka, the raw topic, and a folder and a final topic of its own."""

    kafka: str
    raw_topic: str
    folder: Path

    @property
    def settings(self) -> config.Settings:
        changes = {
            "bootstrap_servers": self.kafka,
            "raw_topic": self.raw_topic,
            "final_topic": f"{self.folder.name}-final",
            "dead_letter_topic": f"{self.folder.name}-dead",
            "station_topic": f"{self.folder.name}-stations",
            "checkpoint_dir": str(self.folder / "checkpoint"),
            "stations": config.ALL,
        }
        return config.Settings().model_copy(update=changes)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "VELIB_RAW_TOPIC": self.raw_topic,
            "VELIB_FINAL_TOPIC": self.settings.final_topic,
            "VELIB_DEAD_LETTER_TOPIC": self.settings.dead_letter_topic,
            "VELIB_STATION_TOPIC": self.settings.station_topic,
            "VELIB_CHECKPOINT_DIR": self.settings.checkpoint_dir,
            "VELIB_STATIONS": config.ALL,
        }


class Process:
    """A command with its output in files; what it and the processes that it starts take."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", " ".join(command[1:3]).strip("-"))
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.started = time.monotonic()
        self.peak_memory = 0  # bytes: the largest sum of the resident sets
        self.cpu_seconds = 0.0
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = psutil.Popen(
                command, cwd=PROJECT, env=os.environ | environment, stdout=out, stderr=err
            )
        self.ended = threading.Event()
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()

    def _sample(self) -> None:
        while not self.ended.wait(SAMPLE):
            self.look()

    def look(self) -> None:
        """Bring `peak_memory` and `cpu_seconds` up to date."""
        memory, cpu = 0, 0.0
        for process in self.tree():
            with suppress(psutil.Error):
                memory += process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system
        self.peak_memory = max(self.peak_memory, memory)
        self.cpu_seconds = max(self.cpu_seconds, cpu)

    def tree(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def wait(self, timeout: float) -> int | None:
        """Wait until it ends by itself; returns its exit status, None after the timeout."""
        with suppress(psutil.TimeoutExpired):
            return int(self.process.wait(timeout))
        return None

    def stop(self) -> None:
        """End it and what it has started."""
        self.ended.set()
        processes = self.tree()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait(STOP_TIMEOUT)
        for process in processes:
            with suppress(psutil.Error):
                process.kill()

    def problem(self) -> str:
        """The last line of its log."""
        lines = self.err.read_text(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no output")


@contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> Iterator[Process]:
    process = Process(command, folder, environment or {})
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def kafka(folder: Path) -> Iterator[tuple[str, Process]]:
    """A Kafka of the bench's own: its address and its process."""
    port = free_port()
    options = ["--port", str(port), "--data-dir", str(folder / "kafka")]
    with running([sys.executable, "-m", "local.broker", *options], folder) as broker:
        while "ready" not in broker.out.read_text():
            if broker.wait(0.1) is not None:
                raise Failure(f"Kafka did not start: {broker.problem()}")
        yield f"localhost:{port}", broker


def live(
    contender: Contender, place: Place, stations: int, warm_up: int, measured: int, period: float
) -> Figures:
    """Seconds from the commit of a snapshot until the last of its totals can be read."""
    settings = place.settings
    make_raw_topic(settings, partitions=1)
    publisher, is_copy = Publisher(settings), contender.arguments[1] == COPY.arguments[1]
    latencies: list[float] = []
    environment = place.environment | contender.environment
    with (
        Arrivals(settings) as arrivals,
        running(contender.command(), place.folder, environment) as process,
    ):
        cpu_before = first_total = 0.0
        for number, feed in zip(range(warm_up + measured), snapshots(stations), strict=False):
            started = time.monotonic()
            arrivals.expect(copies(feed) if is_copy else totals(feed))
            publisher.send(feed)
            committed = time.monotonic()
            publisher.commit()
            readable = arrivals.wait_for(feed["lastUpdatedOther"], process.process)
            if readable is None:
                return {"problem": f"wrong at snapshot {number}: {process.problem()}"}
            latencies.append(readable - committed)
            if number == 0:
                first_total = readable - process.started
            if number + 1 == warm_up:
                process.look()
                cpu_before = process.cpu_seconds
            if number >= warm_up:
                time.sleep(max(0.0, started + period - time.monotonic()))
        process.look()
        if not arrivals.are_right():
            return {"problem": "wrong"}
    return {
        "p50": percentile(latencies[warm_up:], 50),
        "p99": percentile(latencies[warm_up:], 99),
        "first_total": first_total,
        "memory_mb": process.peak_memory / 1e6,
        "cpu_per_snapshot": (process.cpu_seconds - cpu_before) / measured,
    }


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def copies(feed: dict[str, Any]) -> Totals:
    """What a copy of a snapshot's records has to be, by station code and snapshot."""
    last_updated = feed["lastUpdatedOther"]
    return {
        (station["stationCode"], last_updated): station | {"last_updated": last_updated}
        for station in feed["data"]["stations"]
    }


def catch_up(
    contender: Contender, place: Place, expected: Totals, records: int, **environment: str
) -> Figures:
    """Records a second of a contender that finds all records waiting."""
    topics.ensure(place.settings)
    environment = place.environment | contender.environment | environment
    command = contender.command("--available-now")
    with running(command, place.folder, environment) as process:
        status = process.wait(TIMEOUT)
        wall = time.monotonic() - process.started
        if status != 0:
            return {"problem": f"status {status}: {process.problem()}"}
    printed, logged = process.out.read_text(), process.err.read_text()
    batches = re.findall(r": \d+ records in, .*?, ([0-9.]+) s,", logged)
    seconds = sum(map(float, batches or re.findall(r"([0-9.]+) s$", printed)))
    counted = re.search(r"(\d+) records", printed)
    is_right = int(counted[1]) == records if counted else written(place.settings) == expected
    if not is_right:
        return {"problem": "wrong"}
    return {
        "records_per_second": records / seconds,
        "whole_records_per_second": records / wall,
        "seconds": seconds,
        "wall": wall,
        "memory_mb": process.peak_memory / 1e6,
        "cpu_seconds": process.cpu_seconds,
    }


def written(settings: config.Settings) -> Totals:
    """The last total of each postal code and snapshot in the final topic."""
    found: Totals = {}
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "bench"})
    partition = TopicPartition(settings.final_topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition)
    consumer.assign([partition])
    offset = 0
    while offset < end:
        for message in consumer.consume(10_000, timeout=0.5):
            offset = message.offset() + 1
            if message.value() is not None:
                total = orjson.loads(message.value())
                found[total["postal_code"], total["last_updated"]] = total
    consumer.close()
    return found
