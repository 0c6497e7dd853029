"""Follows the pipeline's topics with one Kafka consumer, and keeps a `PipelineState` up to date.

It begins with what a page shows first: the totals of the last day, the newest snapshots of the raw
topic, the dead letters of the last day and every position. Then it waits for new records, while a
second consumer reads the older totals, for postal codes that have no later one.
"""

import time
from threading import Event
from typing import NoReturn

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from config import CLOCK_TOLERANCE, Settings
from velib.errors import is_retriable
from velib.kafka import clients, membership, topics
from velib.kafka.reader import Offsets, Reader, assign, batches, end_offsets, offsets_at, partitions
from velib.page.state import DAY, MAX_DEAD_LETTERS, PipelineState
from velib.runtime import in_background, log
from velib.totals import spans

MAX_TOTALS = 200_000  # offsets: the most that are read of a day
RECENT_STATIONS = 5_000  # offsets of the raw topic: three snapshots of all stations
TIMEOUT_MS = 3_000  # for Kafka to answer a check
CHECK_SECONDS = 2.0  # between two checks of what no record shows
RETRY_SECONDS = 1.0


class Follower:
    """Adds every record of the four topics to a `PipelineState`. While Kafka is away it waits."""

    def __init__(self, settings: Settings, state: PipelineState) -> None:
        self.settings, self.state = settings, state
        self.has_warned = False

    def run(self) -> NoReturn:
        """Follow the topics until the process ends; raises Failure if Kafka refuses."""
        topics.ensure(self.settings)
        while True:
            try:
                self._follow()
            except KafkaError as error:
                clients.warn_of_retry(error, self.settings)
                with self.state.lock:
                    self.state.set_status(is_kafka_up=False, producers=None, unread_backlog=0)
                time.sleep(RETRY_SECONDS)

    def _follow(self) -> None:
        """Read each topic from where a page begins, forever; raises KafkaError."""
        with clients.committed_consumer(self.settings) as consumer:
            starts = self._starts(consumer)
            if not self.state.latest:
                in_background(lambda: self._read_older_totals(starts))
            with self.state.lock:
                self.state.reset_backlog()
            assign(consumer, starts)
            next_check = 0.0
            for records in batches(consumer):
                with self.state.lock:
                    for record in records:
                        self.state.add(record)
                if time.monotonic() > next_check:
                    self._check(consumer, starts)
                    next_check = time.monotonic() + CHECK_SECONDS

    def _starts(self, consumer: KafkaConsumer) -> Offsets:
        """The offset from which each partition of the four topics is read."""
        settings, now = self.settings, time.time()
        return (
            start_offsets(consumer, settings.final_topic, now - DAY, spans.RECENT, MAX_TOTALS)
            | start_offsets(consumer, settings.raw_topic, now, RECENT_STATIONS, RECENT_STATIONS)
            | start_offsets(consumer, settings.dead_letter_topic, now - DAY, 0, MAX_DEAD_LETTERS)
            | dict.fromkeys(partitions(consumer, settings.station_topic), 0)
        )

    def _read_older_totals(self, starts: Offsets) -> None:
        """Add the totals before these offsets; the latest of each postal code counts."""
        ends = {p: end for p, end in starts.items() if p.topic == self.settings.final_topic}
        with Reader(self.settings, self.settings.final_topic, Event()) as reader:
            latest = spans.later_totals(reader.read(ends=ends), {})
        with self.state.lock:
            for record in latest:
                self.state.add(record)

    def _check(self, consumer: KafkaConsumer, starts: Offsets) -> None:
        """Find out whether Kafka answers, how many producers run and how much is unread."""
        is_up, producers, unread = clients.is_reachable(self.settings), None, 0
        if is_up:
            try:
                unread = self._unread_backlog(consumer, starts)
                producers = self._producers()
            except KafkaError as error:
                is_up = not is_retriable(error)
        with self.state.lock:
            self.state.set_status(is_up, producers, unread)

    def _producers(self) -> int | None:
        """How many producers run; None if Kafka does not say."""
        timeouts = dict.fromkeys(("bootstrap_timeout_ms", "request_timeout_ms"), TIMEOUT_MS)
        try:
            # A new client each time: an old one may keep asking a broker that has died.
            with clients.Admin(self.settings, **timeouts) as admin:
                return membership.count(admin, self.settings)
        except KafkaError as error:
            if not (self.has_warned or is_retriable(error)):
                log.warning("The dashboard cannot tell whether a producer runs: %s", error)
                self.has_warned = True
            return None

    def _unread_backlog(self, consumer: KafkaConsumer, starts: Offsets) -> int:
        """How many raw records that may lack a total precede the offsets from which we read.

        It is an upper bound: the records of the newest snapshot with a total are counted too. 0 for
        a replay, whose records were written long after the time of their snapshots: Kafka finds
        records by the time of writing.
        """
        if self.state.raw_published_at - self.state.raw_snapshot > CLOCK_TOLERANCE:
            return 0
        first = {p: start for p, start in starts.items() if p.topic == self.settings.raw_topic}
        later = offsets_at(consumer, first, self.state.newest_snapshot, TIMEOUT_MS)
        return sum(max(0, start - later[p]) for p, start in first.items())


def start_offsets(
    consumer: KafkaConsumer, topic: str, since: float, at_least: int, at_most: int
) -> Offsets:
    """The first offset of each partition of a topic since a time (epoch seconds).

    It lies from `at_least` to `at_most` offsets before the end.
    """
    ends = end_offsets(consumer, topic)
    firsts = offsets_at(consumer, ends, since)
    return {p: max(0, end - at_most, min(firsts[p], end - at_least)) for p, end in ends.items()}
