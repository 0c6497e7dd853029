"""Runs a contender on its own topics, checks its totals, and measures it from outside."""

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, TopicPartition

import config
from bench.arrivals import Arrivals, WrongTotals
from bench.contenders import COPY, Contender
from bench.fill import Publisher, Totals, create_raw_topic, snapshots
from bench.processes import running
from config import KafkaSettings, Settings
from tests.expected import totals
from velib.kafka import topics

MAX_WARM_UP = 60.0  # seconds
TIMEOUT = 1_200.0  # seconds that a contender has to catch up

Figures = dict[str, Any]
"""What was measured in a run; only `problem` if it has no valid figures."""


@dataclass(frozen=True)
class RunEnvironment:
    """Where a run takes place: a Kafka, the raw topic, a folder and a final topic of its own."""

    kafka: str
    raw_topic: str
    folder: Path

    @property
    def values(self) -> dict[str, Any]:
        """The settings of the run without the address of Kafka, by their names in config.py."""
        name = self.folder.name
        return {
            "raw_topic": self.raw_topic,
            "final_topic": f"{name}-final",
            "dead_letter_topic": f"{name}-dead",
            "station_topic": f"{name}-stations",
            "checkpoint_dir": str(self.folder / "checkpoint"),
            "stations": config.ALL,
        }

    @property
    def settings(self) -> Settings:
        return Settings(kafka=KafkaSettings(bootstrap_servers=self.kafka), **self.values)

    @property
    def variables(self) -> dict[str, str]:
        """The settings of the run as environment variables of a process."""
        velib = {f"VELIB_{name.upper()}": value for name, value in self.values.items()}
        return velib | {"KAFKA_BOOTSTRAP_SERVERS": self.kafka}


def live(
    contender: Contender,
    environment: RunEnvironment,
    stations: int,
    warm_up: int,
    measured: int,
    period: float,
) -> Figures:
    """Seconds from the commit of a snapshot until the last of its totals can be read."""
    settings = environment.settings
    create_raw_topic(settings, partitions=1)
    publisher, feeds = Publisher(settings), snapshots(stations)
    is_copy = COPY.arguments[1] in contender.arguments
    variables = environment.variables | contender.environment
    with (
        Arrivals(settings) as arrivals,
        running(contender.command(), environment.folder, variables) as process,
    ):

        def latency() -> float:
            """The latency of the next snapshot; raises WrongTotals."""
            feed = next(feeds)
            arrivals.expect(copies(feed) if is_copy else totals(feed))
            publisher.send(feed)
            committed = time.monotonic()
            publisher.commit()
            return arrivals.wait_for(feed["lastUpdatedOther"], process.process) - committed

        try:
            latency()
            first_total = time.monotonic() - process.started
            _warm_up(latency, warm_up)
            process.measure()
            cpu_before = process.cpu_seconds
            latencies = [_in_period(latency, period) for _ in range(measured)]
            process.measure()
            arrivals.check()
        except WrongTotals as wrong:
            return {"problem": f"wrong ({wrong}): {process.problem()}"}
    return {
        "p50": percentile(latencies, 50),
        "p99": percentile(latencies, 99),
        "first_total": first_total,
        "memory_mb": process.peak_memory / 1e6,
        "cpu_per_snapshot": (process.cpu_seconds - cpu_before) / measured,
    }


def _warm_up(latency: Callable[[], float], count: int) -> None:
    """Process `count` snapshots as fast as possible, or fewer within MAX_WARM_UP seconds."""
    deadline = time.monotonic() + MAX_WARM_UP
    for _ in range(count):
        if time.monotonic() < deadline:
            latency()


def _in_period(latency: Callable[[], float], period: float) -> float:
    """A latency, and a pause until the period is over."""
    started = time.monotonic()
    seconds = latency()
    time.sleep(max(0.0, started + period - time.monotonic()))
    return seconds


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def copies(feed: dict[str, Any]) -> Totals:
    """The expected copy of a snapshot's records, by station code and snapshot."""
    last_updated = feed["lastUpdatedOther"]
    return {
        (station["stationCode"], last_updated): station | {"last_updated": last_updated}
        for station in feed["data"]["stations"]
    }


def catch_up(
    contender: Contender, environment: RunEnvironment, expected: Totals, records: int, **more: str
) -> Figures:
    """Records a second of a contender over a backlog."""
    topics.ensure(environment.settings)
    variables = environment.variables | contender.environment | more
    command = contender.command("--available-now")
    with running(command, environment.folder, variables) as process:
        status = process.wait(TIMEOUT)
        wall = time.monotonic() - process.started
        if status != 0:
            return {"problem": f"failed (status {status}): {process.problem()}"}
    printed, logged = process.out.read_text(), process.err.read_text()
    batches = re.findall(r": \d+ records in, .*?, ([0-9.]+) s,", logged)
    seconds = sum(map(float, batches or re.findall(r"([0-9.]+) s$", printed)))
    counted = re.search(r"(\d+) records", printed)
    is_right = int(counted[1]) == records if counted else written(environment.settings) == expected
    if not is_right:
        return {"problem": "wrong"}
    return {
        "records": records,
        "records_per_second": records / seconds,
        "whole_records_per_second": records / wall,
        "seconds": seconds,
        "wall": wall,
        "memory_mb": process.peak_memory / 1e6,
        "cpu_seconds": process.cpu_seconds,
    }


def written(settings: Settings) -> Totals:
    """The last total of each postal code and snapshot in the final topic."""
    found: Totals = {}
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "bench"}
    )
    partition = TopicPartition(settings.final_topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition)
    consumer.assign([partition])
    offset = 0
    while offset < end:
        for message in consumer.consume(10_000, timeout=0.5):
            offset = (message.offset() or 0) + 1
            if message.value():
                total = orjson.loads(message.value() or b"")
                found[total["postal_code"], total["last_updated"]] = total
    consumer.close()
    return found
