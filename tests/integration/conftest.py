"""The Kafka that the integration tests share, and each test's own pipeline on it."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from pyspark.sql import SparkSession

import spark as job
from local.broker import free_port
from local.own_kafka import own_kafka
from local.security import Security
from tests.in_process import Consumer, RunJob, Start
from tests.pipeline import Pipeline, Script, wait_until


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Security]]:
    """A secure Kafka for all tests: its address, and its users. Each test has topics of its own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("kafka")
    arguments = ("-m", "local.broker", "--port", str(port), "--data-dir", "data", "--secure")
    broker = Script(*arguments, folder=folder, environment={})
    try:
        wait_until(lambda: "ready" in broker.printed() or broker.has_ended(), "Kafka is ready", 300)
        assert not broker.has_ended(), broker.log()
        yield f"localhost:{port}", Security(folder / "data" / "security")
        assert broker.stop() == 0
        assert "Traceback" not in broker.log()
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def plain_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka without security, for what knows none: docs/pocket.py, exercises."""
    with own_kafka(tmp_path_factory.mktemp("plain-kafka")) as kafka:
        yield kafka


@pytest.fixture
def pipeline(kafka: tuple[str, Security | None], tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline on the shared Kafka, with a user for each script. No script prints a traceback."""
    servers, security = kafka
    pipeline = Pipeline(servers, tmp_path, security)
    yield pipeline
    pipeline.kill_all()
    for script in pipeline.scripts:
        # Python's own server prints a traceback when a client has gone.
        assert "http.server" in script.err.name or "Traceback" not in script.log(), script.log()


@pytest.fixture
def start(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """Starts the consumer with these options, as the user who may only read its two topics."""
    stdout = tmp_path / "stdout"  # pytest's own capture loses what is printed while it is read

    def start(*options: str) -> Consumer:
        settings = pipeline.environment | pipeline.user("consumer.py")
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", file)
        return Consumer(output, *options)

    with stdout.open("w", buffering=1) as file, stdout.open() as output:
        yield start


@pytest.fixture
def run_job(pipeline: Pipeline, spark: SparkSession, caplog: pytest.LogCaptureFixture) -> RunJob:
    """Runs the job on what is in the topic now, in the tests' Spark, as its own user; returns what
    it has logged. By default it counts all stations. Raises Failure.
    """

    def run_job(reset_checkpoint: bool = False, **environment: str) -> str:
        own = {
            "VELIB_CHECKPOINT_DIR": str(pipeline.folder / "checkpoint"),
            "VELIB_STATIONS": "all",
        }
        settings = pipeline.settings_of("spark.py", **own | environment)
        caplog.clear()
        with caplog.at_level(logging.INFO, "velib"):
            session = spark.newSession()  # with options and listeners of its own
            job.run(
                session, settings, Event(), available_now=True, reset_checkpoint=reset_checkpoint
            )
        return caplog.text

    return run_job
