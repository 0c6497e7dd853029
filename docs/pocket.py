"""The whole idea in one file: a snapshot, a transaction, a sum by snapshot and place, a reader.

Start a Kafka (`python -m local.broker`), then each of these in a terminal of its own:

    python docs/pocket.py produce     each new snapshot of the feed → the topic pocket-stations
    python docs/pocket.py total       its bikes by postal code      → the topic pocket-totals
    python docs/pocket.py consume     print the totals

`produce http://localhost:8000` polls another feed, such as that of `python -m local.simulator`.
docs/how-it-works.md says what the project adds to this, and why.
"""

import csv
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyspark
import requests
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.streaming.query import StreamingQuery

FEED = "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole"
KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
STATIONS, TOTALS = "pocket-stations", "pocket-totals"
STATION = """stationCode string, last_updated long, is_installed int, is_renting int,
    num_bikes_available int, num_docks_available int"""
COUNTS = ("stations", "num_bikes_available", "num_docks_available")
EXCEPTIONS = Path(__file__).parent.parent / "data" / "postal_code_exceptions.csv"


# The producer. A snapshot is one transaction: a reader sees all of its stations or none.


def produce(feed: str = FEED) -> None:
    url, headers = f"{feed}/station_status.json", {"User-Agent": "velib-projet"}
    producer = connect()
    newest = 0
    while True:
        snapshot = requests.get(url, headers=headers, timeout=15).json()
        if snapshot["lastUpdatedOther"] > newest:  # polled twice, it is still published once
            newest = snapshot["lastUpdatedOther"]
            publish(producer, snapshot)
        time.sleep(10)


def connect(kafka: str = KAFKA) -> KafkaProducer:
    topics = [NewTopic(name, num_partitions=1, replication_factor=1) for name in (STATIONS, TOTALS)]
    with suppress(TopicAlreadyExistsError), KafkaAdminClient(bootstrap_servers=kafka) as admin:
        admin.create_topics(topics)
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id="pocket")
    producer.init_transactions()  # aborts what a killed producer has left open
    return producer


def publish(producer: KafkaProducer, snapshot: dict[str, Any], topic: str = STATIONS) -> None:
    producer.begin_transaction()
    for station in snapshot["data"]["stations"]:
        record = station | {"last_updated": snapshot["lastUpdatedOther"]}
        key, value = station["stationCode"].encode(), json.dumps(record).encode()
        producer.send(topic, key=key, value=value)
    producer.commit_transaction()


# The job. Only stations of the same snapshot are added up, and each of them once.


def total() -> None:
    connector = f"org.apache.spark:spark-sql-kafka-0-10_2.13:{pyspark.__version__}"
    spark = SparkSession.builder.config("spark.jars.packages", connector).getOrCreate()
    spark.conf.set("spark.sql.shuffle.partitions", 1)
    totals = sum_by_postal_code(parse(read(spark)))
    write(to_records(totals), ".velib/pocket").awaitTermination()


def read(spark: SparkSession, kafka: str = KAFKA, topic: str = STATIONS) -> DataFrame:
    source = spark.readStream.format("kafka").option("kafka.bootstrap.servers", kafka)
    source = source.option("subscribe", topic).option("startingOffsets", "earliest")
    return source.option("kafka.isolation.level", "read_committed").load()


def parse(records: DataFrame) -> DataFrame:
    """A row for each station: snapshot, postal_code, stationCode and its COUNTS."""
    station = F.from_json(F.col("value").cast("string"), STATION)
    is_open = (F.col("is_installed") == 1) & (F.col("is_renting") == 1)
    return (
        records.select(station.alias("station"))
        .select("station.*")
        .withColumn("snapshot", F.timestamp_seconds("last_updated"))
        .withColumn("postal_code", postal_code(F.col("stationCode")))
        .withColumn("stations", F.lit(1))
        # The bikes of a closed station cannot be taken.
        .withColumns({name: F.when(is_open, F.col(name)).otherwise(0) for name in COUNTS})
        .select("snapshot", "postal_code", "stationCode", *COUNTS)
    )


def postal_code(code: Column) -> Column:
    """16107 → 75016, 32017 → 93200. The exceptions are stations on a boundary."""
    number = F.regexp_extract(code, "^[0-9]+", 0).cast("int")
    in_paris = F.when(number < 21_000, 75_000 + F.floor(number / 1_000))
    around_paris = in_paris.when(number < 60_000, 90_000 + F.floor(number / 100) * 10)
    by_rule = around_paris.otherwise(92_000)
    with EXCEPTIONS.open() as file:
        exceptions = F.str_to_map(F.lit(",".join(map(":".join, csv.reader(file)))))
    return F.coalesce(exceptions[code], by_rule.cast("string"))


def sum_by_postal_code(stations: DataFrame) -> DataFrame:
    """A row for each snapshot and postal code, with the sums of COUNTS."""

    def sum_of(name: str) -> Column:
        numbers = F.transform("station_set", lambda station: station[name])
        return F.reduce(numbers, F.lit(0), lambda left, right: left + right).alias(name)

    return (
        stations.withWatermark("snapshot", "10 minutes")  # Spark forgets older snapshots
        .groupBy("snapshot", "postal_code")
        .agg(F.collect_set(F.struct("stationCode", *COUNTS)).alias("station_set"))
        .select("snapshot", "postal_code", *map(sum_of, COUNTS))
    )


def to_records(totals: DataFrame) -> DataFrame:
    last_updated = F.unix_seconds("snapshot").alias("last_updated")
    value = F.to_json(F.struct("postal_code", last_updated, *COUNTS))
    return totals.select(F.col("postal_code").alias("key"), value.alias("value"))


def write(
    records: DataFrame, checkpoint: str, kafka: str = KAFKA, topic: str = TOTALS
) -> StreamingQuery:
    sink = records.writeStream.format("kafka").option("kafka.bootstrap.servers", kafka)
    sink = sink.option("topic", topic).option("checkpointLocation", checkpoint)
    return sink.outputMode("update").start()


# The consumer. After a crash the job writes its last totals again: the same ones.


def consume() -> None:
    for record in KafkaConsumer(TOTALS, bootstrap_servers=KAFKA, auto_offset_reset="earliest"):
        print(record.value.decode(), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["produce", *feed]:
            produce(*feed)
        case ["total"]:
            total()
        case ["consume"]:
            consume()
        case _:
            print(__doc__)
