"""Runs the job in each output mode, and compares how many records it writes."""

from functools import cache
from types import ModuleType

from docs import pocket
from exercises.lab import Lab, Wrong, snapshot, where

TRANSACTIONS = (
    snapshot(0, "16107", "16108", "32017"),
    snapshot(1, "16107", "32017"),
    snapshot(1, "16108"),
    snapshot(5, "16107", "16108", "32017"),
)


def test(lab: Lab, answer: ModuleType) -> None:
    for mode, written in records_by_mode(lab).items():
        said = answer.RECORDS[mode]
        if said is None:
            raise Wrong(f"{mode}: no number yet. The first of the records is {where(written[0])}")
        if said != len(written):
            number = max(1, min(said + 1, len(written)))  # the first one too many, or the last one
            raise Wrong(
                f"{mode}: you said {said}, Spark wrote {len(written)} records."
                f" Number {number} is {where(written[number - 1])}"
            )


@cache  # the tests of the exercises ask for two answers
def records_by_mode(lab: Lab) -> dict[str, list]:
    """What the job writes in each output mode, with a batch for each transaction."""
    lab.spark.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", True)  # Spark's default
    stations = lab.topic()
    totals = pocket.sum_by_postal_code(pocket.parse(lab.read(stations)))
    topics = {mode: lab.topic(f"totals-{mode}") for mode in ("update", "complete", "append")}
    queries = [
        pocket.to_records(totals)
        .writeStream.format("kafka")
        .option("kafka.bootstrap.servers", lab.kafka)
        .option("topic", topic)
        .option("checkpointLocation", str(lab.folder / topic))
        .outputMode(mode)
        .start()
        for mode, topic in topics.items()
    ]
    try:
        for transaction in TRANSACTIONS:
            lab.publish(stations, transaction)
            for query in queries:
                query.processAllAvailable()
    finally:
        for query in queries:
            query.stop()
    return {mode: lab.records(topic) for mode, topic in topics.items()}
