"""The three topics and their settings: made if missing by whichever script starts first, used as they are if present."""

import json
import logging
import socket
import time
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownBrokerIdError, for_code

from cli import Failure, log
from config import Settings

DAY_MS = 24 * 3600 * 1000
SNAPSHOT_RECORDS = "snapshot_records"
"""The header of each raw record that tells how many records its snapshot has, for who finds the topic's beginning cut off."""

SLOWEST_PAUSE = 1.0  # seconds between two looks for Kafka
SILENT_SECONDS = 5.0  # that Kafka may take before a script that waits for it says so


def connection(settings: Settings) -> dict[str, Any]:
    """How kafka-python reaches Kafka: the keyword arguments that its clients share."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": 5_000,
        "reconnect_backoff_max_ms": 2_000,
    }
    if settings.security_protocol.startswith("SASL_") and settings.sasl_password:
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    if settings.ssl_cafile:
        arguments["ssl_cafile"] = str(settings.ssl_cafile)
    return arguments


def transactional_id(settings: Settings) -> str:
    """The same for every producer of the raw topic: a new one fences the one before, and ends what that left open."""
    return f"{settings.raw_topic}-producer"


def wanted(settings: Settings) -> dict[str, dict[str, str]]:
    """Each topic's name and its Kafka configuration.

    All have one partition. The markers that end a transaction reach the partitions of a topic one by one, so a reader of
    several partitions could see a part of a snapshot; of one it sees all or nothing. A day of the network is 40 MB.
    """
    return {
        settings.raw_topic: {"retention.ms": str(7 * DAY_MS)},
        # The newest total of every postal code is kept for good, the older ones for a week at least.
        settings.final_topic: {"cleanup.policy": "compact", "min.compaction.lag.ms": str(7 * DAY_MS)},
        # A dead letter is the record that died and its headers: larger than the largest record of the raw topic.
        settings.dead_letter_topic: {"retention.ms": str(30 * DAY_MS), "max.message.bytes": str(4 * 1024 * 1024)},
    }


def ensure(settings: Settings, timeout: float = float("inf")) -> bool:
    """Wait until Kafka answers, saying so, then make the topics that are missing. False if it took `timeout` seconds."""
    started = time.monotonic()
    pause, said = 0.25, False
    while (reason := _try_to_make(settings)) is not None:
        if not said and time.monotonic() - started > 1.0:  # a broker that is just starting is not worth a line
            said = True
            log.info(
                "Waiting for Kafka at %s (%s). `python -m local.broker` starts one here", settings.bootstrap_servers, reason
            )
        if time.monotonic() - started + pause > timeout:
            return False
        time.sleep(pause)
        pause = min(pause * 2, SLOWEST_PAUSE)
    if said:
        log.info("Kafka answers after %.0f s", time.monotonic() - started)
    return True


def identity(settings: Settings) -> str:
    """The id that Kafka gave the raw topic when it was made, "" if this Kafka gives none; raises KafkaError."""
    with KafkaAdminClient(**connection(settings)) as admin:
        (topic,) = admin.describe_topics([settings.raw_topic])
    return str(topic.get("topic_id") or "")


def beginning(settings: Settings) -> dict[int, int]:
    """The offset of each partition of the raw topic from which its snapshots are whole; raises KafkaError.

    Retention removes whole segments of the log, whose borders may lie within a snapshot. Totals of what is left of that
    one would be wrong. Each record's header tells how many its snapshot has; records without it are taken as they are.
    """
    with KafkaConsumer(
        **connection(settings), isolation_level="read_committed", enable_auto_commit=False, max_poll_records=5000
    ) as consumer:
        partitions = [TopicPartition(settings.raw_topic, p) for p in consumer.partitions_for_topic(settings.raw_topic) or ()]
        offsets = consumer.beginning_offsets(partitions)
        if len(partitions) == 1 and offsets[partitions[0]] > 0:
            offsets[partitions[0]] = _after_a_cut_snapshot(consumer, partitions[0], offsets[partitions[0]])
        return {partition.partition: offset for partition, offset in offsets.items()}


def _after_a_cut_snapshot(consumer: KafkaConsumer, partition: TopicPartition, first: int) -> int:
    """The offset after the first snapshot of a partition if a part of it is gone, else that of its first record."""
    consumer.assign([partition])
    consumer.seek(partition, first)
    end = consumer.end_offsets([partition])[partition]
    size, seen, snapshot = 0, 0, None
    while consumer.position(partition) < end:
        for record in consumer.poll(timeout_ms=1000).get(partition, []):
            header = dict(record.headers or ()).get(SNAPSHOT_RECORDS)
            if header is None:
                continue
            of = last_updated(record.value)
            if snapshot is None:
                size, snapshot = int(header), of
            if of != snapshot:
                return first if seen == size else int(record.offset)
            seen += 1
    return first if seen == size else end


def last_updated(value: bytes | None) -> Any:
    """What a raw record has as `last_updated`, whatever it is; None if it has none."""
    try:
        return json.loads(value or b"")["last_updated"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _try_to_make(settings: Settings) -> str | None:
    """Make the missing topics; returns why it has to be tried again, or None when all are there."""
    if not is_there(settings):
        return "nothing listens there"
    with _Bootstrap() as bootstrap:
        try:
            # A refused password is seldom told: often the connection is closed before the answer is read. So it asks often.
            with KafkaAdminClient(**connection(settings) | {"reconnect_backoff_max_ms": 100}) as admin:
                _make_missing(admin, wanted(settings))
        except KafkaError as error:
            if (lasting := bootstrap.lasting()) is not None:
                raise Failure(f"Kafka at {settings.bootstrap_servers} {lasting}") from None
            if not passes(error):
                raise Failure(refused(settings, error)) from None
            return str(error) or type(error).__name__
    return None


def passes(error: KafkaError) -> bool:
    """Whether the same may go well later: a broker that has just died is unknown to the others for a while."""
    return error.retriable or isinstance(error, UnknownBrokerIdError)


def refused(settings: Settings, error: KafkaError | str) -> str:
    """The line for an error that will not pass."""
    user = f" the user {settings.sasl_username}" if settings.sasl_username else ""
    return f"Kafka at {settings.bootstrap_servers} refused{user}: {error}"


class _Bootstrap(logging.Handler):
    """Why kafka-python could not connect: it tells its log alone, and the caller only that time is up."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.log = logging.getLogger("kafka.net.manager")

    def __enter__(self) -> "_Bootstrap":
        self.log.setLevel(logging.WARNING)
        self.log.propagate = False
        self.log.addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self.log.removeHandler(self)
        self.log.propagate = True
        self.log.setLevel(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(record.getMessage())

    def lasting(self) -> str | None:
        """What went wrong if it will not pass by itself, and which setting it comes from."""
        for sign, line in (
            ("SaslAuthenticationFailed", "does not know this KAFKA_SASL_USERNAME with this KAFKA_SASL_PASSWORD"),
            ("UnsupportedSaslMechanism", "does not offer this KAFKA_SASL_MECHANISM"),
            ("CERTIFICATE_VERIFY_FAILED", "has a certificate that is not signed by those of KAFKA_SSL_CAFILE"),
            ("WRONG_VERSION_NUMBER", "does not speak TLS: correct KAFKA_SECURITY_PROTOCOL"),
            ("Invalid frame length", "does not speak this KAFKA_SECURITY_PROTOCOL"),
        ):
            if any(sign in error for error in self.errors):
                return line
        return None


def is_there(settings: Settings) -> bool:
    """Whether something listens at one of Kafka's addresses."""
    return any(listens(server) for server in settings.bootstrap_servers.split(","))


def silent(settings: Settings) -> str:
    """The line for a Kafka that was there and does not answer now."""
    return f"Kafka at {settings.bootstrap_servers} does not answer: waiting for it"


def listens(server: str) -> bool:
    """Whether something accepts connections at `host:port`."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError:
        return False
    return True


def _make_missing(admin: KafkaAdminClient, topics: dict[str, dict[str, str]]) -> None:
    present = {topic["name"] for topic in admin.describe_topics(list(topics)) if topic["error_code"] == 0}
    brokers = len(admin.describe_cluster()["brokers"])
    # -1 leaves the number of copies to the cluster's own default.
    replicas, safety = (3, {"min.insync.replicas": "2"}) if brokers >= 3 else (-1, {})
    for name in topics.keys() - present:
        answer = admin.create_topics(
            {name: {"num_partitions": 1, "replication_factor": replicas, "configs": topics[name] | safety}},
            raise_errors=False,
            wait_for_metadata=False,
        )
        error = for_code(answer["topics"][0]["error_code"])
        if error is TopicAlreadyExistsError:  # another script was quicker
            continue
        if answer["topics"][0]["error_code"] != 0:
            raise error(answer["topics"][0]["error_message"])
        log.info("Made the topic %s", name)
    admin.wait_for_topics(list(topics))
