"""Which producers run: each is a member of a consumer group that reads no topic.

In the topics, a stalled feed and a killed producer look the same. Kafka removes a killed member
from its group, 15 seconds after its last heartbeat.
"""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from threading import Event

from kafka import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from config import Settings
from velib.errors import is_retriable
from velib.kafka import clients
from velib.runtime import in_background, log

SESSION_TIMEOUT_MS = 15_000  # kafka-python sends a heartbeat every 3 s
POLL_MS = 500
RETRY_SECONDS = 10.0
LEAVE_SECONDS = 1.0  # to tell Kafka that a producer stops
NO_TOPIC = "^$"  # a pattern that matches no topic


def group(settings: Settings) -> str:
    """The consumer group of the producers that publish to the raw topic."""
    return f"{settings.raw_topic}-producer"


@contextmanager
def joined(settings: Settings) -> Iterator[None]:
    """Be a member of the producers' group while the block runs.

    It has a thread of its own, so no failure of Kafka reaches or delays the caller.
    """
    ended = Event()
    member = in_background(lambda: _stay_joined(settings, ended))
    try:
        yield
    finally:
        ended.set()
        futures.wait([member], LEAVE_SECONDS)


def count(admin: KafkaAdminClient, settings: Settings) -> int:
    """How many producers run; raises KafkaError."""
    (description,) = admin.describe_groups([group(settings)]).values()
    error = description["error"]
    if error and "GroupIdNotFound" not in error:
        # The group is being loaded. If a permission is missing, kafka-python itself raises an
        # error.
        raise CoordinatorNotAvailableError(error)
    return len(description["members"])


def _stay_joined(settings: Settings, ended: Event) -> None:
    has_warned = False
    while not ended.is_set():
        try:
            _heartbeat(settings, ended)
        except KafkaError as error:
            if not (has_warned or is_retriable(error)):
                log.warning("The dashboard cannot tell that this producer runs: %s", error)
                has_warned = True
        ended.wait(RETRY_SECONDS)


def _heartbeat(settings: Settings, ended: Event) -> None:
    with clients.Consumer(
        settings,
        group_id=group(settings),
        session_timeout_ms=SESSION_TIMEOUT_MS,
        enable_auto_commit=False,
    ) as consumer:
        consumer.subscribe(pattern=NO_TOPIC)
        while not ended.is_set():
            consumer.poll(POLL_MS)  # joins the group, or rejoins it after Kafka removed this member
