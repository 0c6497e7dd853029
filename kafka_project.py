"""Polls the Vélib' Métropole API and publishes every new snapshot of the feed to `velib-projet`, in one transaction.

python kafka_project.py          poll until stopped
python kafka_project.py --once   publish one snapshot, then stop
"""

import argparse
import json
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

import requests
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    InvalidProducerEpochError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    SaslAuthenticationFailedError,
)
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

import cli
import config
import topics
from cli import Failure, log
from config import Settings
from topics import SNAPSHOT_RECORDS

USER_AGENT = "velib-projet/1.0"  # the API answers 403 to the default one of a script
CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 5, 15, 30
LARGEST_ANSWER = 16 * 1024 * 1024  # thirty times the feed
LONGEST_PAUSE = 300.0  # seconds between two tries
LONGEST_WAIT = 3600.0  # that a server may ask for
CLOCK_DIFFERENCE = 3600  # seconds that the feed's clock may be ahead of ours
TRANSACTION_SECONDS = 20  # that a transaction may be open; Kafka ends one that is open for longer


class FeedError(Exception):
    """The feed gave nothing to publish. The text says why; `retry_after` how many seconds the server asks us to wait."""

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Snapshot:
    """One state of the whole feed: its time stamp (`lastUpdatedOther`, epoch seconds) and its stations as they came."""

    last_updated: int
    stations: list[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Publish the Vélib' feed to Kafka, snapshot by snapshot.")
    parser.add_argument("--once", action="store_true", help="publish one snapshot, then stop")
    arguments = parser.parse_args()

    settings = config.load()
    feed = Feed(settings.api_url)
    pause = 1.0
    while True:
        topics.ensure(settings)
        try:
            with Publisher(settings) as publisher:
                pause = 1.0
                poll(feed, publisher, settings, arguments.once)
            return
        except (ProducerFencedError, InvalidProducerEpochError):
            raise Failure(
                f"Another kafka_project.py publishes to {settings.raw_topic} now, so this one stops: one is enough"
            ) from None
        except (AuthorizationError, SaslAuthenticationFailedError) as error:
            raise Failure(topics.refused(settings, error)) from None
        except KafkaError as error:
            # What was not committed is not visible; the next publisher finds in the topic what was.
            log.warning("Kafka failed (%s): connecting again in %.0f s", error, pause)
            time.sleep(pause)
            pause = min(pause * 2, 60.0)


def poll(feed: "Feed", publisher: "Publisher", settings: Settings, once: bool) -> None:
    """Publish each new snapshot.

    Polls keep step with the feed: after a new snapshot they wait the poll period, else a twelfth of it, so that a snapshot
    is published soon after the feed has it. The first snapshot of a run comes at any moment of its life and sets no pace.
    """
    warned_of: set[str] = set()
    in_step = False
    older = 0  # the snapshot that the feed went back to
    shortest = settings.poll_seconds / 12
    failures = Failures(shortest)
    while True:
        started = time.monotonic()
        wait = shortest
        try:
            snapshot = check(feed.get())
            failures.over()
            if snapshot.last_updated > publisher.last_updated:
                publisher.publish(snapshot)
                warned_of = warn_of_missing(settings, snapshot, warned_of)
                wait = settings.poll_seconds if in_step else wait
                in_step = True
            elif once or snapshot.last_updated not in (publisher.last_updated, older):
                older = snapshot.last_updated
                log.info(
                    "The feed has the snapshot of %s, that of %s is published already: waiting for a newer one",
                    clock(snapshot.last_updated),
                    clock(publisher.last_updated),
                )
        except FeedError as error:
            if once:
                raise Failure(str(error)) from None
            wait = max(failures.another(str(error)), error.retry_after)
        if once:
            return
        time.sleep(max(0.0, started + wait - time.monotonic()))


class Failures:
    """Consecutive failures of the feed: each reason is said once, and the pauses grow."""

    def __init__(self, shortest_pause: float) -> None:
        self.shortest_pause = shortest_pause
        self.pause = shortest_pause
        self.said = ""
        self.since = 0.0

    def another(self, reason: str) -> float:
        """Note a failure; returns the seconds to wait before the next try."""
        if not self.said:
            self.since = time.monotonic()
        if reason != self.said:
            log.warning("%s. Trying again, with growing pauses", reason)
            self.said = reason
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_PAUSE)
        return pause

    def over(self) -> None:
        if self.said:
            log.info("The feed is back after %.0f s", time.monotonic() - self.since)
        self.said, self.pause = "", self.shortest_pause


class Feed:
    """The API over HTTP: one connection kept open, gzip, short retries, nothing that can hang or fill the memory."""

    def __init__(self, api_url: str) -> None:
        self.url = api_url + "/station_status.json"
        self.session = requests.Session()
        self.session.headers["User-Agent"] = USER_AGENT
        retries = Retry(total=2, backoff_factor=0.3, status_forcelist=(500, 502, 503, 504), raise_on_status=False)
        retries.respect_retry_after_header = False  # a server that asks for time gets it between two polls
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retries))

    def get(self) -> bytes:
        """The body of the feed; raises FeedError."""
        try:
            with self.session.get(self.url, timeout=(CONNECT_SECONDS, READ_SECONDS), stream=True) as answer:
                if answer.status_code != 200:
                    raise FeedError(
                        f"The API {self.url} refuses: {answer.status_code} {answer.reason}",
                        _seconds(answer.headers.get("Retry-After")),
                    )
                return self._body(answer.raw)
        except (requests.RequestException, HTTPError) as error:
            raise FeedError(f"The API {self.url} cannot be reached ({_cause(error)})") from None

    def _body(self, answer: HTTPResponse) -> bytes:
        deadline = time.monotonic() + WHOLE_SECONDS
        body = bytearray()
        # Whatever has come is taken at once: a read of a fixed size would wait for it, however slowly it comes.
        while chunk := answer.read1(64 * 1024, decode_content=True):
            body += chunk
            if len(body) > LARGEST_ANSWER:
                raise FeedError(f"The API {self.url} sends more than {LARGEST_ANSWER >> 20} MB")
            if time.monotonic() > deadline:
                raise FeedError(f"The API {self.url} sends too slowly: no end after {WHOLE_SECONDS} s")
        return bytes(body)


def _seconds(retry_after: str | None) -> float:
    """How long a server asks us to wait: it gives seconds or a date; 0 if neither."""
    try:
        seconds = Retry().parse_retry_after(retry_after or "0")
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0
    return min(seconds, LONGEST_WAIT)


def _cause(error: Exception) -> str:
    """What is behind an error of requests or urllib3, in a few words."""
    text = str(error)
    for sign, cause in (
        ("Name or service not known", "unknown host"),
        ("Failed to resolve", "unknown host"),
        ("Connection refused", "connection refused"),
        ("CERTIFICATE_VERIFY_FAILED", "certificate not trusted"),
        ("Read timed out", f"no answer for {READ_SECONDS} s"),
        ("timed out", f"no connection within {CONNECT_SECONDS} s"),
        ("redirects", "it redirects in a circle"),
        ("IncompleteRead", "the answer ends too early"),
        ("Connection aborted", "it hung up"),
        ("Connection broken", "the answer ends too early"),
    ):
        if sign in text:
            return cause
    return type(error).__name__


def check(body: bytes) -> Snapshot:
    """The snapshot in the body of an answer; raises FeedError if it has not the feed's shape.

    Single stations are not judged here: a bad one among good ones is published, and ends in the dead letters.
    """
    try:
        feed = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:40].decode(errors="replace")
        raise FeedError(f"The API sent something else than JSON (it starts with {start!r})") from None
    last_updated = feed.get("lastUpdatedOther") if isinstance(feed, dict) else None
    data = feed.get("data") if isinstance(feed, dict) else None
    stations = data.get("stations") if isinstance(data, dict) else None
    if type(last_updated) is not int or last_updated <= 0:
        raise FeedError(f"The feed has no time stamp: lastUpdatedOther is {_short(last_updated)}")
    if last_updated > time.time() + CLOCK_DIFFERENCE:
        raise FeedError(f"The feed's time stamp is in the future: lastUpdatedOther is {_short(last_updated)}")
    if not isinstance(stations, list) or not stations:
        raise FeedError(f"The feed has no stations: data.stations is {_short(stations)}")
    if not any(isinstance(station, dict) for station in stations):
        raise FeedError(f"The feed's stations are no objects: the first is {_short(stations[0])}")
    return Snapshot(last_updated, stations)


def _short(value: object) -> str:
    return repr(value)[:60]


def warn_of_missing(settings: Settings, snapshot: Snapshot, warned_of: set[str]) -> set[str]:
    """Warn once of each configured station that the feed does not have; returns those it lacks now."""
    if settings.stations == config.ALL:
        return set()
    codes = {station.get("stationCode") for station in snapshot.stations if isinstance(station, dict)}
    missing = set(settings.stations) - codes
    if missing - warned_of:
        log.warning("The feed has no station %s (VELIB_STATIONS)", ", ".join(sorted(missing)))
    return missing


class Publisher:
    """Writes snapshots to the raw topic, each in one transaction, and knows the last one that is there."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.raw_topic
        self.silent = topics.silent(settings)
        self.producer = KafkaProducer(
            **topics.connection(settings),
            transactional_id=topics.transactional_id(settings),
            transaction_timeout_ms=TRANSACTION_SECONDS * 1000,
            compression_type="gzip",
            batch_size=256 * 1024,
            max_block_ms=TRANSACTION_SECONDS * 1000,
            allow_auto_create_topics=False,
        )
        try:
            self.producer.init_transactions()
            self.last_updated = last_published(settings)
        except BaseException:
            self.close()
            raise
        if self.last_updated:
            log.info("Going on after the snapshot of %s", clock(self.last_updated))

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of Kafka, whether it answers or not. The next init_transactions aborts what is open."""
        self.producer._sender.force_close()  # else its thread goes on trying to send what cannot be sent
        with suppress(KafkaError):
            self.producer.close(timeout=1)

    def publish(self, snapshot: Snapshot) -> None:
        """Publish every station of the snapshot, or nothing; raises KafkaError."""
        started, begun = time.monotonic(), time.time()
        records = [_record(station, snapshot.last_updated) for station in snapshot.stations]
        waiting = threading.Timer(topics.SILENT_SECONDS, log.warning, (self.silent,))  # kafka-python waits without a word
        waiting.daemon = True
        waiting.start()
        signal.signal(signal.SIGALRM, _too_late)  # kafka-python would wait for ever for the answer to a request that it lost
        signal.setitimer(signal.ITIMER_REAL, TRANSACTION_SECONDS, TRANSACTION_SECONDS)
        try:
            self._send_in_one_transaction(records)
        except (ProducerFencedError, InvalidProducerEpochError):
            if time.time() - begun < TRANSACTION_SECONDS:
                raise
            # Kafka fences a producer whose transaction it ended: nobody else need be there.
            raise KafkaTimeoutError(f"the transaction was open for more than {TRANSACTION_SECONDS} s") from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            waiting.cancel()
        self.last_updated = snapshot.last_updated
        log.info(
            "Published %d stations of the snapshot of %s (%.0f s old) in %.2f s",
            len(records),
            clock(snapshot.last_updated),
            time.time() - snapshot.last_updated,
            time.monotonic() - started,
        )

    def _send_in_one_transaction(self, records: list[tuple[bytes | None, bytes]]) -> None:
        headers = [(SNAPSHOT_RECORDS, str(len(records)).encode())]
        self.producer.begin_transaction()
        sent = [self.producer.send(self.topic, key=key, value=value, headers=headers) for key, value in records]
        self.producer.flush()
        for future in sent:  # flush returns even if a record could not be sent
            future.get(timeout=0)
        self.producer.commit_transaction()


def _too_late(number: int, frame: FrameType | None) -> NoReturn:
    raise KafkaTimeoutError(f"no answer for {TRANSACTION_SECONDS} s")


def _record(station: Any, last_updated: int) -> tuple[bytes | None, bytes]:
    """Key and value of a station's record. What is no object is published as it is, for the job to judge."""
    key = None
    if isinstance(station, dict):
        code = station.get("stationCode")
        key = str(code).encode(errors="replace") if code is not None else None
        station = station | {"last_updated": last_updated}
    return key, json.dumps(station, separators=(",", ":")).encode()


def last_published(settings: Settings) -> int:
    """`last_updated` of the newest snapshot in the raw topic (epoch seconds), 0 if there is none.

    Looks at the end of each partition, at more and more of it until it finds a snapshot: the last offsets may be markers
    of transactions, aborted records or what somebody else wrote.
    """
    with KafkaConsumer(
        **topics.connection(settings), isolation_level="read_committed", enable_auto_commit=False, max_poll_records=5000
    ) as consumer:
        partitions = [TopicPartition(settings.raw_topic, p) for p in consumer.partitions_for_topic(settings.raw_topic) or ()]
        consumer.assign(partitions)
        beginnings, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        newest = 0
        for partition in partitions:
            consumer.assign([partition])
            window, upper = 2_000, ends[partition]
            while newest == 0 and upper > beginnings[partition]:
                lower = max(beginnings[partition], ends[partition] - window)
                consumer.seek(partition, lower)
                newest = max(newest, _newest_between(consumer, partition, upper))
                window, upper = window * 4, lower
        return newest


def _newest_between(consumer: KafkaConsumer, partition: TopicPartition, upper: int) -> int:
    """The newest plausible `last_updated` from the consumer's position up to an offset, 0 if there is none."""
    newest = 0
    while consumer.position(partition) < upper:
        for record in consumer.poll(timeout_ms=1000).get(partition, []):
            newest = max(newest, _last_updated(record.value))
    return newest


def _last_updated(value: bytes | None) -> int:
    last_updated = topics.last_updated(value)
    plausible = type(last_updated) is int and 0 < last_updated <= time.time() + CLOCK_DIFFERENCE
    return last_updated if plausible else 0


def clock(epoch_seconds: int) -> str:
    return datetime.fromtimestamp(epoch_seconds).strftime("%Y-%m-%d %H:%M:%S")


if __name__ == "__main__":
    cli.run(main)
