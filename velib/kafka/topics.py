"""The topics: made if missing by whichever script starts first, used as they are if present."""

import json
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import TopicAlreadyExistsError, for_code

from config import Settings
from velib.errors import Failure
from velib.kafka import clients
from velib.kafka.reader import assign, batches, partitions
from velib.runtime import local_time, log

DAY_MS = 24 * 3600 * 1000
LOOK_BACK = 2_000  # offsets at the end of a partition: a snapshot of the bike network
CLOCK_TOLERANCE = 3600  # seconds that a snapshot may be ahead of the clock that it is compared with


def ensure(settings: Settings, stop: Event | None = None) -> bool:
    """Wait for Kafka and create the topics that are missing.

    False if `stop` was set before. Raises Failure if Kafka refuses.
    """
    return clients.when_reachable(
        settings, lambda admin: _create_missing(admin, configurations(settings)), stop or Event()
    )


def configurations(settings: Settings) -> dict[str, dict[str, str]]:
    """The Kafka configuration of each topic, by name.

    All topics have one partition. A transaction's commit reaches the partitions of a topic one by
    one, so a reader of several could see a part of a snapshot; of one partition it sees all or
    nothing. A day of the network is 65 MB.
    """
    return {
        settings.raw_topic: {"retention.ms": str(7 * DAY_MS)},
        # The newest total of each postal code is kept permanently, the older ones for a week.
        settings.final_topic: {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(7 * DAY_MS),
        },
        # A dead letter is the raw record and its headers: larger than the largest raw record.
        settings.dead_letter_topic: {
            "retention.ms": str(30 * DAY_MS),
            "max.message.bytes": str(4 * 1024 * 1024),
        },
        # The newest name and position of each station are kept permanently.
        settings.station_topic: {"cleanup.policy": "compact"},
    }


def transactional_id(settings: Settings) -> str:
    """The producers' transactional id: one that begins fences the others that have the same."""
    return f"{settings.raw_topic}-producer"


def positions_id(settings: Settings) -> str:
    """The transactional id with which the positions of the stations are published."""
    return f"{settings.raw_topic}-positions"


def _create_missing(admin: KafkaAdminClient, topics: dict[str, dict[str, str]]) -> None:
    described = admin.describe_topics(list(topics))
    present = {topic["name"] for topic in described if topic["error_code"] == 0}
    brokers = len(admin.describe_cluster()["brokers"])
    # -1 leaves the number of copies to the cluster's own default.
    replicas, safety = (3, {"min.insync.replicas": "2"}) if brokers >= 3 else (-1, {})
    for name in topics.keys() - present:
        configuration = {
            "num_partitions": 1,
            "replication_factor": replicas,
            "configs": topics[name] | safety,
        }
        answer = admin.create_topics(
            {name: configuration}, raise_errors=False, wait_for_metadata=False
        )
        code, message = answer["topics"][0]["error_code"], answer["topics"][0]["error_message"]
        error = for_code(code)
        if error is TopicAlreadyExistsError:  # another script was quicker
            continue
        if code != 0:
            raise error(message)
        log.info("Created topic %s", name)
    admin.wait_for_topics(list(topics))


def refuse_compaction(settings: Settings) -> None:
    """Raise Failure if the raw topic is compacted: its snapshots lose stations; raises KafkaError.

    If the user may not read the topic's configuration, the check is skipped.
    """
    resource = ConfigResource("TOPIC", settings.raw_topic, ["cleanup.policy"])
    with KafkaAdminClient(**clients.kafka_python_options(settings)) as admin:
        configurations = admin.describe_configs([resource])["topic"][settings.raw_topic]
    policy = configurations.get("cleanup.policy", {}).get("value", "")
    if "compact" in policy:
        raise Failure(
            f"The topic {settings.raw_topic} has cleanup.policy={policy}, which removes stations"
            " from its snapshots: set it to delete, or name another topic in VELIB_RAW_TOPIC"
        )


def identity(settings: Settings) -> str:
    """The id that Kafka gave the raw topic when it was made, "" if none; raises KafkaError."""
    with KafkaAdminClient(**clients.kafka_python_options(settings)) as admin:
        (topic,) = admin.describe_topics([settings.raw_topic])
    return str(topic.get("topic_id") or "")


def partition_count(settings: Settings) -> int:
    """How many partitions the raw topic has; raises KafkaError."""
    with clients.committed_consumer(settings) as consumer:
        return len(partitions(consumer, settings.raw_topic))


def snapshot_of(record: Any) -> int:
    """The snapshot (`last_updated`, epoch seconds) of a raw record; 0 if it has none."""
    try:
        last_updated = json.loads(record.value or b"")["last_updated"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
    is_plausible = type(last_updated) is int and 0 < last_updated < time.time() + CLOCK_TOLERANCE
    return last_updated if is_plausible else 0


def first_whole_snapshot(settings: Settings) -> dict[int, int]:
    """The offset from which a new job reads, by partition of the raw topic; raises KafkaError.

    Retention removes a topic's oldest records by whole segments, whose borders may lie within a
    snapshot. A total of what is left of that one would be wrong, so the oldest snapshot of a topic
    that does not begin at offset 0 is skipped.
    """
    with clients.committed_consumer(settings) as consumer:
        all_partitions = partitions(consumer, settings.raw_topic)
        starts = consumer.beginning_offsets(all_partitions)
        ends = consumer.end_offsets(all_partitions)

        def first_after(snapshot: int, partition: TopicPartition) -> tuple[int, int]:
            """Offset and snapshot of the first station of a later snapshot, else the end and 0."""
            records = _snapshots(consumer, partition, starts[partition], ends[partition])
            later = ((offset, later) for offset, later in records if later > snapshot)
            return next(later, (ends[partition], 0))

        oldest = [first_after(0, p)[1] for p in all_partitions if starts[p] > 0]
        if 0 in oldest:  # a partition has lost everything: any snapshot may be incomplete
            log.warning("%s has lost its records: the job starts at its end", settings.raw_topic)
            starts = ends
        elif oldest:
            log.warning(
                "The topic %s has lost its oldest records:"
                " the snapshot of %s may be incomplete and is skipped",
                settings.raw_topic,
                local_time(max(oldest)),
            )
            starts = {p: first_after(max(oldest), p)[0] for p in all_partitions}
        return {p.partition: offset for p, offset in starts.items()}


def newest_snapshot(settings: Settings) -> int:
    """The newest committed snapshot in the raw topic (epoch seconds), 0 if it has none.

    Raises KafkaError. Reads the end of the topic, which may also have records of other writers.
    """
    with clients.committed_consumer(settings) as consumer:
        all_partitions = partitions(consumer, settings.raw_topic)
        return max((_last_snapshot(consumer, p) for p in all_partitions), default=0)


def _last_snapshot(consumer: KafkaConsumer, partition: TopicPartition) -> int:
    """The newest snapshot in the last offsets of a partition, 0 if it has none.

    Looks back further and further: the last offsets may be transaction markers, aborted records, or
    records without a snapshot.
    """
    beginning = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    newest, start, look_back = 0, end, LOOK_BACK
    while newest == 0 and start > beginning:
        start = max(beginning, end - look_back)
        newest = max(map(snapshot_of, _records(consumer, partition, start, end)), default=0)
        look_back *= 4
    return newest


def _snapshots(
    consumer: KafkaConsumer, partition: TopicPartition, start: int, end: int
) -> Iterator[tuple[int, int]]:
    """The offset and the snapshot of each record of a partition from one offset up to another."""
    for record in _records(consumer, partition, start, end):
        yield record.offset, snapshot_of(record)


def latest_values(settings: Settings, topic: str) -> dict[bytes, bytes]:
    """The last value of each key of a whole topic, without deleted ones; raises KafkaError."""
    with clients.committed_consumer(settings) as consumer:
        ends = consumer.end_offsets(partitions(consumer, topic))
        assign(consumer, dict.fromkeys(ends, 0))
        values = {r.key: r.value for records in batches(consumer, ends) for r in records}
    return {key: value for key, value in values.items() if value is not None}


def _records(
    consumer: KafkaConsumer, partition: TopicPartition, start: int, end: int
) -> Iterator[Any]:
    """The records of a partition from one offset up to another."""
    assign(consumer, {partition: start})
    for records in batches(consumer, {partition: end}):
        yield from records
