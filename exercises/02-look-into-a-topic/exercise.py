"""Exercise 2: count the records that a reader of committed records sees."""

from kafka import KafkaConsumer, TopicPartition


def count_committed(consumer: KafkaConsumer, partition: TopicPartition) -> int:
    """How many committed records the partition contains now.

    The consumer has the isolation level `read_committed` and is assigned to the partition. It has
    no position yet: see its methods seek_to_beginning, poll and position.
    """
    first = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    return end - first
