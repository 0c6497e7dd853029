"""The producer: publishes every new snapshot of the Vélib' feed to the topic `velib-projet`.

    python kafka_project.py                poll the feed until stopped
    python kafka_project.py --once         publish one snapshot, then stop
    python kafka_project.py --record DIR   also keep every snapshot in a file, as it came
    python kafka_project.py --replay DIR   publish what was recorded, at its own pace (--speed 1)
    python kafka_project.py --standby      wait while another one publishes, then take over

Without the network, on a Kafka and a feed of this machine, each command in its own terminal:

    python -m local.broker
    python -m local.simulator
    VELIB_API_URL=http://localhost:8000 python kafka_project.py

Each station of a snapshot is one record. Its key is the station code; its value is the station as
the feed has it, and the time of the snapshot:

    16107  {"station_id":213688169,"num_bikes_available":4,...,"last_updated":1732004538}

The records of a snapshot are one transaction, so a reader sees the whole snapshot or nothing of it.
The names and positions of the stations go to `velib-projet-stations`, when they are new or changed.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
)

import config
from config import Settings
from velib import runtime
from velib.background import in_thread
from velib.errors import Failure, describe, is_retriable
from velib.feed.api import MAX_ANSWER_BYTES
from velib.feed.snapshot import Feed, Snapshot
from velib.feed.watch import FeedWatch, MissingStations
from velib.kafka import clients, topics
from velib.last_poll import LastPoll, LastPollNote
from velib.producer import metrics
from velib.producer.polling import poll, read_once, record_meanwhile
from velib.producer.positions import StationInformation
from velib.producer.recording import Recording
from velib.producer.replay import Replay, parse_speed
from velib.runtime import local_time, log
from velib.standby import stand_by

RECONNECT_PAUSE = 5  # seconds after an error of Kafka
TRANSACTION_TIMEOUT = 20  # seconds from the first record of a snapshot to the end of its commit
SLOW_TRANSACTION = 5  # seconds after which a log line says that Kafka does not answer: so many
SLOW_PACE = 10_000  # more as its records take at this number a second
INFORMATION_TIMEOUT = 0.5  # seconds that a poll waits for the positions of the stations

Record = tuple[bytes | None, bytes]


def main() -> None:
    arguments = _parse_arguments()
    settings = config.load()
    metrics.serve(settings.metrics_port)
    publish = replaying(settings, arguments) if arguments.replay else polling(settings, arguments)
    while True:
        try:
            publish()
            return
        except KafkaError as error:  # the next publisher finds in the topic what was committed
            if not is_retriable(error):
                raise Failure(describe(error, settings)) from None
            log.warning("Kafka failed (%s): connecting again in %d s", error, RECONNECT_PAUSE)
        except Fenced:
            if not arguments.standby:
                raise
            log.warning("Another kafka_project.py publishes to %s now", settings.raw_topic)
        time.sleep(RECONNECT_PAUSE)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Publish the Vélib' feed to Kafka.")
    add = parser.add_argument
    add("--once", action="store_true", help="publish one snapshot, then stop")
    add("--standby", action="store_true", help="take over when another producer is gone")
    add("--record", type=Path, metavar="DIR", help="also keep every snapshot in a file, as it came")
    add("--replay", type=Path, metavar="PATH", help="publish the snapshots recorded there instead")
    add(
        "--speed",
        type=parse_speed,
        metavar="N",
        help="N times as fast as it was, 0: without waiting",
    )
    add(
        "--from",
        dest="start",
        type=runtime.moment,
        metavar="T",
        help="only from T: 2026-11-01 08:00",
    )
    add("--to", dest="end", type=runtime.moment, metavar="T", help="only snapshots before T")
    arguments = parser.parse_args()
    how_to_replay = (arguments.speed, arguments.start, arguments.end)
    if arguments.once and arguments.standby:
        parser.error("--once does not go with --standby")
    if arguments.replay and (arguments.record or arguments.once or arguments.standby):
        parser.error("--replay does not go with --record, --once or --standby")
    if not arguments.replay and any(value is not None for value in how_to_replay):
        parser.error("--speed, --from and --to go with --replay")
    if None not in (arguments.start, arguments.end) and arguments.start >= arguments.end:
        parser.error("--from has to be before --to")
    return arguments


def polling(settings: Settings, arguments: argparse.Namespace) -> Callable[[], None]:
    """What publishes the snapshots of the feed, until Kafka fails or, with --once, the first."""
    feed = Feed(settings)
    recording = Recording(arguments.record) if arguments.record else None
    feed_watch = FeedWatch()
    missing_stations = MissingStations(settings)
    information = StationInformation(settings)
    information_timeout = None if arguments.once else INFORMATION_TIMEOUT
    last_poll_note = LastPollNote(settings)
    has_published = False

    def publish() -> None:
        nonlocal has_published
        if arguments.standby:
            # A standby asks the feed only if it was the publisher when Kafka went away.
            with record_meanwhile(settings, recording if has_published else None):
                topics.ensure(settings)
            stand_by(settings, last_poll_note.producer)
        with ExitStack() as stack:
            with record_meanwhile(settings, None if arguments.once else recording):
                publisher = stack.enter_context(connect(settings, last_poll_note))
            has_published = True
            polls = poll(feed, settings.poll_seconds, publisher.note)
            for snapshot in read_once(feed) if arguments.once else polls:
                feed_watch.warn(snapshot)
                missing_stations.warn(snapshot)
                if recording:
                    recording.keep(snapshot)
                publisher.publish(snapshot)
                information.publish_changes(publisher.publish_stations, information_timeout)

    return publish


def replaying(settings: Settings, arguments: argparse.Namespace) -> Callable[[], None]:
    """What publishes the recorded snapshots that the topic does not have yet."""
    speed = 1 if arguments.speed is None else arguments.speed
    replay = Replay(arguments.replay, arguments.start, arguments.end, speed)

    def publish() -> None:
        topics.ensure(settings)
        # Before it connects: a new producer ends the one that may be publishing there.
        if not replay.is_complete(settings.raw_topic, topics.newest_snapshot(settings)):
            with connect(settings, LastPollNote(settings)) as publisher:
                replay.publish_after(topics.newest_snapshot(settings), publisher.write)

    return publish


class Fenced(Failure):
    """Another producer with the same transactional id has taken over."""


@contextmanager
def connect(settings: Settings, last_poll_note: LastPollNote) -> Iterator["Publisher"]:
    """A publisher with a producer of its own, once Kafka answers.

    Raises Fenced, or KafkaError for any other error of Kafka.
    """
    topics.ensure(settings)
    topics.refuse_compaction(settings)
    producer = KafkaProducer(
        **clients.kafka_python_options(settings),
        transactional_id=topics.transactional_id(settings),
        transaction_timeout_ms=TRANSACTION_TIMEOUT * 1000,
        max_block_ms=TRANSACTION_TIMEOUT * 1000,
        compression_type="gzip",
        batch_size=256 * 1024,
        max_request_size=MAX_ANSWER_BYTES,  # Kafka's own limit is for the compressed batch
        allow_auto_create_topics=False,
    )
    try:
        _init_transactions(producer)
        with last_poll_note.renewed():
            newest = topics.newest_own_snapshot(settings)
            yield Publisher(settings, producer, last_poll_note, newest)
    except (ProducerFencedError, InvalidProducerEpochError):
        raise Fenced(
            f"Another kafka_project.py publishes to {settings.raw_topic} now, so this one stops:"
            " one is enough"
        ) from None
    finally:
        # close() waits for records that Kafka may never take; if that takes too long, it leaves the
        # thread that sends them running.
        producer._sender.force_close()
        with suppress(KafkaError):
            producer.close(timeout=1)


def _init_transactions(producer: KafkaProducer) -> None:
    """Have Kafka end a transaction that the producer before left open; raises KafkaError."""
    try:
        producer.init_transactions()
    except KafkaTimeoutError:
        raise KafkaTimeoutError(
            f"it offers no transactions, tried for {TRANSACTION_TIMEOUT} s: has it as many brokers"
            " as its transaction.state.log.replication.factor says?"
        ) from None


class Publisher:
    """Publishes snapshots to the raw topic, each in one transaction; knows the last one there."""

    def __init__(
        self,
        settings: Settings,
        producer: KafkaProducer,
        last_poll_note: LastPollNote,
        last_updated: int,
    ) -> None:
        self.settings = settings
        self.producer = producer
        self.last_poll_note = last_poll_note
        self.last_updated = last_updated
        self.next_offset = 0  # after the last record of the last snapshot
        # The snapshots since the last published one that have a log line: many polls see the same.
        self.logged: set[int] = set()
        metrics.newest_is(last_updated)
        if last_updated:
            log.info("Going on after the snapshot of %s", local_time(last_updated))

    def publish(self, snapshot: Snapshot) -> None:
        """Publish the snapshot unless it or a newer one is published already; raises KafkaError."""
        if snapshot.last_updated > self.last_updated:
            seconds = self.write(snapshot)
            log.info(
                "Published %d stations of the snapshot of %s (%.0f s old) in %.2f s",
                len(snapshot.stations),
                local_time(snapshot.last_updated),
                time.time() - snapshot.last_updated,
                seconds,
            )
        elif snapshot.last_updated not in self.logged:
            log.info(
                "The feed's snapshot of %s is no newer than that of %s, which is published already",
                local_time(snapshot.last_updated),
                local_time(self.last_updated),
            )
            self.logged.add(snapshot.last_updated)

    def write(self, snapshot: Snapshot) -> float:
        """Publish the snapshot, and return the seconds that it took; raises KafkaError."""
        started = time.monotonic()
        records = [to_record(station, snapshot.last_updated) for station in snapshot.stations]
        self.next_offset = self._publish_in_time(self.settings.raw_topic, records)
        seconds = time.monotonic() - started
        metrics.published(snapshot, seconds)
        self.last_updated = snapshot.last_updated
        self.logged = {snapshot.last_updated}
        return seconds

    def publish_stations(self, records: Sequence[Record]) -> None:
        """Publish records to the station topic in one transaction; raises KafkaError."""
        self._publish_in_time(self.settings.station_topic, records)

    def note(self, last_poll: LastPoll) -> None:
        """Keep in Kafka when the feed was asked last."""
        self.last_poll_note.write(last_poll, self.next_offset)

    def _publish_in_time(self, topic: str, records: Sequence[Record]) -> int:
        """Publish the records in one transaction; returns the offset after the last of them.

        Raises KafkaTimeoutError if that takes too long.

        The transaction has a thread of its own, because kafka-python's commit waits without a
        timeout. A thread that is left behind does no harm: the init_transactions of the next
        producer ends its transaction, or waits for the end of its commit.
        """
        begun = time.time()
        transaction = in_thread(lambda: self._publish_in_transaction(topic, records))
        patience = min(SLOW_TRANSACTION + len(records) / SLOW_PACE, TRANSACTION_TIMEOUT)
        if not futures.wait([transaction], patience).done:
            log.warning(clients.no_answer_message(self.settings))
        if not futures.wait([transaction], TRANSACTION_TIMEOUT - patience).done:
            raise KafkaTimeoutError(f"no answer for {TRANSACTION_TIMEOUT} s")
        try:
            return transaction.result()
        except (ProducerFencedError, InvalidProducerEpochError):
            if time.time() - begun < TRANSACTION_TIMEOUT:
                raise
            # This process was suspended, and Kafka itself ended its transaction.
            raise KafkaTimeoutError(f"the transaction took over {TRANSACTION_TIMEOUT} s") from None

    def _publish_in_transaction(self, topic: str, records: Sequence[Record]) -> int:
        headers = topics.producer_headers(self.settings)
        self.producer.begin_transaction()
        sent = []
        try:
            for key, value in records:
                sent.append(self.producer.send(topic, key=key, value=value, headers=headers))
        finally:
            # send() does not say why an earlier record failed: its result does. flush() fails when
            # it has to split a batch that is too large for the topic.
            offsets: list[int] = [result.get(timeout=TRANSACTION_TIMEOUT).offset for result in sent]
        self.producer.commit_transaction()
        return offsets[-1] + 1


def to_record(station: Any, last_updated: int) -> Record:
    """The key and value of a station's record. What is no JSON object is published as it is."""
    key = None
    if isinstance(station, dict):
        code = station.get("stationCode")
        key = None if code is None else str(code).encode(errors="replace")
        station = station | {"last_updated": last_updated}
    return key, json.dumps(station, separators=(",", ":")).encode()


if __name__ == "__main__":
    runtime.run(main)
