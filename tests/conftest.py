"""What all tests share: a Spark session, and an environment without settings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import config
from velib.job import session

# A process that lives for a minute starts faster if its code is not compiled thoroughly.
QUICK_START = "-XX:TieredStopAtLevel=1"


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No setting is set in the environment, and Java starts quickly."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for variable in config.variables():
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", QUICK_START)
        yield


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` is read, and what a test makes is made in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The job's own Spark session, with two cores."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("spark"))
        settings = config.load().model_copy(update={"spark_master": "local[2]"})
        with session.spark_session(settings) as spark:
            session.set_shuffle_partitions(spark, settings)
            yield spark


@contextmanager
def _clock_of(zone: str) -> Iterator[None]:
    """While the block runs, local time is the time of this zone."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def in_paris() -> Iterator[None]:
    with _clock_of("Europe/Paris"):
        yield


@pytest.fixture
def in_utc() -> Iterator[None]:
    with _clock_of("UTC"):
        yield
