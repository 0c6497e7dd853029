"""The producer's note of its last poll of the feed, which outlives it and is kept in Kafka.

The topics alone cannot tell a feed that stands still from a producer that was killed. The note is
the metadata of a committed offset: that of the raw topic's partition 0, in a consumer group that
nobody ever joins. The offset is the one after the last record that this producer has published, 0
if it has published none.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from kafka import KafkaAdminClient, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaConnectionError, NoError

from config import Settings
from velib import connection, topics
from velib.cli import log
from velib.records import YEAR_9999

TIMEOUT = 3000  # milliseconds that Kafka has to answer
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


def write(admin: KafkaAdminClient, settings: Settings, last_poll: LastPoll, offset: int) -> None:
    """Replace the note; raises KafkaError."""
    partition = TopicPartition(settings.raw_topic, 0)
    committed = OffsetAndMetadata(offset, to_text(last_poll), None)
    error = admin.alter_group_offsets(group(settings), {partition: committed})[partition]
    if error is not NoError:
        raise error()


def read(admin: KafkaAdminClient, settings: Settings) -> LastPoll | None:
    """The note, None if there is none that can be understood; raises KafkaError.

    After an error the client may go on asking a broker that has gone: make a new one.
    """
    partition = TopicPartition(settings.raw_topic, 0)
    offsets = admin.list_group_offsets({group(settings): [partition]})[group(settings)]
    return from_text(offsets[partition].metadata) if partition in offsets else None


def to_text(last_poll: LastPoll) -> str:
    """The note as Kafka keeps it."""
    fields = asdict(last_poll) | {"error": last_poll.error[:MAX_ERROR]}
    return json.dumps(fields)


def from_text(text: str | None) -> LastPoll | None:
    """The note that Kafka has kept, None if it cannot be understood."""
    try:
        fields = json.loads(text or "")
        last_poll = LastPoll(fields["polled_at"], fields["next_poll_at"], fields["error"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    are_times = all(map(_is_time, (last_poll.polled_at, last_poll.next_poll_at)))
    return last_poll if are_times and isinstance(last_poll.error, str) else None


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < YEAR_9999


class LastPollNote:
    """Keeps the note up to date over one connection. Whatever fails here stops no poll."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admin: KafkaAdminClient | None = None
        self.failures = 0  # in a row

    def write(self, last_poll: LastPoll, offset: int) -> None:
        """Replace the note, or log once that it cannot be replaced.

        A first failure is not worth a line: a new Kafka is still making its topic of offsets.
        """
        try:
            self.admin = self.admin or self._connect()
            write(self.admin, self.settings, last_poll, offset)
            self.failures = 0
        except Exception as error:  # whatever it is, the snapshots matter more
            self.close()
            self.failures += 1
            if self.failures == 2:
                log.warning(
                    "Kafka does not keep the note of the last poll, which the dashboard shows: %s",
                    error,
                )

    def _connect(self) -> KafkaAdminClient:
        if not connection.is_reachable(self.settings):  # a client that fails leaves a thread behind
            raise KafkaConnectionError("nothing listens there")
        timeouts = ("bootstrap_timeout_ms", "request_timeout_ms")
        options = connection.kafka_python_options(self.settings) | dict.fromkeys(timeouts, TIMEOUT)
        return KafkaAdminClient(**options)

    def close(self) -> None:
        """End the connection; the next note makes a new one."""
        admin, self.admin = self.admin, None
        if admin is not None:
            with suppress(Exception):
                admin.close()
