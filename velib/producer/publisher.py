"""Publishes snapshots to the raw topic: one snapshot, one epoch, one transaction.

A request to commit may reach Kafka late, after the client has sent it again over another
connection. If the next transaction had the same epoch, Kafka would apply the request to it and
commit the records that have arrived so far: a part of a snapshot, permanently. So each transaction
has a new producer. Its `init_transactions` raises the epoch, and Kafka refuses requests with an
older one.

This also lets any number of producers run at once. For each transaction, a producer first fences
the others, then reads the newest snapshot in the topic and publishes only newer ones. A fenced one
tries again, and finds that it has nothing left to publish.
"""

import json
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, TypeVar

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from prometheus_client import Counter, Gauge, Histogram

from config import Settings
from velib.feed.api import MAX_ANSWER_BYTES
from velib.feed.snapshot import Snapshot
from velib.kafka import clients, raw_topic, topics
from velib.runtime import backoff, local_time, log

TRANSACTION_TIMEOUT = 20  # seconds after which Kafka aborts a transaction that nobody ends
REQUEST_TIMEOUT = 10  # seconds without an answer after which a request is sent again
FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds between two attempts

PUBLISHED = Counter("velib_producer_snapshots_published", "Snapshots published since the start.")
STATIONS = Gauge("velib_producer_stations", "Stations of the last snapshot that was published.")
DURATION = Histogram(
    "velib_producer_publish_duration_seconds",
    "Time to publish a snapshot, up to the end of its transaction.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
FEED_AGE = Gauge(
    "velib_producer_feed_age_seconds",
    "Age of the newest published snapshot by the feed's own timestamp, NaN if there is none.",
)

Record = tuple[bytes | None, bytes]
"""Key and value."""

T = TypeVar("T")


class Publisher:
    """Publishes the snapshots that are newer than the newest one in the raw topic.

    Retries while Kafka is away. Raises Failure if Kafka refuses.
    """

    def __init__(self, settings: Settings, stop: Event) -> None:
        """Once `stop` is set, nothing is retried."""
        self.settings, self.stop = settings, stop
        self.newest = 0
        """The newest snapshot that is known to be in the topic (epoch seconds)."""

        FEED_AGE.set_function(lambda: time.time() - self.newest if self.newest else math.nan)
        self.is_connected = False
        self.published = 0  # the newest snapshot that this producer itself has published
        self.has_skipped = False

    def publish(self, snapshots: Sequence[Snapshot]) -> float | None:
        """Publish what is newer in one transaction, and return the seconds that it took.

        Returns None if there was nothing to publish, or nothing could be published until `stop`.
        """
        return self._retry(lambda: self._publish_newer(snapshots))

    def find_newest(self) -> int:
        """The newest snapshot in the topic (epoch seconds), 0 if there is none."""
        self._retry(self._read_newest)
        return self.newest

    def _retry(self, attempt: Callable[[], T]) -> T | None:
        """Retry until an attempt succeeds, and return its result; None if `stop` is set first."""
        delays = backoff(FIRST_PAUSE, MAX_PAUSE)
        while not self.stop.is_set():
            try:
                if self._connect():
                    return attempt()
            except KafkaError as error:
                self.is_connected = False
                if not is_fenced(error):
                    clients.warn_of_retry(error, self.settings)
            # A random delay, so that two producers do not keep fencing each other.
            longest = next(delays)
            self.stop.wait(random.uniform(longest / 2, longest))
        return None

    def _connect(self) -> bool:
        """Wait for Kafka and for the topics, after the start and after a failure.

        Returns False if `stop` is set first.
        """
        if not self.is_connected and topics.ensure(self.settings, stop=self.stop):
            raw_topic.refuse_compaction(self.settings)
            self.is_connected = True
        return self.is_connected

    def _read_newest(self) -> None:
        newest = raw_topic.newest_snapshot(self.settings)
        if newest and not self.newest:
            log.info("Resuming after snapshot %s", local_time(newest))
        self.newest = max(self.newest, newest)

    def _publish_newer(self, snapshots: Sequence[Snapshot]) -> float | None:
        started = time.monotonic()
        if not self._newer(snapshots):
            return None
        with fencing_producer(self.settings, topics.transactional_id(self.settings)) as producer:
            self._read_newest()
            newer = self._newer(snapshots)
            if not newer:
                return None
            records = [to_record(s, each.last_updated) for each in newer for s in each.stations]
            send_in_transaction(producer, self.settings.raw_topic, records)
        seconds = time.monotonic() - started
        for snapshot in newer:
            PUBLISHED.inc()
            STATIONS.set(len(snapshot.stations))
            DURATION.observe(seconds / len(newer))
        self.newest = self.published = newer[-1].last_updated
        return seconds

    def _newer(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """The snapshots that the topic does not have yet. Logs the first time that there are none,
        unless a poll only returns what this producer has published.
        """
        newer = [snapshot for snapshot in snapshots if snapshot.last_updated > self.newest]
        last = snapshots[-1].last_updated
        if not (newer or self.has_skipped or last == self.published):
            self.has_skipped = True
            published = "it" if last == self.newest else local_time(self.newest)
            log.info("Snapshot %s skipped: %s is already published", local_time(last), published)
        return newer


@contextmanager
def fencing_producer(settings: Settings, transactional_id: str) -> Iterator[KafkaProducer]:
    """A producer that has fenced every earlier one with this id; raises KafkaError.

    By then a transaction that an earlier producer left open is aborted, or committed if its commit
    had begun.
    """
    producer = KafkaProducer(
        **clients.kafka_python_options(settings),
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_TIMEOUT * 1000,
        max_block_ms=TRANSACTION_TIMEOUT * 1000,
        delivery_timeout_ms=TRANSACTION_TIMEOUT * 1000,
        request_timeout_ms=REQUEST_TIMEOUT * 1000,
        compression_type="gzip",
        batch_size=256 * 1024,
        max_request_size=MAX_ANSWER_BYTES,  # Kafka's own limit is for the compressed batch
        allow_auto_create_topics=False,
    )
    try:
        _init_transactions(producer)
        yield producer
    finally:
        with suppress(KafkaError):
            producer.close(timeout=1)


def _init_transactions(producer: KafkaProducer) -> None:
    try:
        producer.init_transactions()
    except KafkaTimeoutError:
        raise KafkaTimeoutError(
            f"no transaction could be started within {TRANSACTION_TIMEOUT} s: are there as many"
            " brokers as transaction.state.log.replication.factor requires?"
        ) from None


def send_in_transaction(producer: KafkaProducer, topic: str, records: Sequence[Record]) -> None:
    """Send the records in one transaction. Raises KafkaError; the next producer with the same id
    then aborts what was sent.
    """
    producer.begin_transaction()
    sent = [producer.send(topic, key=key, value=value) for key, value in records]
    for result in sent:  # send() does not say why a record failed: its result does
        result.get(timeout=TRANSACTION_TIMEOUT)
    producer.commit_transaction()


def to_record(station: Any, last_updated: int) -> Record:
    """Key and value of a station's record: the station as received, plus its snapshot.

    A station that is not a JSON object is published unchanged.
    """
    key = None
    if isinstance(station, dict):
        code = station.get("stationCode")
        key = None if code is None else str(code).encode(errors="replace")
        station = station | {"last_updated": last_updated}
    return key, json.dumps(station, separators=(",", ":")).encode()


def is_fenced(error: KafkaError) -> bool:
    """Whether a later producer has fenced this one. That one then publishes the snapshot.

    kafka-python wraps the error of a send, or quotes it in its own. Kafka also fences a producer
    whose transaction took too long, for example in a suspended process.
    """
    return re.search("producer_?(fenced|epoch)", repr(error), re.IGNORECASE) is not None
