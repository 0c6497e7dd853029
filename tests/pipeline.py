"""The real scripts as processes, with a Kafka and a feed: what the tests, chaos and soak share."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import config
import kafka_project
from config import KafkaSettings, Settings
from local.broker import free_port
from local.day import Day
from local.security import ADMIN, MECHANISM, SCRIPTS, Security, grant
from tests import PROJECT
from tests.expected import Total
from velib.kafka import clients, topics
from velib.producer.publisher import Publisher

DEADLINE = 150.0  # seconds; the machine may be slow, and a test that passes does not wait for it

BIN = Path(sys.executable).parent

NOT_THE_PRODUCER = [("written-by", b"a test")]
"""The header of the raw records that tests write. The producer's own records have no header."""


def wait_until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true value of the condition; fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {deadline:.0f} s: {what}")


def checkout(folder: Path) -> Path:
    """Link the project's files into a folder where scripts may leave theirs; returns the folder."""
    folder.mkdir(exist_ok=True)
    for path in PROJECT.iterdir():
        if path.name not in (".venv", ".velib", ".git"):
            (folder / path.name).symlink_to(path)
    return folder


def recorded(folder: Path) -> list[bytes]:
    """The answers of the API in a recording, in the order of their files' names."""
    return [gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*/*.json.gz"))]


class Script:
    """One of the project's scripts as a process of its own, whose stdout and stderr go to files."""

    def __init__(self, *arguments: str, folder: Path, environment: dict[str, str]) -> None:
        """Start `NAME.py …`, `-m MODULE …` or `spark-submit … NAME.py` in a folder."""
        name = arguments[1] if arguments[0] == "-m" else arguments[0].removesuffix(".py")
        words = [str(PROJECT / word) if word.endswith(".py") else word for word in arguments]
        is_submitted = arguments[0] == "spark-submit"
        command = [str(BIN / words[0]), *words[1:]] if is_submitted else [sys.executable, *words]
        number = sum(1 for _ in folder.glob(f"{name}.*.err"))
        self.out, self.err = folder / f"{name}.{number}.out", folder / f"{name}.{number}.err"
        python = {"PYTHONPATH": str(PROJECT), "PYTHONFAULTHANDLER": "1"}
        python["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        all_variables = os.environ | python | environment
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=all_variables,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def printed(self) -> list[str]:
        """The lines on stdout until now."""
        return self.out.read_text().splitlines()

    def printed_totals(self) -> list[Total]:
        """The totals that a consumer has printed with --json until now."""
        return [json.loads(line) for line in self.printed()]

    def log(self) -> str:
        """The text on stderr until now."""
        return self.err.read_text()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait_for(self, text: str) -> None:
        """Wait until the log has this text; fails if the script ends without it."""
        wait_until(lambda: text in self.log() or self.has_ended(), f"{text!r} in {self.err}")
        assert text in self.log(), f"status {self.process.poll()}: {self.log()}"

    def end(self) -> int:
        """Wait until the script ends by itself; returns its exit status."""
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # Python prints the stack of each thread
            self.process.wait()
            raise AssertionError(f"{self.err} does not end: {self.log()}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the script a signal; returns its exit status."""
        self.process.send_signal(number)
        return self.end()

    def kill(self) -> None:
        """End the script and the processes that it started with kill -9."""
        if not self.has_ended():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Api:
    """The Vélib' API as a folder served over HTTP: it answers what a test has put there."""

    def __init__(self, folder: Path, server: Script) -> None:
        self.folder, self.server = folder, server

    def put(self, answer: dict[str, Any], name: str = "station_status.json") -> None:
        """Make this the answer of a file of the API, in one step."""
        (self.folder / "next").write_text(json.dumps(answer))
        (self.folder / "next").rename(self.folder / name)

    def requests(self) -> int:
        """How often `station_status.json` has been asked for."""
        return self.server.log().count("GET /station_status.json")


class Pipeline:
    """A test's own topics, feed, checkpoint and settings, and the scripts that it starts."""

    def __init__(self, kafka: str, folder: Path, security: Security | None = None) -> None:
        self.folder = folder
        self.scripts: list[Script] = []
        self.environment = {"VELIB_POLL_SECONDS": "1", "VELIB_SPARK_MASTER": "local[1]"}
        self.use(kafka, security)

    def use(self, kafka: str, security: Security | None = None) -> None:
        """From now on use this Kafka. If it is secure, the test itself is its administrator, and
        each script has its own user, who has the rights that it needs on this test's topics.
        """
        topic = self.folder.name
        address = KafkaSettings(bootstrap_servers=kafka)
        admin = security.settings(kafka, ADMIN) if security else Settings(kafka=address)
        topics = {
            "raw_topic": topic,
            "final_topic": f"{topic}-final",
            "dead_letter_topic": f"{topic}-dead",
            "station_topic": f"{topic}-stations",
        }
        self.security = security
        self.settings = admin.model_copy(update=topics)
        self.client = clients.kafka_python_options(self.settings)
        self.environment |= {f"VELIB_{name.upper()}": value for name, value in topics.items()}
        self.environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka
        if security:
            grant(admin, self.settings)

    def user(self, script: str) -> dict[str, str]:
        """The settings with which a script's user reaches Kafka."""
        if self.security is None or script not in SCRIPTS:
            return {}
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": MECHANISM,
            "KAFKA_SASL_USERNAME": SCRIPTS[script],
            "KAFKA_SASL_PASSWORD": self.security.password(SCRIPTS[script]),
            "KAFKA_SSL_CAFILE": str(self.security.ca),
        }

    def settings_of(self, script: str, **environment: str) -> Settings:
        """The settings of a script that is started with this pipeline's settings and these."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in (self.environment | self.user(script) | environment).items():
                monkeypatch.setenv(name, value)
            return config.load()

    def publish_once(self) -> None:
        """Publish the snapshot that the feed has now, as `kafka_project.py --once` does."""
        settings = self.settings_of("kafka_project.py")
        kafka_project.publish_once(Publisher(settings, Event()), recording=None)

    def start(self, *arguments: str, **environment: str) -> Script:
        """Start a script with this pipeline's settings, and those given here."""
        environment = self.environment | self.user(arguments[0]) | environment
        script = Script(*arguments, folder=self.folder, environment=environment)
        self.scripts.append(script)
        return script

    def serve_api(self, name: str = "api") -> Api:
        """An API without an answer yet: it returns 404 until a test has put one there.

        Its folder has this name, and scripts that are started from now on read it.
        """
        folder, port = self.folder / name, free_port()
        folder.mkdir()
        self.environment["VELIB_API_URL"] = f"http://127.0.0.1:{port}"
        address = (str(port), "--bind", "127.0.0.1", "--directory", str(folder))
        server = self.start("-m", "http.server", *address)
        wait_until(lambda: clients.listens(f"127.0.0.1:{port}"), "the API is served")
        return Api(folder, server)

    def simulate(self, day: Day) -> Script:
        """The simulated API, on a port of its own."""
        port = free_port()
        self.environment["VELIB_API_URL"] = f"http://127.0.0.1:{port}"
        options = asdict(day) | {"port": port}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        simulator = self.start("-m", "local.simulator", *words)
        simulator.wait_for("VELIB_API_URL")
        return simulator

    def start_broker(self, *options: str) -> Script:
        """Start a Kafka of this pipeline's own, at the address that was given to `use`."""
        port = self.settings.kafka.bootstrap_servers.rpartition(":")[2]
        return self.start("-m", "local.broker", "--port", port, "--data-dir", "own", *options)

    def write(self, topic: str, *records: tuple[bytes | None, bytes | None]) -> None:
        """Put records (key and value) into a topic; raises KafkaError."""
        with KafkaProducer(**self.client, delivery_timeout_ms=30_000) as producer:
            sent = [
                producer.send(topic, key=key, value=value, headers=NOT_THE_PRODUCER)
                for key, value in records
            ]
            for future in sent:
                future.get(timeout=40)

    def write_totals(self, *totals: Total) -> None:
        """Put totals into the final topic, as the job does: the key is the postal code."""
        topics.ensure(self.settings)
        records = [(t["postal_code"].encode(), json.dumps(t).encode()) for t in totals]
        self.write(self.settings.final_topic, *records)

    def read(self, topic: str, committed: bool = True) -> Iterator[Any]:
        """The records that a topic has now, of one partition after the other; raises KafkaError."""
        level = "read_committed" if committed else "read_uncommitted"
        options = {"isolation_level": level, "enable_auto_commit": False}
        with KafkaConsumer(**self.client, **options) as consumer:
            for number in consumer.partitions_for_topic(topic) or ():
                partition = TopicPartition(topic, number)
                consumer.assign([partition])
                consumer.seek_to_beginning(partition)
                end = consumer.end_offsets([partition])[partition]
                while consumer.position(partition) < end:
                    yield from consumer.poll(timeout_ms=200).get(partition, [])

    def records(self, topic: str, committed: bool = True) -> list[Any]:
        """Every record of a topic now; raises KafkaError."""
        return list(self.read(topic, committed))

    def raw(self) -> list[Any]:
        """Every committed record of the raw topic."""
        return self.records(self.settings.raw_topic)

    def end_of_raw_topic(self) -> int:
        """The offset after the last record of the raw topic, which has one partition."""
        partition = TopicPartition(self.settings.raw_topic, 0)
        with KafkaConsumer(**self.client) as consumer:
            return int(consumer.end_offsets([partition])[partition])

    def published(self) -> dict[int, list[Any]]:
        """The stations of each snapshot that the producer has published, as they are stored."""
        snapshots: dict[int, list[Any]] = defaultdict(list)
        for record in self.raw():
            if not record.headers:
                station = json.loads(record.value)
                snapshots[station["last_updated"]].append(station)
        return snapshots

    def totals(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The last record of each postal code and snapshot in the final topic."""
        values = [json.loads(record.value) for record in self.records(self.settings.final_topic)]
        return {(total["postal_code"], total["last_updated"]): total for total in values}

    def wait_for_totals(self, snapshots: set[int]) -> dict[tuple[str, int], dict[str, Any]]:
        """The totals, once there are some of each of these snapshots."""
        wait_until(
            lambda: snapshots <= {snapshot for _, snapshot in self.totals()},
            f"totals of {snapshots}",
        )
        return self.totals()

    def dead_letters(self) -> list[Any]:
        """Every record of the dead letter topic."""
        return self.records(self.settings.dead_letter_topic)

    def kill_all(self) -> None:
        """End every script that still runs with kill -9."""
        for script in self.scripts:
            script.kill()
