"""Sums the available bikes of the selected stations by postal code, for every snapshot of the feed.

    python spark.py                     go on from where the last run stopped, until stopped
    python spark.py --available-now     process what is in the topic now, then stop
    spark-submit --master 'local[2]' --packages \\
        org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0 spark.py      under spark-submit

Reads the stations of every snapshot from `velib-projet` and writes a total for each postal code and
snapshot to `velib-projet-final-data`. What cannot be counted goes to `velib-projet-dead-letters`.
`--reset-checkpoint` forgets the progress: the job starts over from the topic's earliest record.
"""

import argparse
from collections.abc import Iterator
from threading import Event
from typing import Any

from velib.job import session  # isort: skip  (chooses Spark, so it comes before pyspark)

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.streaming.query import StreamingQuery

import config
from config import Settings
from velib import java, runtime
from velib.job import columns, supervisor
from velib.job.checkpoint import Checkpoint, confirm_reset
from velib.kafka import clients, topics
from velib.runtime import log

RECORD_COLUMNS = ("key", "value", "topic", "partition", "offset")
"""What a record holds, and where it stands."""


def read(spark: SparkSession, settings: Settings, starting_offsets: str) -> DataFrame:
    """The stream of the raw topic's committed records, with the columns of Spark's Kafka source."""
    return (
        spark.readStream.format("kafka")
        .options(**clients.spark_options(settings))
        .option("subscribe", settings.raw_topic)
        .option("startingOffsets", starting_offsets)
        .option("kafka.isolation.level", "read_committed")
        # The last offset is a commit marker, not a record: the default waits 500 ms behind it.
        .option("kafka.fetch.max.wait.ms", "10")
        # A backlog of days is worked off in batches that fit the memory, in tasks for all cores.
        .option("maxOffsetsPerTrigger", "2000000")
        .option("maxRecordsPerPartition", "100000")
        .load()
    )
    # key 16107, value {"stationCode": "16107", "num_bikes_available": 1, "is_renting": 1, …,
    # "last_updated": 1732004538}, topic velib-projet, partition 0, offset 0, timestamp …


def parse(records: DataFrame) -> DataFrame:
    """Read the station out of each record, and say why if it cannot be counted.

    Input: Kafka's columns. Output: RECORD_COLUMNS, stationCode (string), last_updated (epoch
    seconds), postal_code (string), counts (struct of columns.COUNTS) and reason (string), which
    is null if the record can be counted.
    """
    return (
        records.withColumn("station", columns.station(F.col("value")))
        .withColumn("postal_code", columns.postal_code(F.col("station.stationCode")))
        .withColumn("counts", columns.counts(F.col("station")))
        .withColumn(
            "reason",
            columns.reason(*[F.col(c) for c in ("value", "timestamp", "station", "postal_code")]),
        )
        .select(
            *RECORD_COLUMNS,
            "station.stationCode",
            "station.last_updated",
            "postal_code",
            "counts",
            "reason",
        )
        # For the warning about dead letters. It is a barrier, too: without it Spark copies the
        # whole expression of `reason` into the filters that follow, and parses each record about
        # twenty times (14,000 records a second instead of 170,000).
        .observe("parsed", F.mode("reason").alias("commonest_reason"))
    )
    # … stationCode 16107, last_updated 1732004538, postal_code 75016, reason null, counts
    # {stations 1, num_bikes_available 1, mechanical 1, ebike 0, num_docks_available 34}


def select(parsed: DataFrame, codes: tuple[str, ...] | str) -> DataFrame:
    """Keep the stations that can be counted and have one of these codes; any code for `all`."""
    can_be_counted = F.col("reason").isNull()
    is_selected = F.lit(True) if codes == config.ALL else F.col("stationCode").isin(*codes)
    return parsed.where(can_be_counted & is_selected)


def total(selected: DataFrame, watermark: str) -> DataFrame:
    """Sum the stations of each snapshot by postal code, each station once.

    A topic may hold a record twice, when a tool has copied it or a producer has tried again: the
    set has it once. Should the records of a station differ, the one that sorts last counts.

    Output: snapshot (timestamp), postal_code (string) and columns.COUNTS (long).
    """
    counts_by_code = F.map_from_entries(F.sort_array("station_set"))  # of a code twice, the last
    sums = F.aggregate(F.map_values(counts_by_code), columns.zero_counts(), columns.add)
    return (
        selected.withColumn("snapshot", F.timestamp_seconds("last_updated"))
        .withWatermark("snapshot", watermark)
        .groupBy("snapshot", "postal_code")
        .agg(F.collect_set(F.struct("stationCode", "counts")).alias("station_set"))
        .select("snapshot", "postal_code", sums.alias("sums"))
        .select("snapshot", "postal_code", "sums.*")
    )
    # snapshot 2024-11-19 08:22:18, postal_code 75016, stations 58, num_bikes_available 708,
    # mechanical 411, ebike 297, num_docks_available 1148


def total_records(totals: DataFrame, topic: str) -> DataFrame:
    """The totals as records for Kafka: key, value (JSON) and topic (strings)."""
    last_updated = F.unix_seconds("snapshot").alias("last_updated")
    value = F.to_json(F.struct("postal_code", last_updated, *columns.COUNTS))
    return totals.select(
        F.col("postal_code").alias("key"), value.alias("value"), F.lit(topic).alias("topic")
    )
    # key 75016, value {"postal_code": "75016", "last_updated": 1732004538, "stations": 58, …}


def dead_letter_records(parsed: DataFrame, topic: str) -> DataFrame:
    """The records that cannot be counted, as records for Kafka: key, value, topic and headers.

    Key and value are the record's own; the headers say why it is here and where it stood.
    """
    headers = [
        F.struct(F.lit(name).alias("key"), F.col(name).cast("string").cast("binary").alias("value"))
        for name in ("reason", "topic", "partition", "offset")
    ]
    return parsed.where(F.col("reason").isNotNull()).select(
        "key",
        F.substring("value", 1, columns.MAX_VALUE).alias("value"),
        F.lit(topic).alias("topic"),
        F.array(*headers).alias("headers"),
    )
    # key 99999, value {"stationCode": "99999", …}, headers reason: stationCode without a postal
    # code, topic: velib-projet, partition: 0, offset: 313


def write(
    records: DataFrame, name: str, settings: Settings, trigger: dict[str, Any]
) -> StreamingQuery:
    """Start a query that writes records to Kafka; its checkpoint is in a folder of its name."""
    return (
        records.writeStream.queryName(name)
        .outputMode("update")
        .trigger(**trigger)
        .format("kafka")
        .options(**clients.spark_options(settings))
        .option("checkpointLocation", f"{settings.checkpoint_dir}/{name}")
        .option("kafka.compression.type", "gzip")
        # Kafka's own limit is for the compressed batch, these are for records before that.
        .option("kafka.max.request.size", str(64 * columns.MAX_VALUE))
        .option("kafka.buffer.memory", str(64 * columns.MAX_VALUE))
        .start()
    )


def start(
    spark: SparkSession, settings: Settings, starting_offsets: str, available_now: bool
) -> Iterator[StreamingQuery]:
    """Start the two queries, which are the whole path of the data; yields each when it runs."""
    selection = "all" if settings.stations == config.ALL else ", ".join(settings.stations)
    log.info("Sums of stations %s: %s to %s", selection, settings.raw_topic, settings.final_topic)
    parsed = parse(read(spark, settings, starting_offsets))
    totals = total(select(parsed, settings.stations), settings.watermark)
    yield write(
        total_records(totals, settings.final_topic),
        "totals",
        settings,
        {"availableNow": True} if available_now else {"processingTime": "0 seconds"},
    )
    yield write(
        dead_letter_records(parsed, settings.dead_letter_topic),
        "dead-letters",
        settings,
        # Seldom, so that it hardly slows the totals: it parses every record again.
        {"availableNow": True} if available_now else {"processingTime": "10 seconds"},
    )


def main(stop: Event) -> None:
    arguments = parse_arguments()
    settings = config.load()
    java.find()
    if arguments.reset_checkpoint and not arguments.yes:
        confirm_reset(settings)
    # A user whom Kafka refuses learns it at once. Spark can start before Kafka is there.
    has_topics = topics.ensure(settings, stop, timeout=0)
    with session.spark_session(settings) as spark:
        if not has_topics:
            topics.ensure(settings, stop)
        checkpoint = Checkpoint(spark, settings)
        if arguments.reset_checkpoint:
            checkpoint.reset()

        def start_queries() -> Iterator[StreamingQuery]:
            topics.refuse_compaction(settings)
            checkpoint.check()
            session.set_shuffle_partitions(spark, settings, checkpoint.shuffle_partitions())
            return start(spark, settings, checkpoint.starting_offsets(), arguments.available_now)

        supervisor.keep_running(
            spark, settings, start_queries, one_by_one=arguments.available_now, stop=stop
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sum the bikes of each snapshot by postal code.")
    parser.add_argument(
        "--available-now", action="store_true", help="process what is in the topic now, then stop"
    )
    parser.add_argument(
        "--reset-checkpoint",
        action="store_true",
        help="forget the progress: start over from the topic's earliest record",
    )
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before the checkpoint is reset"
    )
    arguments = parser.parse_args()
    if arguments.yes and not arguments.reset_checkpoint:
        parser.error("--yes goes with --reset-checkpoint")
    return arguments


if __name__ == "__main__":
    runtime.run(main, supervisor.PATIENCE)
