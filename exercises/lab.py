"""What the tests of the exercises work with: a Kafka, Spark, and the real day.

Each exercise is a folder: `README.md` is the task, `exercise.py` is the file to change, `test.py`
says whether it is right, `solution.py` is one way to do it.
"""

import importlib.util
import json
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from pyspark.sql import DataFrame, SparkSession

from docs import pocket
from local.day import Day
from velib.kafka.reader import assign, batches, end_offsets
from velib.page.text import PARIS

FOLDER = Path(__file__).parent
DAY = Day(period=300, start=1_730_965_500)
"""The real day, 7 November 2024 from 08:45 in Paris, with a snapshot every five minutes."""


class Wrong(Exception):
    """An answer is wrong. The message is one line: what was expected, and which record shows it."""


def folder_of(number: int) -> Path:
    """The folder of an exercise; raises ValueError if there is none."""
    folder = next(FOLDER.glob(f"{number:02}-*"), None)
    if folder is None:
        raise ValueError(f"There is no exercise {number}")
    return folder


def load(file: Path) -> ModuleType:
    """The module of a file whose folder is not a package."""
    spec = importlib.util.spec_from_file_location(f"{file.stem}_{uuid4().hex}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load_once = cache(load)


def test(number: int, answer: str, lab: "Lab") -> None:
    """Test the file `exercise` or `solution` of an exercise.

    Raises Wrong if its answer is wrong, and the errors of the file itself.
    """
    folder = folder_of(number)
    _load_once(folder / "test.py").test(lab, load(folder / f"{answer}.py"))


class Lab:
    """A Kafka without security and Spark, with topics of its own."""

    def __init__(self, kafka: str, spark: SparkSession, folder: Path) -> None:
        """`kafka` is its address; the folder is for checkpoints."""
        self.kafka, self.folder = kafka, folder
        self.spark = spark.newSession()
        self.spark.conf.set("spark.sql.shuffle.partitions", 1)

    @cached_property
    def producer(self) -> KafkaProducer:
        producer = KafkaProducer(bootstrap_servers=self.kafka, transactional_id=uuid4().hex)
        producer.init_transactions()
        return producer

    def topic(self, name: str = "stations") -> str:
        """Create a topic whose name begins like this, and return its whole name."""
        topic = f"{name}-{uuid4().hex[:6]}"
        with KafkaAdminClient(bootstrap_servers=self.kafka) as admin:
            admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
        return topic

    def publish(self, topic: str, *snapshots: dict[str, Any]) -> None:
        """Publish each snapshot, an answer of `station_status.json`, in a transaction."""
        for snapshot in snapshots:
            pocket.publish(self.producer, snapshot, topic)

    def read(self, topic: str) -> DataFrame:
        """The stream of a topic's committed records."""
        return pocket.read(self.spark, self.kafka, topic)

    def write(self, records: DataFrame) -> list[Any]:
        """Write a stream of records (`key`, `value`) to a new topic until the input that exists now
        is processed; returns the new topic's records.
        """
        topic = self.topic("totals")
        query = pocket.write(records, str(self.folder / topic), self.kafka, topic)
        try:
            query.processAllAvailable()
        finally:
            query.stop()
        return self.records(topic)

    def records(self, topic: str, committed: bool = True) -> list[Any]:
        """The records that are in a topic now."""
        level = "read_committed" if committed else "read_uncommitted"
        with KafkaConsumer(bootstrap_servers=self.kafka, isolation_level=level) as consumer:
            ends = end_offsets(consumer, topic)
            assign(consumer, dict.fromkeys(ends, 0))
            return [record for records in batches(consumer, ends) for record in records]


def snapshot(number: int, *codes: str) -> dict[str, Any]:
    """A snapshot of the real day, from 0 on: all its stations, or those with these codes."""
    status = DAY.status(DAY.start + number * DAY.period)
    if codes:
        stations = status["data"]["stations"]
        status["data"]["stations"] = [s for s in stations if s["stationCode"] in codes]
    return status


def clock(last_updated: int) -> str:
    """The time of a snapshot in Paris: `08:45`."""
    return f"{datetime.fromtimestamp(last_updated, PARIS):%H:%M}"


def where(record: Any) -> str:
    """A record as a line: topic, partition, offset, key and value."""
    key = f"{record.key.decode()} " if record.key else ""
    value = record.value.decode()[:250]
    return f"{record.topic} {record.partition}:{record.offset} {key}{value}"


def record_of(records: list[Any], code: str, last_updated: int) -> Any:
    """The first record of a station and snapshot."""
    for record in records:
        station = json.loads(record.value)
        if (station["stationCode"], station["last_updated"]) == (code, last_updated):
            return record
    raise LookupError(code)
