"""Reads a topic of the job's results: its committed records, old and new."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from config import Settings
from velib.errors import Failure, describe, is_retriable
from velib.kafka import clients, topics
from velib.kafka.topics import Offsets
from velib.runtime import log

MAX_OFFSET = 2**63 - 1  # an offset has 64 bits
POLL_MS = 500
OFFSETS_MS = 5_000  # for Kafka to tell where the partitions end, or where a time is
RETRY_SECONDS = 1.0
CHECK_SECONDS = 5.0  # between two checks whether Kafka is there, while no record comes


class Deadline:
    """When reading ends: some time after the start or the last message; never if None is given."""

    def __init__(self, timeout_ms: int | None) -> None:
        self.timeout = float("inf") if timeout_ms is None else timeout_ms / 1000
        self.renew()

    def renew(self) -> None:
        self.time = time.monotonic() + self.timeout

    def seconds_left(self) -> float:
        return max(0.0, self.time - time.monotonic())

    def has_passed(self) -> bool:
        return self.seconds_left() == 0


class Reader:
    """Reads the committed records of a topic, of all its partitions, until the deadline.

    While Kafka is away it waits, and then it goes on where it was. Raises Failure if Kafka refuses.
    """

    def __init__(self, settings: Settings, topic: str, deadline: Deadline) -> None:
        self.settings, self.topic, self.deadline = settings, topic, deadline
        self.consumer: Any = None  # a KafkaConsumer, once connected
        self.beginnings: Offsets = {}
        self.ends: Offsets = {}  # as they were when it connected
        self.is_away = False
        self.next_check = time.monotonic() + CHECK_SECONDS
        self.before_poll: Callable[[], None] = lambda: None
        """Is called each time before the reader waits for records."""

    def __enter__(self) -> "Reader":
        while not (self.ends or self.deadline.has_passed()):
            with self._waiting_out_failures():
                self.consumer = self.consumer or clients.committed_consumer(self.settings)
                partitions = topics.partitions(self.consumer, self.topic)
                self.consumer.assign(partitions)
                self.beginnings = dict.fromkeys(partitions, 0)
                self.ends = self.consumer.end_offsets(partitions, OFFSETS_MS)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.consumer is not None:
            self.consumer.close()

    def offsets_at(self, written_at: float) -> Offsets:
        """The offset of each partition's first record that was written at that time (epoch seconds)
        or later, its end if there is none; nothing if the deadline passes.
        """
        while not self.deadline.has_passed():
            with self._waiting_out_failures():
                return topics.offsets_at(self.consumer, self.ends, written_at, OFFSETS_MS)
        return {}

    def read(self, starts: Offsets, ends: Offsets | None = None) -> Iterator[Any]:
        """The records from the offsets `starts` up to `ends`; without `ends`, also each new one.

        They end early if the deadline passes.
        """
        ends = ends or dict.fromkeys(starts, MAX_OFFSET)
        for partition, start in starts.items():
            self.consumer.seek(partition, start)
        is_at_end = False
        while not (is_at_end or self.deadline.has_passed()):
            batches: dict[TopicPartition, list[Any]] = {}
            self.before_poll()
            with self._waiting_out_failures():
                batches = self.consumer.poll(min(POLL_MS, 1000 * self.deadline.seconds_left()))
                # There is no position while Kafka is asked for its oldest record, if that is newer.
                positions = {p: self.consumer.position(p, POLL_MS) or 0 for p in ends}
                is_at_end = all(positions[p] >= end for p, end in ends.items())
            for partition, batch in batches.items():
                yield from (record for record in batch if record.offset < ends[partition])
            if not batches and time.monotonic() > self.next_check:
                self._check_kafka()

    @contextmanager
    def _waiting_out_failures(self) -> Iterator[None]:
        """Log a transient failure of Kafka and wait a second; raise Failure for any other."""
        try:
            yield
        except KafkaError as error:
            if not is_retriable(error):
                raise Failure(describe(error, self.settings)) from None
            log.warning("Kafka failed (%s): trying again", error)
            time.sleep(min(RETRY_SECONDS, self.deadline.seconds_left()))

    def _check_kafka(self) -> None:
        """Log that Kafka has gone away or is back: a poll without records does not tell."""
        was_away, self.is_away = self.is_away, not clients.is_reachable(self.settings)
        if self.is_away and not was_away:
            log.warning(clients.no_answer_message(self.settings))
        if was_away and not self.is_away:
            log.info("Kafka answers again")
        self.next_check = time.monotonic() + CHECK_SECONDS
