"""Exercise 8: publish a snapshot so that a reader sees all of it or nothing."""

from collections.abc import Iterable

from kafka import KafkaProducer


def connect(kafka: str, name: str) -> KafkaProducer:
    """A producer for the Kafka at this address. `name` is the same after every restart."""
    return KafkaProducer(bootstrap_servers=kafka)


def publish(producer: KafkaProducer, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Publish the records of a snapshot, each a key and a value."""
    for key, value in records:
        producer.send(topic, key=key, value=value)
    producer.flush()
