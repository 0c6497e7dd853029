"""Reads topics of one partition past the proxy, with kafka-python only: no code of the scripts."""

import threading
import time
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError


def consumer_from(servers: str, partition: TopicPartition, start: int = 0) -> KafkaConsumer:
    """A consumer of the committed records of a partition from an offset on.

    A negative offset counts from the end.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=servers.split(","),
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    consumer.assign([partition])
    if start < 0:
        start = max(0, consumer.end_offsets([partition])[partition] + start)
    consumer.seek(partition, start)
    return consumer


def read(servers: str, topic: str, start: int = 0) -> list[Any]:
    """The committed records of a topic from an offset up to its end now; raises KafkaError."""
    partition = TopicPartition(topic, 0)
    with consumer_from(servers, partition, start) as consumer:
        end = consumer.end_offsets([partition])[partition]
        records: list[Any] = []
        while consumer.position(partition) < end:
            records += consumer.poll(timeout_ms=200).get(partition, [])
        return [record for record in records if record.offset < end]


class Reader(threading.Thread):
    """Reads a topic again and again, in a thread, until `done` is set."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.servers, self.partition = servers, TopicPartition(topic, 0)
        self.done = threading.Event()
        self.reads = 0

    def run(self) -> None:
        next_offset = 0
        while not self.done.is_set():
            try:
                with consumer_from(self.servers, self.partition, next_offset) as consumer:
                    ahead: list[Any] = []  # records behind the end that a read goes up to
                    while not self.done.wait(0.05):
                        end = consumer.end_offsets([self.partition])[self.partition]
                        while consumer.position(self.partition) < end:
                            ahead += consumer.poll(timeout_ms=200).get(self.partition, [])
                        self.saw([record for record in ahead if record.offset < end])
                        self.reads += 1
                        ahead = [record for record in ahead if record.offset >= end]
                        next_offset = end
            except KafkaError:
                time.sleep(0.5)

    def saw(self, records: list[Any]) -> None:
        """Take the records that have become visible since the previous read."""
        raise NotImplementedError
