"""Measures the pipeline against Spark alone, in one run, as ratios: machines differ in speed.

    make bench            both
    python -m bench.run   the same, in the .venv

Latency: from a producer's commit of a snapshot of 1,500 stations until the last of its results can
be read, against a Spark job that copies the records from topic to topic. Catch-up: a million
records that wait in the topic, against Spark only counting them; three times in turns, and the
median. Each job is a process of its own, started anew on the same embedded Kafka.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

import config
from local.broker import free_port
from local.simulator import make_network, station_status
from velib import cli, connection, topics
from velib.cli import log
from velib.errors import Failure

PROJECT = Path(__file__).parent.parent
STATIONS = 1500
POSTAL_CODES = 89
WARM_UP, MEASURED = 150, 150  # snapshots; Java compiles through the first hundred
PERIOD = 0.5  # seconds between two snapshots
RECORDS, TURNS = 1_000_000, 3


def main() -> None:
    with tempfile.TemporaryDirectory() as name, _kafka(Path(name)) as address:
        os.environ |= {"KAFKA_BOOTSTRAP_SERVERS": address, "VELIB_STATIONS": config.ALL}
        copy = latencies(Path(name), "copy", ["-m", "bench.jobs", "copy"], STATIONS)
        pipeline = latencies(Path(name), "pipeline", ["spark.py"], POSTAL_CODES)
        settings = _settings("catchup")
        fill(settings)
        speeds = [
            (
                catch_up(Path(name), f"count-{turn}", ["-m", "bench.jobs", "count"]),
                catch_up(Path(name), f"whole-{turn}", ["spark.py", "--available-now"]),
            )
            for turn in range(TURNS)
        ]
    count, whole = (statistics.median(of_one) for of_one in zip(*speeds, strict=True))
    table = Table("", "Spark alone", "pipeline", "ratio", title=f"{os.cpu_count()} cores")
    for row, share in (("latency p50, s", 50), ("latency p99, s", 99)):
        alone, ours = _percentile(copy, share), _percentile(pipeline, share)
        table.add_row(row, f"{alone:.2f}", f"{ours:.2f}", f"{ours / alone:.2f}")
    table.add_row("catch-up, records/s", f"{count:,.0f}", f"{whole:,.0f}", f"{whole / count:.2f}")
    Console().print(table)


def _percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "local.broker",
        "--port",
        str(port),
        "--data-dir",
        str(folder / "kafka"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=PROJECT
    ) as broker:
        try:
            assert broker.stdout is not None
            if broker.stdout.readline() != "ready\n":
                raise Failure("Kafka did not start: try `python -m local.broker`")
            yield f"localhost:{port}"
        finally:
            broker.terminate()


def _settings(name: str) -> config.Settings:
    """Settings with topics of their own."""
    os.environ |= {
        "VELIB_RAW_TOPIC": name,
        "VELIB_FINAL_TOPIC": f"{name}-final",
        "VELIB_DEAD_LETTER_TOPIC": f"{name}-dead",
        "VELIB_STATION_TOPIC": f"{name}-stations",
    }
    settings = config.load()
    topics.ensure(settings)
    return settings


@contextmanager
def _job(folder: Path, name: str, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A Spark job as a process, once it has started."""
    environment = os.environ | {"VELIB_CHECKPOINT_DIR": str(folder / name)}
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()


def latencies(folder: Path, name: str, arguments: list[str], results: int) -> list[float]:
    """Seconds from the commit of each snapshot until the last of its results can be read."""
    log.info("Latency of %s", name)
    settings = _settings(name)
    network = make_network(STATIONS, 1)
    committed: list[float] = []
    readable: list[float] = []
    done = threading.Event()
    reader = threading.Thread(
        target=_note_arrivals, args=(settings, results, readable, done), daemon=True
    )
    reader.start()
    with _job(folder, name, arguments), _producer() as producer:
        for number in range(WARM_UP + MEASURED):
            started = time.monotonic()
            _send(producer, settings.raw_topic, network, 1_795_000_000 + 60 * number)
            committed.append(time.monotonic())
            producer.commit_transaction()
            while len(readable) <= number and time.monotonic() < started + 60:
                time.sleep(0.001)
            if len(readable) <= number:
                raise Failure(f"{name}: no results of snapshot {number} within 60 s")
            time.sleep(max(0.0, started + PERIOD - time.monotonic()))
        done.set()
    return [end - start for start, end in zip(committed, readable, strict=False)][WARM_UP:]


def _note_arrivals(
    settings: config.Settings, results: int, readable: list[float], done: threading.Event
) -> None:
    """Note when each full set of results has been read."""
    seen = 0
    partition = TopicPartition(settings.final_topic, 0)
    with KafkaConsumer(
        **connection.kafka_python_options(settings), enable_auto_commit=False, max_poll_records=5000
    ) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while not done.is_set():
            seen += len(consumer.poll(timeout_ms=100).get(partition, []))
            while seen >= results * (len(readable) + 1):
                readable.append(time.monotonic())


@contextmanager
def _producer() -> Iterator[KafkaProducer]:
    settings = config.load()
    with KafkaProducer(
        **connection.kafka_python_options(settings),
        transactional_id="bench",
        compression_type="gzip",
        batch_size=256 * 1024,
    ) as producer:
        producer.init_transactions()
        yield producer


def _send(producer: KafkaProducer, topic: str, network: list, last_updated: int) -> None:  # type: ignore[type-arg]
    producer.begin_transaction()
    for station in station_status(network, last_updated, 1)["data"]["stations"]:
        value = json.dumps(station | {"last_updated": last_updated}, separators=(",", ":")).encode()
        producer.send(topic, key=station["stationCode"].encode(), value=value)
    producer.flush()


def fill(settings: config.Settings) -> None:
    """Put a million records into the raw topic."""
    log.info("Writing %s records", f"{RECORDS:,}")
    network = make_network(STATIONS, 1)
    with _producer() as producer:
        for number in range(-(-RECORDS // STATIONS)):
            _send(producer, settings.raw_topic, network, 1_795_000_000 + 60 * number)
            producer.commit_transaction()


def catch_up(folder: Path, name: str, arguments: list[str]) -> float:
    """Records a second of a job that finds all records waiting."""
    log.info("Catch-up of %s", name)
    with _job(folder, name, arguments) as process:
        out, err = process.communicate(timeout=600)
    batches = [line.split() for line in out.splitlines()] or re.findall(
        r": (\d+) records in, .*, ([0-9.]+) s,", err
    )
    if not batches:
        raise Failure(f"{name} did nothing: {err}")
    return sum(int(records) for records, _ in batches) / sum(
        float(seconds) for _, seconds in batches
    )


if __name__ == "__main__":
    cli.run(main)
