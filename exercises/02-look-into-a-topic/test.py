"""Fills a topic with two committed snapshots and an aborted one, and compares the count."""

from types import ModuleType

from kafka import KafkaConsumer, TopicPartition

from exercises.lab import Lab, Wrong, snapshot

CODES = ("16107", "16108", "32017")


def test(lab: Lab, answer: ModuleType) -> None:
    topic = lab.topic()
    lab.publish(topic, snapshot(0, *CODES))
    lab.producer.begin_transaction()
    for station in snapshot(1, *CODES)["data"]["stations"][:2]:
        lab.producer.send(topic, key=station["stationCode"].encode(), value=b"aborted").get()
    lab.producer.abort_transaction()
    lab.publish(topic, snapshot(2, *CODES))

    committed = [record.offset for record in lab.records(topic)]
    sent = [record.offset for record in lab.records(topic, committed=False)]
    partition = TopicPartition(topic, 0)
    with KafkaConsumer(
        bootstrap_servers=lab.kafka,
        isolation_level="read_committed",
        max_poll_records=2,  # one poll is not enough
    ) as consumer:
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        count = answer.count_committed(consumer, partition)
    if count != len(committed):
        aborted = [offset for offset in sent if offset not in committed]
        markers = [offset for offset in range(end) if offset not in sent]
        raise Wrong(
            f"You count {count} records, a reader gets {len(committed)}: of the offsets 0 to"
            f" {end - 1}, {_listed(aborted)} are records of an aborted transaction, and"
            f" {_listed(markers)} are no records, but markers that end a transaction"
        )


def _listed(offsets: list[int]) -> str:
    return " and ".join(map(str, offsets)) if len(offsets) < 3 else ", ".join(map(str, offsets))
