"""A real Kafka for the tests, the real scripts as processes, and a feed over HTTP whose snapshots a test chooses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

import topics
from local.broker import free_port
from local.security import ADMIN, MECHANISM, SCRIPTS, Security, grant
from tests.conftest import PROJECT

DEADLINE = 90.0  # seconds; these machines may be slow, and a test that passes does not wait for it

TOPICS = ("raw", "final", "dead_letter")

QUICK_START = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}  # a process that lives for a minute is best compiled quickly


def wait_until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true value of the condition; fails after the deadline."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {deadline:.0f} s: {what}")


class Script:
    """One of the project's scripts as a process of its own, with what it prints in files."""

    def __init__(self, *arguments: str, folder: Path, environment: dict[str, str]) -> None:
        name = f"{arguments[0].removesuffix('.py')}{arguments[1] if arguments[0] == '-m' else ''}"
        number = sum(1 for _ in folder.glob(f"{name}.*.err"))
        self.out, self.err = folder / f"{name}.{number}.out", folder / f"{name}.{number}.err"
        command = list(arguments) if arguments[0] == "-m" else [str(PROJECT / arguments[0]), *arguments[1:]]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=os.environ | QUICK_START | {"PYTHONPATH": str(PROJECT), "PYTHONFAULTHANDLER": "1"} | environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def printed(self) -> list[str]:
        return self.out.read_text().splitlines()

    def said(self) -> str:
        return self.err.read_text()

    def wait_for(self, text: str) -> None:
        """Until the script has said this on stderr."""
        wait_until(lambda: text in self.said() or self.process.poll() is not None, f"{text!r} in {self.err}")
        assert text in self.said(), f"{self.err} ends with status {self.process.poll()}: {self.said()}"

    def end(self) -> int:
        """Its exit status, once it has ended by itself; fails with where it is if it does not."""
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # Python prints the stack of each thread
            self.process.wait()
            raise AssertionError(f"{self.err} does not end: {self.said()}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.end()

    def kill(self) -> None:
        """kill -9, of it and of what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Security]]:
    """The address of a secure Kafka that all tests share, and who may use it; each test has topics of its own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("kafka")
    arguments = ("-m", "local.broker", "--port", str(port), "--data-dir", "data", "--secure")
    broker = Script(*arguments, folder=folder, environment={})
    try:
        wait_until(lambda: "ready" in broker.printed() or broker.process.poll() is not None, "Kafka is ready", 300)
        assert broker.process.poll() is None, broker.said()
        yield f"localhost:{port}", Security(folder / "data" / "security")
        assert broker.stop() == 0
        assert "Traceback" not in broker.said()
    finally:
        broker.kill()


class Pipeline:
    """A test's own settings, feed, topics and checkpoint, and the scripts that it starts on them."""

    def __init__(self, kafka: str, folder: Path, security: Security | None = None) -> None:
        """On a Kafka with security each script has its own user, with the rights that it needs on this test's topics."""
        self.folder = folder
        topic = folder.name
        self.environment: dict[str, str] = {
            "VELIB_RAW_TOPIC": topic,
            "VELIB_FINAL_TOPIC": f"{topic}-final",
            "VELIB_DEAD_LETTER_TOPIC": f"{topic}-dead",
            "VELIB_POLL_SECONDS": "1",
            "VELIB_SPARK_MASTER": "local[1]",
        }
        self.scripts: list[Script] = []
        self.security: Security | None = None
        self.client: dict[str, Any] = {}
        self.use(kafka)
        if security is not None:
            self.security = security
            admin = security.settings(kafka, ADMIN)
            self.client = topics.connection(admin)
            grant(admin, admin.model_copy(update={f"{name}_topic": self.topic(name) for name in TOPICS}))

    def use(self, kafka: str) -> None:
        """From now on, be on this Kafka, which is open to everybody."""
        self.environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka
        self.security = None
        self.client = {"bootstrap_servers": kafka.split(",")}

    def topic(self, name: str) -> str:
        """The test's own raw, final or dead_letter topic."""
        return self.environment[f"VELIB_{name.upper()}_TOPIC"]

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

    def start(self, *arguments: str, **environment: str) -> Script:
        environment = self.environment | self.user(arguments[0]) | environment
        script = Script(*arguments, folder=self.folder, environment=environment)
        self.scripts.append(script)
        return script

    def serve_folder(self) -> Path:
        """A folder served over HTTP as the API; returns it. Put snapshots into it with `put`."""
        feed, port = self.folder / "feed", free_port()
        feed.mkdir()
        self.environment["VELIB_API_URL"] = f"http://127.0.0.1:{port}"
        self.start("-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(feed))
        wait_until(lambda: topics.listens(f"127.0.0.1:{port}"), "the folder is served")
        return feed

    def simulate(self, stations: int, period: int = 2, seed: int = 1) -> Script:
        """The simulated feed, on a port of its own."""
        port = free_port()
        self.environment["VELIB_API_URL"] = f"http://127.0.0.1:{port}"
        options = {"--port": port, "--stations": stations, "--period": period, "--seed": seed}
        simulator = self.start("-m", "local.simulator", *[str(word) for option in options.items() for word in option])
        simulator.wait_for("VELIB_API_URL")
        return simulator

    def records(self, topic: str, committed: bool = True) -> list[Any]:
        """Every record of a topic now."""
        level = "read_committed" if committed else "read_uncommitted"
        with KafkaConsumer(**self.client, isolation_level=level, enable_auto_commit=False) as consumer:
            if not consumer.partitions_for_topic(topic):
                return []
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            consumer.seek_to_beginning(partition)
            end, records = consumer.end_offsets([partition])[partition], []
            while consumer.position(partition) < end:
                records += consumer.poll(timeout_ms=200).get(partition, [])
            return records

    def raw(self) -> list[Any]:
        return self.records(self.topic("raw"))

    def published(self) -> set[int]:
        """The time stamps of the snapshots that the producer has put into the raw topic."""
        return {json.loads(record.value)["last_updated"] for record in self.raw() if record.headers}

    def totals(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The last record of each postal code and snapshot in the final topic."""
        values = [json.loads(record.value) for record in self.records(self.topic("final"))]
        return {(total["postal_code"], total["last_updated"]): total for total in values}

    def wait_for_totals(self, of: set[int]) -> dict[tuple[str, int], dict[str, Any]]:
        """The totals, once there are some of each of these snapshots."""
        wait_until(lambda: of <= {snapshot for _, snapshot in self.totals()}, f"totals of {of}")
        return self.totals()

    def clean_up(self) -> None:
        for script in self.scripts:
            script.kill()


def put(feed: Path, answer: dict[str, Any]) -> None:
    """Make this the answer of `station_status.json`, at once."""
    (feed / "next").write_text(json.dumps(answer))
    (feed / "next").rename(feed / "station_status.json")


@pytest.fixture
def pipeline(kafka: tuple[str, Security], tmp_path: Path) -> Iterator[Pipeline]:
    servers, security = kafka
    pipeline = Pipeline(servers, tmp_path, security)
    yield pipeline
    pipeline.clean_up()
    for script in pipeline.scripts:
        # Python's own server prints a traceback when who asked has gone.
        assert "http.server" in script.err.name or "Traceback" not in script.said(), script.said()
