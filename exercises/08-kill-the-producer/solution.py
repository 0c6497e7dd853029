"""Exercise 8, solved: publish a snapshot so that a reader sees all of it or nothing."""

from collections.abc import Iterable

from kafka import KafkaProducer


def connect(kafka: str, name: str) -> KafkaProducer:
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=name)
    producer.init_transactions()  # aborts what a killed producer with this id has left open
    return producer


def publish(producer: KafkaProducer, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    producer.begin_transaction()
    for key, value in records:
        producer.send(topic, key=key, value=value)
    producer.commit_transaction()  # waits until all have arrived
