"""The producer's note of its last poll of the feed, which outlives it and is kept in Kafka.

The topics alone cannot tell a feed that stands still from a producer that was killed. A producer
that lives renews its note every few seconds, and a standby goes by that (velib/standby.py). It is
the metadata of a committed offset: that of the raw topic's partition 0, in a consumer group that
nobody ever joins. The offset is the one after the last record that this producer has published, 0
if it has published none.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4

from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaConnectionError, NoError

from config import Settings
from velib.kafka import clients, topics
from velib.runtime import log
from velib.totals.records import YEAR_9999

TIMEOUT = 3000  # milliseconds that Kafka has to answer
RENEWAL = 10.0  # seconds between two signs of life
MAX_DELAY = 90.0  # seconds that a poll may be overdue: it has 30 s, each of two transactions 20 s
MAX_ERROR = 300  # characters: Kafka takes 4096 bytes of metadata, and JSON may take 12 for each


@dataclass(frozen=True)
class LastPoll:
    """When the producer has asked the feed, and with which result. Times are epoch seconds."""

    polled_at: float
    next_poll_at: float
    error: str
    """Why the poll brought no snapshot, "" if it brought one."""


def group(settings: Settings) -> str:
    """The consumer group that holds the note: each producer has its own."""
    return topics.transactional_id(settings)


def write(admin: KafkaAdminClient, settings: Settings, text: str, offset: int) -> None:
    """Replace the note; raises KafkaError."""
    partition = TopicPartition(settings.raw_topic, 0)
    committed = OffsetAndMetadata(offset, text, None)
    error = admin.alter_group_offsets(group(settings), {partition: committed})[partition]
    if error is not NoError:
        raise error()


def read_text(admin: KafkaAdminClient, settings: Settings) -> str:
    """The note as Kafka keeps it, "" if there is none; raises KafkaError.

    After an error the client may go on asking a broker that has gone: make a new one.
    """
    partition = TopicPartition(settings.raw_topic, 0)
    offsets = admin.list_group_offsets({group(settings): [partition]})[group(settings)]
    return offsets[partition].metadata or "" if partition in offsets else ""


def read(admin: KafkaAdminClient, settings: Settings) -> LastPoll | None:
    """The last poll that is noted, None if there is none or it cannot be understood.

    Raises KafkaError, as `read_text` does.
    """
    return from_text(read_text(admin, settings))


def client(settings: Settings) -> KafkaAdminClient:
    """A client for the functions above, which does not wait long; raises KafkaError."""
    if not clients.is_reachable(settings):  # a client that fails leaves a thread behind
        raise KafkaConnectionError("nothing listens there")
    timeouts = ("bootstrap_timeout_ms", "request_timeout_ms")
    options = clients.kafka_python_options(settings) | dict.fromkeys(timeouts, TIMEOUT)
    return KafkaAdminClient(**options)


def to_text(last_poll: LastPoll | None, renewed_by: str) -> str:
    """The note as Kafka keeps it: the last poll if there was one, who renews the note, and when."""
    poll = {} if last_poll is None else asdict(last_poll) | {"error": last_poll.error[:MAX_ERROR]}
    return json.dumps(poll | {"renewed_by": renewed_by, "renewed_at": time.time()})


def from_text(text: str | None) -> LastPoll | None:
    """The last poll in the note that Kafka has kept, None if it cannot be understood."""
    try:
        fields = json.loads(text or "")
        last_poll = LastPoll(fields["polled_at"], fields["next_poll_at"], fields["error"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    are_times = all(map(_is_time, (last_poll.polled_at, last_poll.next_poll_at)))
    return last_poll if are_times and isinstance(last_poll.error, str) else None


def writer(text: str) -> str:
    """Which producer has written this note; "" if it has stopped since, or if there is no note."""
    if not text:
        return ""
    try:
        return str(json.loads(text)["renewed_by"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "unknown"  # an earlier form of the note


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < YEAR_9999


class LastPollNote:
    """Keeps the note up to date over one connection. Whatever fails here stops no poll.

    While it is `renewed`, the note changes all the time, also between two polls, unless the next
    poll is overdue: a producer that hangs is not to keep a standby waiting. Once another producer
    has taken over, the note is left to that one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admin: KafkaAdminClient | None = None
        self.last_poll: LastPoll | None = None
        self.offset = 0
        self.producer = uuid4().hex
        """Tells this producer from all others."""

        self.renewed_until = inf  # on the monotonic clock; a replay does not poll
        self.is_ours = False
        self.failures = 0  # in a row
        self.lock = Lock()

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Take the note over and renew it from another thread; note the end, unless by an error."""
        self.is_ours, self.renewed_until, ended = False, inf, Event()
        Thread(target=self._renew, args=(ended,), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with self.lock:
                self.close()  # a signal may have come in the middle of a request
                if not isinstance(sys.exc_info()[1], Exception):
                    self._replace(renewed_by="")
                self.close()

    def write(self, last_poll: LastPoll, offset: int) -> None:
        """Replace the note, or log once that it cannot be replaced."""
        pause = last_poll.next_poll_at - time.time()
        with self.lock:
            self.renewed_until = time.monotonic() + pause + MAX_DELAY
            self.last_poll, self.offset = last_poll, offset
            self._replace(self.producer)

    def _renew(self, ended: Event) -> None:
        while True:
            with self.lock:
                if ended.is_set():
                    return
                if time.monotonic() < self.renewed_until:
                    self._replace(self.producer)
            ended.wait(RENEWAL)

    def _replace(self, renewed_by: str) -> None:
        """Replace the note, or log once that it cannot be replaced.

        A first failure is not worth a line: a new Kafka is still making its topic of offsets.
        """
        try:
            self.admin = self.admin or client(self.settings)
            note = read_text(self.admin, self.settings)
            if self.is_ours and writer(note) not in ("", self.producer):
                return
            if self.last_poll is None:  # what the producer before has noted stays until the poll
                self.last_poll = from_text(note)
            text = to_text(self.last_poll, renewed_by)
            write(self.admin, self.settings, text, self.offset)
            self.is_ours, self.failures = True, 0
        except Exception as error:  # whatever it is, the snapshots matter more
            self.close()
            self.failures += 1
            if self.failures == 2:
                log.warning(
                    "Kafka does not keep the note of the last poll, which the dashboard and a"
                    " standby go by: %s",
                    error,
                )

    def close(self) -> None:
        """End the connection; the next note makes a new one."""
        admin, self.admin = self.admin, None
        if admin is not None:
            with suppress(Exception):
                admin.close()
