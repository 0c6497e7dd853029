"""Sums the available bikes of the selected stations by postal code, for every snapshot of the feed.

    python spark.py                     resume where the last run stopped, and run until stopped
    python spark.py --available-now     process what is in the topic now, then stop
    spark-submit --master 'local[2]' --packages \\
        org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0 spark.py      under spark-submit

Reads the stations of every snapshot from `velib-projet` and writes a total for each postal code and
snapshot to `velib-projet-final-data`. Records that cannot be counted go to
`velib-projet-dead-letters`. `--reset-checkpoint` deletes the progress: the job starts over from the
topic's earliest record.
"""

import argparse
from threading import Event

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.streaming.query import StreamingQuery

import config
from config import Settings
from velib import java, metrics, runtime
from velib.job import columns
from velib.job.checkpoint import Checkpoint, confirm_reset, locked_checkpoint
from velib.job.session import set_shuffle_partitions, spark_session
from velib.job.supervisor import PATIENCE, keep_running
from velib.kafka import clients, topics
from velib.runtime import log
from velib.totals.records import COUNTS

RECORD_COLUMNS = ("key", "value", "topic", "partition", "offset")
"""What a record contains, and its position in the topic."""

MAX_BUFFERED = 64 * columns.MAX_VALUE
"""Bytes: the limit for one request of Kafka's sink, and for all that it has not sent yet."""


def read(spark: SparkSession, settings: Settings, starting_offsets: str) -> DataFrame:
    """The stream of the raw topic's committed records, with the columns of Spark's Kafka source.

    A record is one station of one snapshot:
    key 16107, value {"stationCode": "16107", "num_bikes_available": 1, "is_renting": 1, …,
    "last_updated": 1732004538}, topic velib-projet, partition 0, offset 0, timestamp …
    """
    return (
        spark.readStream.format("kafka")
        .options(**clients.spark_options(settings))
        .option("subscribe", settings.raw_topic)
        .option("startingOffsets", starting_offsets)
        .option("kafka.isolation.level", "read_committed")
        # The last offset is a commit marker, not a record: with the default, Spark would wait
        # 500 ms for a record after it.
        .option("kafka.fetch.max.wait.ms", "10")
        # Cap the batch so that a backlog fits in memory; split partitions to use all cores.
        .option("maxOffsetsPerTrigger", "2000000")
        .option("maxRecordsPerPartition", "100000")
        .load()
    )


def parse(records: DataFrame) -> DataFrame:
    """Extract the station from each record and, if the record cannot be counted, the reason.

    Input: Kafka's columns. Output: RECORD_COLUMNS, stationCode (string), last_updated (epoch
    seconds), postal_code (string), counts (struct of COUNTS) and reason (string), which is
    null if the record can be counted:
    … stationCode 16107, last_updated 1732004538, postal_code 75016, reason null, counts
    {stations 1, num_bikes_available 1, mechanical 1, ebike 0, num_docks_available 34}
    """
    station, postal_code = F.col("station"), F.col("postal_code")
    return (
        records.withColumn("parsed", columns.parsed(F.col("value")))
        .withColumn("station", columns.station(F.col("parsed")))
        .withColumn("postal_code", columns.postal_code(station["stationCode"]))
        .withColumn("counts", columns.counts(station))
        .withColumn(
            "reason",
            columns.reason(
                F.col("value"), F.col("timestamp"), F.col("parsed.malformed"), station, postal_code
            ),
        )
        .select(
            *RECORD_COLUMNS,
            "station.stationCode",
            "station.last_updated",
            "postal_code",
            "counts",
            "reason",
        )
        .transform(observe_parsed)
    )


def observe_parsed(parsed: DataFrame) -> DataFrame:
    """Keep Spark from copying the expression of `reason` into each filter that follows.

    With the copies it would parse each record about twenty times: 14,000 records a second instead
    of 170,000. Spark does not move an expression across `observe`, so the call is a barrier. What
    it observes is for the log: the number of records, the number of dead letters, and the commonest
    reason.
    """
    return parsed.observe(
        "parsed",
        F.count(F.lit(1)).alias("records"),
        F.count("reason").alias("dead_letters"),
        F.mode("reason").alias("commonest_reason"),
    )


def keep_stations(parsed: DataFrame, codes: tuple[str, ...] | str) -> DataFrame:
    """Keep the stations that can be counted and have one of these codes, or any code for `all`."""
    can_be_counted = F.col("reason").isNull()
    is_selected = F.lit(True) if codes == config.ALL else F.col("stationCode").isin(*codes)
    return parsed.where(can_be_counted & is_selected)


def sum_by_postal_code(stations: DataFrame, watermark: str) -> DataFrame:
    """Sum the stations of each snapshot by postal code, each station once.

    If a tool has copied a record, the topic contains it twice, the set once. If a station's records
    differ, the one with the greatest counts, compared in the order of COUNTS, is used.

    Output: snapshot (timestamp), postal_code (string) and COUNTS (long):
    snapshot 2024-11-19 08:22:18, postal_code 75016, stations 58, num_bikes_available 708,
    mechanical 411, ebike 297, num_docks_available 1148
    """
    # Of two entries with the same key the map keeps the last. By default Spark raises an error.
    stations.sparkSession.conf.set("spark.sql.mapKeyDedupPolicy", "LAST_WIN")
    counts_by_code = F.map_from_entries(F.sort_array("station_set"))
    sums = F.aggregate(F.map_values(counts_by_code), columns.zero_counts(), columns.add_counts)
    return (
        stations.withColumn("snapshot", F.timestamp_seconds("last_updated"))
        .withWatermark("snapshot", watermark)
        .groupBy("snapshot", "postal_code")
        .agg(F.collect_set(F.struct("stationCode", "counts")).alias("station_set"))
        .select("snapshot", "postal_code", sums.alias("sums"))
        .select("snapshot", "postal_code", "sums.*")
    )


def to_total_records(totals: DataFrame, topic: str) -> DataFrame:
    """The totals as records for Kafka: key, value (JSON) and topic (strings):
    key 75016, value {"postal_code": "75016", "last_updated": 1732004538, "stations": 58, …}
    """
    last_updated = F.unix_seconds("snapshot").alias("last_updated")
    value = F.to_json(F.struct("postal_code", last_updated, *COUNTS))
    return totals.select(
        F.col("postal_code").cast("binary").alias("key"),
        value.cast("binary").alias("value"),
        F.lit(topic).alias("topic"),
    )


def to_dead_letters(parsed: DataFrame, topic: str) -> DataFrame:
    """The records that cannot be counted, as records for Kafka: key, value, topic and headers.

    Key and value are the record's own; the headers give the reason and its position:
    key 99999, value {"stationCode": "99999", …}, headers reason: stationCode without a postal
    code, topic: velib-projet, partition: 0, offset: 313
    """
    headers = [
        F.struct(F.lit(name).alias("key"), F.col(name).cast("string").cast("binary").alias("value"))
        for name in ("reason", "topic", "partition", "offset")
    ]
    return parsed.where(F.col("reason").isNotNull()).select(
        *[F.substring(name, 1, columns.MAX_VALUE).alias(name) for name in ("key", "value")],
        F.lit(topic).alias("topic"),
        F.array(*headers).alias("headers"),
    )


def write(records: DataFrame, settings: Settings, available_now: bool) -> StreamingQuery:
    """Start the query that writes the records to their topics."""
    trigger = {"availableNow": True} if available_now else {"processingTime": "0 seconds"}
    return (
        records.writeStream.queryName("velib")
        .outputMode("update")
        .trigger(**trigger)
        .format("kafka")
        .options(**clients.spark_options(settings))
        .option("checkpointLocation", settings.checkpoint_dir)
        .option("kafka.compression.type", "gzip")
        # The totals of a snapshot are sent together; the end of the batch sends what waits.
        .option("kafka.linger.ms", "1000")
        # The broker's limit applies to the compressed batch; these two apply before compression.
        .option("kafka.max.request.size", str(MAX_BUFFERED))
        .option("kafka.buffer.memory", str(MAX_BUFFERED))
        .start()
    )


def start(
    spark: SparkSession, settings: Settings, checkpoint: Checkpoint, available_now: bool
) -> StreamingQuery:
    """Start the query. Totals and dead letters are one stream of records, so that both are
    committed together.
    """
    parsed = parse(read(spark, settings, checkpoint.starting_offsets()))
    stations = keep_stations(parsed, settings.stations)
    sums = sum_by_postal_code(stations, settings.watermark)
    totals = to_total_records(sums, settings.final_topic)
    dead_letters = to_dead_letters(parsed, settings.dead_letter_topic)
    records = totals.unionByName(dead_letters, allowMissingColumns=True)
    return write(records, settings, available_now)


def main(stop: Event) -> None:
    arguments = parse_arguments()
    settings = config.load()
    metrics.serve(arguments.metrics_port)
    java.find()
    if arguments.reset_checkpoint and not arguments.yes:
        confirm_reset(settings)
    with locked_checkpoint(settings), spark_session(settings) as spark:
        run(spark, settings, stop, arguments.available_now, arguments.reset_checkpoint)


def run(
    spark: SparkSession,
    settings: Settings,
    stop: Event,
    available_now: bool,
    reset_checkpoint: bool = False,
) -> None:
    """Run the job until it is stopped or, with `available_now`, has processed what is in the topic.

    Raises Failure.
    """
    if not topics.ensure(settings, stop):
        return
    checkpoint = Checkpoint(spark, settings)
    if reset_checkpoint:
        checkpoint.reset()

    def start_query() -> StreamingQuery:
        checkpoint.check()
        set_shuffle_partitions(spark, settings)
        return start(spark, settings, checkpoint, available_now)

    selection = "all" if settings.stations == config.ALL else ", ".join(settings.stations)
    log.info("Summing stations %s: %s → %s", selection, settings.raw_topic, settings.final_topic)
    keep_running(spark, settings, start_query, stop)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sum the bikes of each snapshot by postal code.")
    parser.add_argument(
        "--available-now", action="store_true", help="process what is in the topic now, then stop"
    )
    parser.add_argument(
        "--reset-checkpoint",
        action="store_true",
        help="delete the progress: start over from the topic's earliest record",
    )
    parser.add_argument("--yes", action="store_true", help="reset the checkpoint without asking")
    metrics.add_option(parser)
    arguments = parser.parse_args()
    if arguments.yes and not arguments.reset_checkpoint:
        parser.error("--yes needs --reset-checkpoint")
    return arguments


if __name__ == "__main__":
    runtime.run(main, PATIENCE)
