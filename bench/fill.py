"""The simulated snapshots that all contenders read: written to Kafka, and their totals."""

import itertools
from collections.abc import Iterator
from threading import Event
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer

from config import Settings
from local.day import Day
from tests.expected import Total, totals
from velib.kafka import clients, topics

FIRST, MINUTE = 1_732_000_020, 60  # epoch seconds
STATIONS = 1_500
RECORDS = STATIONS + 1
"""Of a snapshot of a backlog: one station is in it twice, and counts once."""

Totals = dict[tuple[str, int], Total]
"""The total of each postal code and snapshot."""


def snapshots(stations: int) -> Iterator[dict[str, Any]]:
    """The answers of a simulated feed with this number of stations, one a minute."""
    day = Day(stations)
    for last_updated in itertools.count(FIRST, MINUTE):
        yield day.status(last_updated)


class Publisher:
    """Writes snapshots as kafka_project.py does, each in a transaction, but with Kafka's C client:
    the bench has millions to write.
    """

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.raw_topic
        self.producer = Producer(
            {
                "bootstrap.servers": settings.kafka.bootstrap_servers,
                "log_level": 0,  # it warns when Kafka is still starting, or ends first
                "transactional.id": topics.transactional_id(settings),
                "compression.type": "gzip",
                "batch.size": 256 * 1024,
                "linger.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self.producer.init_transactions()

    def send(self, feed: dict[str, Any], repeated: int = 0) -> None:
        """Write the records of a snapshot, and the first ones again; nobody sees them before
        `commit`.
        """
        self.producer.begin_transaction()
        stations = feed["data"]["stations"]
        for station in stations + stations[:repeated]:
            value = orjson.dumps(station | {"last_updated": feed["lastUpdatedOther"]})
            self.producer.produce(self.topic, key=station["stationCode"], value=value)
        if self.producer.flush(60):
            raise KafkaException(f"{self.topic} does not take the records")

    def commit(self) -> None:
        self.producer.commit_transaction()


def fill(settings: Settings, count: int, partitions: int) -> Totals:
    """Write `count` snapshots of RECORDS records to a new raw topic; returns their totals."""
    create_raw_topic(settings, partitions)
    publisher = Publisher(settings)
    expected: Totals = {}
    for feed in itertools.islice(snapshots(STATIONS), count):
        publisher.send(feed, repeated=RECORDS - STATIONS)
        publisher.commit()
        expected |= totals(feed)
    return expected


def create_raw_topic(settings: Settings, partitions: int) -> None:
    """Create the raw topic with these partitions, and the other topics as the scripts do."""
    new = {settings.raw_topic: {"num_partitions": partitions, "replication_factor": 1}}
    clients.when_reachable(settings, lambda admin: admin.create_topics(new), Event())
    topics.ensure(settings)
