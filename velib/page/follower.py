"""Follows the pipeline's topics with one Kafka consumer, and keeps a `Live` up to date.

It begins with what a page shows first: the totals of the last day, the newest snapshots of the raw
topic, the dead letters of the last day and every position. Then it waits for new records, and a
second reader looks through the older totals for postal codes that have no later one.
"""

import time
from threading import Thread

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from config import Settings
from velib import last_poll
from velib.errors import Failure
from velib.kafka import clients, topics
from velib.kafka.reader import Offsets, offsets_at, partitions
from velib.last_poll import LastPoll
from velib.page.state import DAY, MAX_DEAD_LETTERS, Live
from velib.runtime import log
from velib.totals import spans

MAX_TOTALS = 200_000  # offsets of a day at most
RECENT_STATIONS = 5_000  # offsets of the raw topic: three snapshots of the network
POLL_MS = 200
TIMEOUT_MS = 3_000  # for an answer of Kafka to a check
CHECK_SECONDS = 2.0  # between two checks of what no record tells
RETRY_SECONDS = 1.0


class Follower(Thread):
    """A thread that adds every record of the four topics to a `Live`, until the process ends.

    While Kafka is away it waits. If Kafka refuses for good it ends, and `failure` says why.
    """

    def __init__(self, settings: Settings, live: Live) -> None:
        super().__init__(daemon=True)
        self.settings, self.live = settings, live
        self.failure: Failure | None = None

    def run(self) -> None:
        try:
            topics.ensure(self.settings)
            while True:
                try:
                    self._follow()
                except KafkaError as error:
                    if not clients.is_transient(error):
                        raise Failure(clients.refusal_message(self.settings, error)) from None
                    log.warning("Kafka failed (%s): trying again", error)
                    with self.live.lock:
                        self.live.note(False, self.live.last_poll, 0)
                    time.sleep(RETRY_SECONDS)
        except Failure as failure:
            self.failure = failure

    def _follow(self) -> None:
        """Read each topic from where a page begins, for ever; raises KafkaError."""
        with clients.committed_consumer(self.settings) as consumer:
            starts = self._starts(consumer)
            if not self.live.latest:
                Thread(target=self._read_older_totals, args=(starts,), daemon=True).start()
            with self.live.lock:
                self.live.forget_waiting()
            assign(consumer, starts)
            next_check = 0.0
            while True:
                self._add(consumer)
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

    def _add(self, consumer: KafkaConsumer) -> None:
        """Add the records that have come."""
        batches = consumer.poll(POLL_MS)
        records = [record for batch in batches.values() for record in batch]
        with self.live.lock:
            for record in records:
                self.live.add(record)

    def _read_older_totals(self, starts: Offsets) -> None:
        """Add the totals before these offsets, of which the latest of each postal code counts."""
        ends = {p: end for p, end in starts.items() if p.topic == self.settings.final_topic}
        try:
            with clients.committed_consumer(self.settings) as consumer:
                assign(consumer, dict.fromkeys(ends, 0))
                while any((consumer.position(p) or 0) < end for p, end in ends.items()):
                    self._add(consumer)
        except KafkaError as error:
            log.warning("The totals of earlier days could not be read: %s", error)

    def _check(self, consumer: KafkaConsumer, starts: Offsets) -> None:
        """Note whether Kafka answers, what the producer noted, and how much waits unread."""
        is_up, poll, before = clients.is_reachable(self.settings), self.live.last_poll, 0
        if is_up:
            try:
                before = self._waiting_before(consumer, starts)
                poll = self._last_poll()
            except KafkaError as error:
                is_up = not clients.is_transient(error)
        with self.live.lock:
            self.live.note(is_up, poll, before)

    def _last_poll(self) -> LastPoll | None:
        """The producer's note; by a new client, as an old one may go on asking a dead broker."""
        with last_poll.client(self.settings) as admin:
            return last_poll.read(admin, self.settings)

    def _waiting_before(self, consumer: KafkaConsumer, starts: Offsets) -> int:
        """How many raw records without a total lie before the offsets from which we read.

        Those of the newest snapshot with a total are among them.
        """
        first = {p: start for p, start in starts.items() if p.topic == self.settings.raw_topic}
        newest_ms = self.live.newest_snapshot * 1000
        later = consumer.offsets_for_times(dict.fromkeys(first, newest_ms), TIMEOUT_MS)
        return sum(max(0, start - later[p].offset) for p, start in first.items() if later.get(p))


def assign(consumer: KafkaConsumer, starts: Offsets) -> None:
    """Have a consumer read each of these partitions from its offset on."""
    consumer.assign(list(starts))
    for partition, start in starts.items():
        consumer.seek(partition, start)


def start_offsets(
    consumer: KafkaConsumer, topic: str, since: float, at_least: int, at_most: int
) -> Offsets:
    """The first offset of each partition of a topic since a time (epoch seconds).

    It lies from `at_least` to `at_most` offsets before the end.
    """
    ends: Offsets = consumer.end_offsets(partitions(consumer, topic))
    firsts = offsets_at(consumer, ends, since)
    return {p: max(0, end - at_most, min(firsts[p], end - at_least)) for p, end in ends.items()}
