"""The totals with a plain loop: kafka-python and the json of Python's standard library.

    python -m bench.peers.kafka_python_loop                   until stopped
    python -m bench.peers.kafka_python_loop --available-now   what is in the topic now; then prints
                                                              the seconds since the first poll

After each poll it writes the totals that have changed, and commits its offsets when Kafka has them.
The sums are only in memory: a loop that is killed within a snapshot forgets a part of it.
"""

import json
import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import config
from bench.peers.sums import Sums
from velib import runtime


def main() -> None:
    settings = config.load()
    available_now = "--available-now" in sys.argv[1:]
    consumer = KafkaConsumer(
        settings.raw_topic,
        bootstrap_servers=settings.kafka.bootstrap_servers,
        group_id=f"{settings.final_topic}-loop",
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=5_000,
    )
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
    numbers = consumer.partitions_for_topic(settings.raw_topic)
    ends = consumer.end_offsets([TopicPartition(settings.raw_topic, n) for n in numbers])
    sums = Sums()
    started = time.monotonic()
    while True:
        for records in consumer.poll(timeout_ms=1_000).values():
            for record in records:
                sums.add(json.loads(record.value))
        changes = list(sums.changes())
        for total in changes:
            producer.send(
                settings.final_topic,
                key=total["postal_code"].encode(),
                value=json.dumps(total).encode(),
            )
        producer.flush()
        if changes:
            consumer.commit()
        assigned = consumer.assignment()
        if available_now and assigned and all(consumer.position(p) >= ends[p] for p in assigned):
            break
    print(f"{time.monotonic() - started:.3f} s")


if __name__ == "__main__":
    runtime.run_tool(main)
