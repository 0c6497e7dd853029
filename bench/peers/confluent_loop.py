"""The totals with a loop that is written for speed: confluent-kafka (Kafka's C client) and orjson.

    python -m bench.peers.confluent_loop                   until stopped
    python -m bench.peers.confluent_loop --available-now   what is in the topic now; then prints
                                                           the seconds since the first poll

After each poll it writes the totals that have changed, and commits its offsets when Kafka has them.
The sums are only in memory: a loop that is killed within a snapshot forgets a part of it.
"""

import sys
import time

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

import config
from bench.peers.sums import Sums
from velib import runtime


def main() -> None:
    settings = config.load()
    available_now = "--available-now" in sys.argv[1:]
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": f"{settings.final_topic}-loop",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    consumer.subscribe([settings.raw_topic])
    sums, at_end = Sums(), set()
    started = time.monotonic()
    while True:
        for message in consumer.consume(5_000, timeout=0.01):
            if (error := message.error()) is None:
                sums.add(orjson.loads(message.value() or b""))
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            else:
                raise KafkaException(error)
        changes = list(sums.changes())
        for total in changes:
            key, value = total["postal_code"].encode(), orjson.dumps(total)
            producer.produce(settings.final_topic, key=key, value=value)
            producer.poll(0)
        producer.flush()
        if changes:
            consumer.commit(asynchronous=False)
        if available_now and at_end and len(at_end) == len(consumer.assignment()):
            break
    print(f"{time.monotonic() - started:.3f} s")
    consumer.close()


if __name__ == "__main__":
    runtime.run_tool(main)
