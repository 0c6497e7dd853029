"""The raw topic: whether it can be used, and which snapshots it contains."""

import json
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource

from config import CLOCK_TOLERANCE, Settings
from velib.errors import Failure
from velib.kafka import clients
from velib.kafka.reader import assign, batches, end_offsets, partitions
from velib.runtime import local_time, log

LOOK_BACK = 2_000  # offsets at the end of a partition: a snapshot of the bike network


def refuse_compaction(settings: Settings) -> None:
    """Raise Failure if the raw topic is compacted, as its snapshots would lose stations; or
    KafkaError.

    If the user may not read the topic's configuration, the check is skipped.
    """
    resource = ConfigResource("TOPIC", settings.raw_topic, ["cleanup.policy"])
    with clients.Admin(settings) as admin:
        configurations = admin.describe_configs([resource])["topic"][settings.raw_topic]
    policy = configurations.get("cleanup.policy", {}).get("value", "")
    if "compact" in policy:
        raise Failure(
            f"The topic {settings.raw_topic} has cleanup.policy={policy}, which removes stations"
            " from its snapshots: set it to delete, or set VELIB_RAW_TOPIC to another topic"
        )


def identity(settings: Settings) -> str:
    """The id that Kafka gave the raw topic when it was created, "" if none; raises KafkaError."""
    with clients.Admin(settings) as admin:
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


def first_offsets(settings: Settings) -> dict[int, int]:
    """The offset from which a new job reads, by partition of the raw topic; raises KafkaError.

    Retention removes a topic's oldest records by whole segments, whose borders may lie within a
    snapshot. A total of what is left of that one would be wrong, so the oldest snapshot of a topic
    that does not begin at offset 0 is skipped.
    """
    with clients.committed_consumer(settings) as consumer:
        ends = end_offsets(consumer, settings.raw_topic)
        starts = {p: consumer.beginning_offsets([p])[p] for p in ends}

        def first_after(snapshot: int, partition: TopicPartition) -> tuple[int, int]:
            """Offset and snapshot of the first station of a later snapshot, else the end and 0."""
            for record in _records(consumer, partition, starts[partition], ends[partition]):
                if (later := snapshot_of(record)) > snapshot:
                    return record.offset, later
            return ends[partition], 0

        oldest = [first_after(0, p)[1] for p in ends if starts[p] > 0]
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
            starts = {p: first_after(max(oldest), p)[0] for p in ends}
        return {p.partition: offset for p, offset in starts.items()}


def newest_snapshot(settings: Settings) -> int:
    """The newest committed snapshot in the raw topic (epoch seconds), 0 if it has none.

    Raises KafkaError. Reads the end of the topic, which may also contain records of other writers.
    """
    with clients.committed_consumer(settings) as consumer:
        all_partitions = partitions(consumer, settings.raw_topic)
        return max((_last_snapshot(consumer, p) for p in all_partitions), default=0)


def _last_snapshot(consumer: KafkaConsumer, partition: TopicPartition) -> int:
    """The newest snapshot in the last offsets of a partition, 0 if it has none.

    Looks back in growing steps: the last offsets may be transaction markers, aborted records, or
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


def _records(
    consumer: KafkaConsumer, partition: TopicPartition, start: int, end: int
) -> Iterator[Any]:
    """The records of a partition from one offset up to another."""
    assign(consumer, {partition: start})
    for records in batches(consumer, {partition: end}):
        yield from records
