"""Reads committed records: the one loop around Kafka's `poll`, and a reader of a whole topic."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from config import Settings
from velib.kafka import clients
from velib.runtime import log

POLL_MS = 500
OFFSETS_MS = 5_000  # for Kafka to return the end offsets, or the offsets of a time
RETRY_SECONDS = 1.0
CHECK_SECONDS = 5.0  # between two checks whether Kafka answers, while no record arrives

Offsets = dict[TopicPartition, int]


def partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic; raises KafkaError if the consumer's broker does not know it."""
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise UnknownTopicOrPartitionError(topic)
    return [TopicPartition(topic, number) for number in numbers]


def end_offsets(consumer: KafkaConsumer, topic: str, timeout_ms: int | None = None) -> Offsets:
    """The offset after the last record of each partition of a topic; raises KafkaError.

    kafka-python forgets a partition that has no leader if it is asked for several, so it is asked
    for one after the other.
    """
    return {
        partition: consumer.end_offsets([partition], timeout_ms)[partition]
        for partition in partitions(consumer, topic)
    }


def offsets_at(
    consumer: KafkaConsumer, ends: Offsets, written_at: float, timeout_ms: int | None = None
) -> Offsets:
    """The offset of each partition's first record written at or after a time (epoch seconds), or
    its offset in `ends` if there is none. Raises KafkaError.
    """
    times = dict.fromkeys(ends, max(0, int(written_at * 1000)))
    found = consumer.offsets_for_times(times, timeout_ms)
    return {p: found[p].offset if found.get(p) else end for p, end in ends.items()}


def assign(consumer: KafkaConsumer, starts: Offsets) -> None:
    """Have a consumer read these partitions, each from its offset."""
    consumer.assign(list(starts))
    for partition, start in starts.items():
        consumer.seek(partition, start)


def batches(consumer: KafkaConsumer, ends: Offsets | None = None) -> Iterator[list[Any]]:
    """Yield the records of each poll, from where the consumer is up to `ends`, or forever.

    Without a new record it yields an empty list every POLL_MS. Raises KafkaError; called again, it
    resumes where it left off.
    """

    def is_at_end() -> bool:
        # The position is None while the consumer resets to the earliest offset.
        return ends is not None and all(
            (consumer.position(partition, POLL_MS) or 0) >= end for partition, end in ends.items()
        )

    while not is_at_end():
        polled = consumer.poll(POLL_MS)
        yield [
            record
            for partition, records in polled.items()
            for record in records
            if ends is None or record.offset < ends[partition]
        ]


def latest_values(settings: Settings, topic: str) -> dict[bytes, bytes]:
    """The last value of each key of a whole topic, without deleted ones; raises KafkaError."""
    with clients.committed_consumer(settings) as consumer:
        ends = end_offsets(consumer, topic)
        assign(consumer, dict.fromkeys(ends, 0))
        values = {r.key: r.value for records in batches(consumer, ends) for r in records}
    return {key: value for key, value in values.items() if value is not None}


class Reader:
    """Reads the committed records of a topic, of all its partitions.

    It ends when `stop` is set, or `timeout_ms` after it was created or renewed. While Kafka is away
    it waits, then resumes where it left off. Raises Failure if Kafka refuses.
    """

    def __init__(
        self, settings: Settings, topic: str, stop: Event, timeout_ms: float | None = None
    ) -> None:
        self.settings, self.topic, self.stop = settings, topic, stop
        self.timeout = float("inf") if timeout_ms is None else timeout_ms / 1000
        self.consumer: Any = None  # a KafkaConsumer, once connected
        self.ends: Offsets = {}  # as they were when it connected
        self.is_away = False
        self.next_check = time.monotonic() + CHECK_SECONDS
        self.before_poll: Callable[[], None] = lambda: None
        """Is called each time before the reader waits for records."""
        self.renew()

    def renew(self) -> None:
        """Restart the timeout."""
        self.deadline = time.monotonic() + self.timeout

    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def is_over(self) -> bool:
        """Whether the reader has ended: it was stopped, or the timeout has passed."""
        return self.stop.is_set() or self.seconds_left() == 0

    def wait_for_topic(self) -> bool:
        """Wait until the topic exists; returns False if the reader ends first."""
        is_there = False

        def check_topic(admin: KafkaAdminClient) -> None:
            nonlocal is_there
            (topic,) = admin.describe_topics([self.topic])
            error = for_code(topic["error_code"])
            is_there = topic["error_code"] == 0
            if not is_there and error is not UnknownTopicOrPartitionError:
                raise error(self.topic)

        is_waiting = False
        while not self.is_over():
            if clients.when_reachable(self.settings, check_topic, self.stop, self.seconds_left()):
                if is_there:
                    return True
                if not is_waiting:
                    log.info("Waiting for the topic %s", self.topic)
                    is_waiting = True
                self._pause()
        return False

    def __enter__(self) -> "Reader":
        while not (self.ends or self.is_over()):
            with self._waiting_out_failures(), suppress(UnknownTopicOrPartitionError):
                self.consumer = self.consumer or clients.committed_consumer(self.settings)
                self.ends = end_offsets(self.consumer, self.topic, OFFSETS_MS)
            if not self.ends and self.wait_for_topic():
                self.stop.wait(clients.FIRST_RETRY)  # the consumer's broker may not know it yet
        return self

    def __exit__(self, *exception: object) -> None:
        if self.consumer is not None:
            self.consumer.close()

    def offsets_at(self, written_at: float) -> Offsets:
        """The offset of each partition's first record written at or after a time (epoch seconds),
        its end if there is none; empty if the reader ends first.
        """
        while not self.is_over():
            with self._waiting_out_failures():
                return offsets_at(self.consumer, self.ends, written_at, OFFSETS_MS)
        return {}

    def read(self, starts: Offsets | None = None, ends: Offsets | None = None) -> Iterator[Any]:
        """Yield the records from the offsets `starts`, by default the oldest, up to `ends`; without
        `ends`, each new one as well. Stops early if the reader ends.
        """
        if not self.is_over():
            assign(self.consumer, dict.fromkeys(self.ends, 0) if starts is None else starts)
            self.before_poll()
        while not self.is_over():
            with self._waiting_out_failures():
                for records in batches(self.consumer, ends):
                    yield from records
                    if self.is_over():
                        return
                    if not records and time.monotonic() > self.next_check:
                        self._check_kafka()
                    self.before_poll()
                return

    @contextmanager
    def _waiting_out_failures(self) -> Iterator[None]:
        """Log an error that a retry may fix, and wait a second; raises Failure for any other."""
        try:
            yield
        except KafkaError as error:
            clients.warn_of_retry(error, self.settings)
            self._pause()

    def _pause(self) -> None:
        self.stop.wait(min(RETRY_SECONDS, self.seconds_left()))

    def _check_kafka(self) -> None:
        """Log when Kafka stops or resumes answering: a poll without records does not show it."""
        was_away, self.is_away = self.is_away, not clients.is_reachable(self.settings)
        if self.is_away and not was_away:
            servers = self.settings.kafka.bootstrap_servers
            log.warning("Kafka at %s does not answer: waiting for it", servers)
        if was_away and not self.is_away:
            log.info("Kafka answers again")
        self.next_check = time.monotonic() + CHECK_SECONDS
