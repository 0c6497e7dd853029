"""Sums the available bikes of the selected stations by postal code, for every snapshot of the feed.

    python spark.py                   go on from where the last run stopped, until stopped
    python spark.py --available-now   process what is in the topic now, then stop
    python spark.py --reset-checkpoint   forget the progress and start over from the topic's earliest record

Reads `velib-projet` and writes `velib-projet-final-data`; what cannot be counted goes to `velib-projet-dead-letters`.
On a cluster `spark-submit` starts it: the command is in README.md.
"""

import argparse
import csv
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import Any

import findspark
from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError
from py4j.protocol import Py4JError, Py4JNetworkError

if "SPARK_HOME" not in os.environ:
    import pyspark  # findspark takes the Spark that is imported, else the first that it finds on the machine
findspark.init()

import pyspark  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402
from pyspark.errors import PySparkException  # noqa: E402
from pyspark.java_gateway import launch_gateway  # noqa: E402
from pyspark.sql import Column, DataFrame, SparkSession  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402, N812
from pyspark.sql.streaming.listener import StreamingQueryProgress  # noqa: E402
from pyspark.sql.streaming.query import StreamingQuery  # noqa: E402

import cli  # noqa: E402
import config  # noqa: E402
import java  # noqa: E402
import topics  # noqa: E402
from cli import Failure, log  # noqa: E402
from config import Settings  # noqa: E402

IVY_DIR = config.CACHE_DIR / "ivy"
"""Where Spark keeps the connector once it is fetched."""

SPARK_HAS = ["org.apache.hadoop:hadoop-client-api", "org.apache.hadoop:hadoop-client-runtime"]
"""What the connector asks for and pyspark brings itself."""

JVM_LOG = Path(".velib/logs/spark-jvm.log")

READER = {
    # Each task leaves thousands of fetched records that no other reads. Spark keeps them for five minutes: those of a
    # backlog of some days fill the memory.
    "spark.kafka.consumer.fetchedData.cache.timeout": "1s",
    "spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval": "1s",
}

STATION = """
    stationCode string, last_updated long, is_installed int, is_renting int,
    num_bikes_available int, num_docks_available int,
    num_bikes_available_types array<struct<mechanical: int, ebike: int>>,
    _malformed string
"""
"""The fields of a station record that are read. A field of another type, or no JSON at all, fills `_malformed`."""

RULES_KEPT = (
    "BooleanSimplification",
    "ConstantFolding",
    "NullPropagation",
    "OptimizeIn",
    "RemoveNoopOperators",
    "RewriteWithExpression",
    "SimplifyCasts",
)
"""Of the optimizer rules that Spark can do without, those that do our plan good. The others search the plan of every batch in
vain."""

LARGEST_VALUE = 32 * 1024 * 1024  # bytes; a compressed record may be as large. Of a larger dead letter the start is kept
CUT_VALUE = 1024 * 1024

EARLIEST_SNAPSHOT = 1_000_000_000  # 2001; below it a number is no time in epoch seconds
LONGEST_STOP = 30  # seconds that the batch in progress has to end

LONGEST_PAUSE = 30.0  # seconds between two tries of a query that failed
LONG_RUN = 300.0  # seconds after which a failure is a new one
MOST_UNKNOWN = 5  # failures in a row of a cause that nobody knows

CHECKPOINT_PARTS = ("commits", "metadata", "offsets", "sources", "state")
TOPIC_NOTE = "topic-id"  # which topic the checkpoint is of
LETTERS_NOTE = "dead-letters"  # up to which offsets the dead letters are written
LONGEST_UNNOTED = 60.0  # seconds; what a run that is killed has left takes as long to read again
PATIENCE = {
    "kafka.request.timeout.ms": "10000",
    "kafka.default.api.timeout.ms": "20000",
    "kafka.max.block.ms": "20000",
    "kafka.delivery.timeout.ms": "20000",
    "kafkaConsumer.pollTimeoutMs": "20000",
}
"""How long Kafka may take for the dead letters: nothing else is seen to meanwhile."""

CLOCK_DIFFERENCE = 3600  # seconds that a snapshot may be ahead of the Kafka time of its record

TOTALS = ("stations", "num_bikes_available", "mechanical", "ebike", "num_docks_available")

BITS = {name: 1 if name == "stations" else 11 for name in TOTALS}  # of the counts in a station that is one number
DIGITS = 10  # of the largest count, an int

RECORD = ("key", "value", "topic", "partition", "offset")


def main() -> None:
    parser = argparse.ArgumentParser(description="Sum available bikes by postal code, snapshot by snapshot.")
    parser.add_argument("--available-now", action="store_true", help="process what is in the topic now, then stop")
    parser.add_argument(
        "--reset-checkpoint", action="store_true", help="forget the progress: start over from the topic's earliest record"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before the checkpoint is reset")
    arguments = parser.parse_args()
    if arguments.yes and not arguments.reset_checkpoint:
        parser.error("--yes goes with --reset-checkpoint")

    settings = config.load()
    java.find()
    if arguments.reset_checkpoint and not arguments.yes:
        confirm_reset(settings)
    has_topics = topics.ensure(settings, timeout=0)  # whom Kafka refuses need not wait for Spark
    spark = session(settings)  # takes as long as Kafka does to start
    try:
        if not has_topics:
            topics.ensure(settings)
        if arguments.reset_checkpoint:
            reset_checkpoint(spark, settings)
        stop = threading.Event()
        stop_on_signals(stop)
        keep_running(spark, settings, arguments.available_now, stop)
    finally:
        with suppress(Py4JError, OSError):  # its Java process may have ended
            spark.stop()


def run(spark: SparkSession, settings: Settings, available_now: bool, stop: threading.Event) -> None:
    """The whole path of the data, until stopped; raises what ended the query."""
    stations = select(parse(read(spark, settings)), settings.stations)
    if _is_local(settings) and not available_now:
        stations = stations.coalesce(1)  # a snapshot is quicker in one task; what has waited keeps all cores busy
    results = outputs(settings, totals(stations, settings.watermark))
    letters = DeadLetters(spark, settings)
    letters.make_up()
    query = start(results, settings, available_now)
    try:
        watch(query, letters, stop)
    finally:
        with suppress(PySparkException, Py4JError):  # a sink that waits for a Kafka that has gone does not end in time
            query.stop()


# Transformations: each takes and gives a DataFrame.


def parse(records: DataFrame) -> DataFrame:
    """Read the station out of each Kafka record and say why if it cannot be counted.

    Comes in: Kafka's columns. Goes out: the columns RECORD (its bytes and where it is), `stationCode`, `code_number`,
    `postal_code`, `last_updated` (epoch seconds), `counts` (struct of TOTALS: what the station adds to them), and `reason`
    (string), which is null when the record can be counted.
    """
    options = {"columnNameOfCorruptRecord": "_malformed", "allowSingleQuotes": "false"}
    text = F.trim(F.col("value").cast("string"))
    return (
        records.select(
            *RECORD,
            F.col("timestamp").alias("arrived"),
            (F.startswith(text, F.lit("{")) & F.endswith(text, F.lit("}"))).alias("is_object"),
            F.from_json(text, STATION, options).alias("station"),
        )
        .select(*RECORD, "arrived", "is_object", "station.*", code_number(F.col("station.stationCode")).alias("code_number"))
        .withColumn("postal_code", postal_code(F.col("stationCode"), F.col("code_number")))
        .select(
            *RECORD,
            "stationCode",
            "code_number",
            "postal_code",
            "last_updated",
            _counts().alias("counts"),
            _reason().alias("reason"),
        )
    )


def code_number(code: Column) -> Column:
    """The digits of a station code before any `_`, as a number; null when there are none, or more than five."""
    return F.regexp_extract(code, "^([0-9]{1,5})(_.*)?$", 1).try_cast("int")


def postal_code(code: Column, number: Column) -> Column:
    """The postal code that a station code (string) with that number (int) carries, null if none.

    The number ABCDE stands for 750AB with AB from 01 to 20 (Paris), 9ABC0 with A from 2 to 5 (the departments around), and
    92000 with AB = 92. Stations on a boundary are listed in data/postal_code_exceptions.csv.
    """
    in_paris = number.between(1_000, 20_999)
    around_paris = number.between(21_000, 59_999)
    in_nanterre = number.between(92_000, 92_999)
    by_rule = (
        F.when(in_paris, F.lit(75_000) + F.floor(number / 1_000))
        .when(around_paris, F.lit(90_000) + F.floor(number / 100) * 10)
        .when(in_nanterre, F.lit(92_000))
    )
    exceptions = _postal_code_exceptions()
    # As two constants: a literal for each of the 42 would cost more time in every batch than the sums.
    numbers = F.split(F.lit(",".join(exceptions)), ",").cast("array<int>")
    place = F.array_position(numbers, number)  # from 1; 0 if it is not among them
    is_exception = (place > 0) & _is_just(code, number)
    exception = F.when(is_exception, F.get(F.split(F.lit(",".join(exceptions.values())), ","), place - 1))
    return F.coalesce(exception, by_rule.cast("string"))


def _is_just(code: Column, number: Column) -> Column:
    """Whether the code is its number and nothing more: no zeros before it, no letters behind."""
    return code == number.cast("string")


def _postal_code_exceptions() -> dict[str, str]:
    """Postal codes by station code, of the stations whose code says another."""
    with (Path(__file__).parent / "data" / "postal_code_exceptions.csv").open(encoding="utf-8", newline="") as file:
        return {row["station_code"]: row["postal_code"] for row in csv.DictReader(file)}


def _reason() -> Column:
    """Why a parsed record cannot be counted; null if it can."""
    latest = F.unix_seconds("arrived") + CLOCK_DIFFERENCE
    no_json = F.col("_malformed").isNotNull() & F.col("stationCode").isNull() & F.col("last_updated").isNull()
    kinds = F.col("num_bikes_available_types")
    faults = [
        ("no value", F.col("value").isNull()),
        ("longer than 32 MB, only the start is here", F.length("value") > LARGEST_VALUE),
        ("not a JSON object", ~F.col("is_object") | no_json),
        ("no stationCode", F.col("stationCode").isNull()),
        ("stationCode without a postal code", F.col("postal_code").isNull()),
        ("last_updated is not a time", ~_holds(F.col("last_updated").between(F.lit(EARLIEST_SNAPSHOT), latest))),
        *[(f"{name} is not 0 or 1", ~_holds(F.col(name).isin(0, 1))) for name in ("is_installed", "is_renting")],
        *[(f"{name} is not a count", ~_holds(F.col(name) >= 0)) for name in ("num_bikes_available", "num_docks_available")],
        (
            "num_bikes_available_types are not counts",
            F.col("_malformed").isNotNull()
            | (F.array_min(kinds["mechanical"]) < 0).eqNullSafe(True)
            | (F.array_min(kinds["ebike"]) < 0).eqNullSafe(True),
        ),
    ]
    return F.coalesce(*[F.when(is_so, F.lit(name)) for name, is_so in faults])


def _holds(condition: Column) -> Column:
    """The condition, with false where it is null."""
    return F.coalesce(condition, F.lit(False))


def _counts() -> Column:
    """What a station adds to each of the TOTALS (long)."""
    is_open = (F.col("is_installed") == 1) & (F.col("is_renting") == 1)  # GBFS: a closed station's bikes cannot be rented
    counts = {
        "stations": F.lit(1),
        "num_bikes_available": F.col("num_bikes_available"),
        "mechanical": _bikes_of_kind("mechanical"),
        "ebike": _bikes_of_kind("ebike"),
        "num_docks_available": F.col("num_docks_available"),
    }
    its_own = F.struct(*[counts[name].cast("long").alias(name) for name in TOTALS])
    return F.when(is_open, its_own).otherwise(_zeros())


def _zeros() -> Column:
    """Nothing for each of the TOTALS: what a closed station adds, and where a sum starts."""
    return F.struct(*[F.lit(0).cast("long").alias(name) for name in TOTALS])


def _bikes_of_kind(kind: str) -> Column:
    """The feed has a list of one-key objects in any order; a kind that is not in it has no bikes."""
    return F.coalesce(F.array_max(F.col("num_bikes_available_types")[kind]), F.lit(0))


def select(stations: DataFrame, codes: tuple[str, ...] | str) -> DataFrame:
    """Of the stations that can be counted those with these codes, or all.

    The observation `dead_letters` tells how many cannot be counted, and the commonest reason.
    """
    can_be_counted = F.col("reason").isNull()
    observed = stations.observe("dead_letters", F.count("reason").alias("dead"), F.mode("reason").alias("commonest"))
    return observed.where(can_be_counted if codes == config.ALL else can_be_counted & F.col("stationCode").isin(*codes))


def totals(stations: DataFrame, watermark: str) -> DataFrame:
    """Sum the stations of each snapshot by postal code.

    Goes out: snapshot (timestamp), postal_code (string) and the columns TOTALS (long). A station of a snapshot is counted
    once however often Kafka delivers it: a producer or a sink that retries repeats records. Of repeats that differ, which
    no retry makes, the one with the most bikes counts, whatever their order.
    """
    return (
        stations.withColumn("packed", _packed())
        .select(
            F.timestamp_seconds("last_updated").alias("snapshot"),
            "postal_code",
            "packed",
            F.when(F.col("packed").isNull(), _text(F.col("stationCode"), F.col("counts").getField)).alias("text"),
        )
        .withWatermark("snapshot", watermark)
        .groupBy("postal_code", "snapshot")
        .agg(_sums(F.collect_set("packed"), F.collect_set("text")).alias("sums"))
        .select("snapshot", "postal_code", "sums.*")
    )


def _sums(packed: Column, texts: Column) -> Column:
    """What the stations of a postal code count together (struct of TOTALS), each once. Hardly one has texts."""
    as_texts = F.transform(packed, lambda station: _text(_packed_code(station).cast("string"), partial(_packed_count, station)))
    all_texts = F.transform(F.sort_array(F.concat(as_texts, texts)), lambda text: text.cast("binary"))
    return F.when(F.size(texts) == 0, _add_up(F.sort_array(packed), _packed_code, _packed_count)).otherwise(
        _add_up(all_texts, _text_code, _text_count)
    )


def _add_up(stations: Column, code: Callable[[Column], Column], count: Callable[[Column, str], Column]) -> Column:
    by_code = F.map_from_entries(F.transform(stations, lambda station: F.struct(code(station), station)))  # the last stays

    def add(sums: Column, station: Column) -> Column:
        return F.struct(*[(sums[name] + count(station, name)).alias(name) for name in TOTALS])

    return F.aggregate(F.map_values(by_code), _zeros(), add)


# A station in the state is one number, for the state of what has waited for days must not fill the memory: its code and its
# counts, each in its BITS. One that does not fit, with letters in its code or a large count, is text: its counts in DIGITS,
# then its code. Of one code the order of either is that of the counts. A new form needs another order of the keys above: of an
# old checkpoint Spark compares the types only, and would read one form as the other.


def _packed() -> Column:
    """Null if it does not fit."""
    packed, fits = F.col("code_number").cast("long"), _is_just(F.col("stationCode"), F.col("code_number"))
    for name, bits in BITS.items():
        packed = F.shiftleft(packed, bits).bitwiseOR(F.col("counts")[name])
        fits &= F.col("counts")[name] < 2**bits
    return F.when(fits, packed)


def _packed_code(station: Column) -> Column:
    return F.shiftright(station, sum(BITS.values()))


def _packed_count(station: Column, name: str) -> Column:
    behind = list(BITS.values())[TOTALS.index(name) + 1 :]
    return F.shiftright(station, sum(behind)).bitwiseAND(2 ** BITS[name] - 1)


def _text(code: Column, count: Callable[[str], Column]) -> Column:
    return F.concat(*[F.lpad(count(name).cast("string"), DIGITS, "0") for name in TOTALS], code)


def _text_code(station: Column) -> Column:
    """In bytes, as below: they need not be counted as characters must."""
    return F.substr(station, F.lit(len(TOTALS) * DIGITS + 1)).cast("string")


def _text_count(station: Column, name: str) -> Column:
    return F.substring(station, TOTALS.index(name) * DIGITS + 1, DIGITS).cast("string").cast("long")


def outputs(settings: Settings, sums: DataFrame) -> DataFrame:
    """The totals as Kafka's sink takes them."""
    return sums.select(
        F.col("postal_code").cast("binary").alias("key"),
        F.to_json(F.struct("postal_code", F.unix_seconds("snapshot").alias("last_updated"), *TOTALS))
        .cast("binary")
        .alias("value"),
        F.lit(settings.final_topic).alias("topic"),
    )


def dead_letters(settings: Settings, stations: DataFrame) -> DataFrame:
    """The records that cannot be counted, as Kafka's sink takes them: their own key and value, where they were, and why."""
    value = F.col("value")
    headers = [
        F.struct(F.lit(name).alias("key"), F.col(name).cast("string").cast("binary").alias("value"))
        for name in ("reason", "topic", "partition", "offset")
    ]
    return stations.where(F.col("reason").isNotNull()).select(
        "key",
        F.when(F.length(value) > LARGEST_VALUE, F.substring(value, 1, CUT_VALUE)).otherwise(value).alias("value"),
        F.lit(settings.dead_letter_topic).alias("topic"),
        F.array(*headers).alias("headers"),
    )


# Spark and Kafka around them.


def connector() -> str:
    """The Maven coordinates of this Spark's Kafka connector."""
    return f"org.apache.spark:spark-sql-kafka-0-10_2.13:{pyspark.__version__}"


def session(settings: Settings) -> SparkSession:
    """A Spark session: that of spark-submit, or one of our own. What its JVM prints goes to JVM_LOG."""
    if config.under_spark_submit():
        return SparkSession.builder.appName("velib-projet").config(map={**READER}).getOrCreate()
    spark_conf = SparkConf().setAppName("velib-projet").setMaster(settings.spark_master)
    spark_conf.setAll(list(_session_options(settings).items()))
    if _is_local(settings):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # nothing here is for other machines
    if not (IVY_DIR / "jars").is_dir():
        log.info("Spark fetches its Kafka connector from Maven Central, once: this can take half a minute")
    JVM_LOG.parent.mkdir(parents=True, exist_ok=True)
    with JVM_LOG.open("wb") as jvm_log:
        try:
            gateway = launch_gateway(conf=spark_conf, popen_kwargs={"stdout": jvm_log, "stderr": jvm_log})
            context = SparkContext(gateway=gateway, conf=spark_conf)
        except PySparkException as error:
            raise Failure(f"Spark did not start ({_first_line(error)}): see {JVM_LOG}") from None
    context.setLogLevel("ERROR")
    if _is_local(settings) and _has_local_checkpoint(settings):
        # Hadoop's 1,100 defaults are sent along with every batch, twice. Local files need none of them.
        context._jsc.hadoopConfiguration().clear()
    log.info("Spark %s runs on %s, its page is %s", context.version, settings.spark_master, context.uiWebUrl)
    return SparkSession(context)


def _session_options(settings: Settings) -> dict[str, str]:
    options = {
        "spark.jars.packages": connector(),
        "spark.jars.excludes": ",".join(SPARK_HAS),
        "spark.jars.ivy": str(IVY_DIR),
        "spark.ui.showConsoleProgress": "false",
        # What is sorted goes to disk before the heap is full: a backlog of some days spent its time in garbage collections.
        "spark.memory.fraction": "0.3",
    } | READER
    if _is_local(settings):
        options["spark.sql.shuffle.partitions"] = "1"  # a snapshot is 1,500 records: more tasks only cost time
        # A small heap: other collectors cost more. It starts with the least that Spark runs on, with room for what lives
        # through a batch: else each of the old collections, and those for loaded classes, holds a batch up.
        options["spark.driver.extraJavaOptions"] = (
            "-XX:+UseParallelGC -Xms450m -XX:-UseAdaptiveSizePolicy -XX:MetaspaceSize=256m"
        )
    return options


def query_options(spark: SparkSession, settings: Settings) -> dict[str, str]:
    options = {
        "spark.sql.session.timeZone": "UTC",
        # A week of snapshots that waited for the job is one batch: its state is on disk, not in memory.
        "spark.sql.streaming.stateStore.providerClass": (
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
        ),
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        # Without new records there is nothing to write: an update is written when it happens.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
        "spark.sql.streaming.stopTimeout": "10s",
        # While it is idle Spark would report progress as of the batch to come: that batch would then seem to have been seen.
        "spark.sql.streaming.noDataProgressEventInterval": "36500d",
        # A longer description of each batch's plan costs more time than its sums.
        "spark.sql.ui.explainMode": "simple",
        # A snapshot has 89 sums, and a few snapshots are one batch; many that waited are faster sorted than hashed.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "1000",
        "spark.sql.optimizer.excludedRules": ",".join(_rules_left_out(spark)),
    }
    if _has_local_checkpoint(settings):
        # Renames on a local disk are atomic without the shell commands of Hadoop's own file manager.
        options["spark.sql.streaming.checkpointFileManagerClass"] = (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        )
    return options


def _rules_left_out(spark: SparkSession) -> list[str]:
    assert spark._jvm is not None
    as_list = spark._jvm.scala.jdk.javaapi.CollectionConverters.asJava
    batches = as_list(spark._jsparkSession.sessionState().optimizer().defaultBatches())
    names = {rule.ruleName() for batch in batches for rule in as_list(batch.rules())}
    return sorted(name for name in names if name.rpartition(".")[2] not in RULES_KEPT)


def _is_local(settings: Settings) -> bool:
    """Whether Spark runs in one process that we start."""
    return settings.spark_master.startswith("local") and not config.under_spark_submit()


def _has_local_checkpoint(settings: Settings) -> bool:
    return "://" not in settings.checkpoint_dir


def kafka_options(settings: Settings) -> dict[str, str]:
    """How Spark reaches Kafka: the same settings that `topics.connection` gives kafka-python."""
    options = {
        "kafka.bootstrap.servers": settings.bootstrap_servers,
        "kafka.security.protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL_") and settings.sasl_mechanism and settings.sasl_password:
        module = "plain.PlainLoginModule" if settings.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        options["kafka.sasl.mechanism"] = settings.sasl_mechanism
        options["kafka.sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module} required"
            f" username={json.dumps(settings.sasl_username)}"
            f" password={json.dumps(settings.sasl_password.get_secret_value())};"
        )
    if settings.ssl_cafile:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": str(settings.ssl_cafile)}
    return options


def read(spark: SparkSession, settings: Settings) -> DataFrame:
    """The stream of the raw topic's committed records."""
    for name, value in query_options(spark, settings).items():
        spark.conf.set(name, value)
    return (
        spark.readStream.format("kafka")
        .options(**_read_options(settings))
        .option("subscribe", settings.raw_topic)
        .option("startingOffsets", starting_offsets(settings))
        .load()
    )


def _read_options(settings: Settings) -> dict[str, str]:
    return kafka_options(settings) | {
        "kafka.isolation.level": "read_committed",
        # Behind the last record stands the marker of its transaction: a fetch that waits for more waits in vain.
        "kafka.fetch.max.wait.ms": "10",
        "kafka.max.poll.records": "10000",
        "maxRecordsPerPartition": "100000",  # many records that waited are read on all cores
    }


def start(results: DataFrame, settings: Settings, available_now: bool) -> StreamingQuery:
    writer = (
        results.writeStream.queryName("velib-projet")
        .outputMode("update")
        .format("kafka")
        .options(**kafka_options(settings))
        .option("kafka.compression.type", "gzip")
        .option("checkpointLocation", settings.checkpoint_dir)
    )
    if available_now:
        writer = writer.trigger(availableNow=True)
    selected = "all stations" if settings.stations == config.ALL else f"stations {', '.join(settings.stations)}"
    log.info("Sums of %s: %s to %s", selected, settings.raw_topic, settings.final_topic)
    return writer.start()


def watch(query: StreamingQuery, letters: "DeadLetters", stop: threading.Event) -> None:
    """Log every batch and see to its dead letters until the query has ended or `stop` is set; raises the query's exception."""
    logged = -1
    while True:
        running = query.isActive and not stop.is_set()
        if stop.is_set():
            _finish_batch(query)
        for progress in _progress_since(query, logged):
            if progress.batchId > logged:
                logged = progress.batchId
                if progress.numInputRows:
                    batch = json.loads(progress.json)
                    _log_batch(batch)
                    letters.look_through(batch)
        if not running:
            break
        stop.wait(0.25)
    letters.note()
    if not stop.is_set():
        query.awaitTermination()


def _progress_since(query: StreamingQuery, logged: int) -> Sequence[StreamingQueryProgress]:
    """All progress since the batch `logged`, if there is any; earlier progress may be among it."""
    last = query.lastProgress
    if not last or last.batchId <= logged:
        return ()
    # For recentProgress Spark turns the last hundred into JSON: only when there was more than one batch.
    return [last] if last.batchId == logged + 1 else query.recentProgress


def _finish_batch(query: StreamingQuery) -> None:
    """Give the batch in progress time to end: one that is cut leaves a part of a snapshot's totals until the next start."""
    deadline = time.monotonic() + LONGEST_STOP
    while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
        time.sleep(0.02)


def _log_batch(progress: dict[str, Any]) -> None:
    log.info(
        "batch %d: %d records in, %d out, %.2f s, %d sums kept, watermark %s",
        progress["batchId"],
        progress["numInputRows"],
        progress["sink"]["numOutputRows"],
        progress["durationMs"]["triggerExecution"] / 1000,
        sum(operator["numRowsTotal"] for operator in progress["stateOperators"]),
        progress.get("eventTime", {}).get("watermark", "none yet"),
    )
    late = sum(operator["numRowsDroppedByWatermark"] for operator in progress["stateOperators"])
    if late:
        log.warning(
            "batch %d: %d sums dropped, of snapshots older than the watermark (VELIB_WATERMARK)", progress["batchId"], late
        )


class DeadLetters:
    """Writes the records that cannot be counted to their topic, beside the query: few batches have any, and the others need
    not look for them.

    A note in the checkpoint says up to which offsets there are none that are not written. What a run that was killed has
    left is made up for by the next, and a batch that does not start there takes along what is between.
    """

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self.spark, self.settings = spark, settings
        self.offsets = self._noted()  # by partition
        self.noted = time.monotonic()

    def _noted(self) -> dict[str, int]:
        """What the note says. Without one, or with one whose run was killed while writing it, all is looked through."""
        try:
            return dict(json.loads(_read_file(self.spark, self.settings, LETTERS_NOTE) or "")[self.settings.raw_topic])
        except (Py4JError, ValueError, KeyError):
            return {}

    def make_up(self) -> None:
        """Write those of the batches that ended before this run."""
        if (done := committed_offsets(self.spark, self.settings)) not in (None, self.offsets):
            self._write_up_to(done)

    def look_through(self, progress: dict[str, Any]) -> None:
        """Write those of a batch that has ended, if it has any."""
        source, topic = progress["sources"][0], self.settings.raw_topic
        start, end = (source["startOffset"] or {}).get(topic), source["endOffset"][topic]  # the first batch has no start
        letters = progress["observedMetrics"]["dead_letters"]
        if letters["dead"] or self.offsets not in (start, {}):
            self._write_up_to(end)
        if letters["dead"]:
            log.warning(
                "batch %d: %d dead letters, most of them: %s", progress["batchId"], letters["dead"], letters["commonest"]
            )
        self.offsets = end
        if time.monotonic() - self.noted > LONGEST_UNNOTED:
            self.note()

    def note(self) -> None:
        _write_file(self.spark, self.settings, LETTERS_NOTE, json.dumps({self.settings.raw_topic: self.offsets}))
        self.noted = time.monotonic()

    @cached_property
    def beginning(self) -> dict[int, int]:
        """Of the topic, by partition. Once in a run is enough: what the run itself has read is not older than that."""
        return topics.beginning(self.settings)

    def _write_up_to(self, end: dict[str, int]) -> None:
        """Write those between the offsets and this end, and note it."""
        topic = self.settings.raw_topic
        # What has passed retention is gone. Spark must not be told to skip it: it would skip what a broker lacks for a while.
        start = {
            partition: min(max(self.beginning.get(int(partition), 0), self.offsets.get(partition, 0)), offset)
            for partition, offset in end.items()
        }
        records = (
            self.spark.read.format("kafka")
            .options(**_read_options(self.settings) | PATIENCE)
            .option("assign", json.dumps({topic: [int(partition) for partition in end]}))
            .option("startingOffsets", json.dumps({topic: start}))
            .option("endingOffsets", json.dumps({topic: end}))
            .load()
        )
        (
            dead_letters(self.settings, parse(records))
            .write.format("kafka")
            .options(**kafka_options(self.settings) | PATIENCE)
            # Kafka's limit is for what is sent: a dead letter that was let in compressed gets in compressed.
            .option("kafka.compression.type", "gzip")
            .option("kafka.max.request.size", str(2 * LARGEST_VALUE))
            .option("kafka.buffer.memory", str(2 * LARGEST_VALUE))
            .save()
        )
        self.offsets = end
        self.note()


def stop_on_signals(stop: threading.Event) -> None:
    """An exception in the middle of a call to the JVM would garble the next one: a signal only asks to stop."""

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)


def keep_running(spark: SparkSession, settings: Settings, available_now: bool, stop: threading.Event) -> None:
    """Run the query until stopped, and start it again with growing pauses while what ended it may pass; else Failure."""
    pause, unknown = 1.0, 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            check_checkpoint(spark, settings)
            run(spark, settings, available_now, stop)
            return
        except (PySparkException, Py4JError, KafkaError, ConnectionError) as error:
            if stop.is_set():  # who asks all processes to stop, as systemd does, may stop Java first
                return
            if time.monotonic() - started > LONG_RUN:
                pause, unknown = 1.0, 0
            if (lasting := _lasting(error, settings)) is not None:
                raise Failure(lasting) from None
            passing = _passing(error, settings)
            unknown += passing is None
            reason = passing or f"Spark stopped: {_first_line(error)}"
            if unknown == MOST_UNKNOWN:
                raise Failure(f"{reason}; that was {unknown} times, so this is the end. More is in {JVM_LOG}") from None
        log.warning("%s. The query starts again in %.0f s", reason, pause)
        stop.wait(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _lasting(error: Exception, settings: Settings) -> str | None:
    """What ended the query and what to do about it, if it will not pass by itself."""
    text = str(error)
    gone = ("offset was changed", "are gone", "out of range", "OffsetOutOfRange", "failOnDataLoss")
    other_job = ("STATE_STORE_", "SCHEMA_NOT_COMPATIBLE", "sources in the checkpoint")
    if any(sign in text for sign in (*gone, *other_job)):
        return _misfit(settings, "was made anew, has lost records that were not read yet, or the job has changed")
    if "Failed to find data source: kafka" in text or "DATA_SOURCE_NOT_FOUND" in text:
        return f"Spark has no Kafka connector: give spark-submit --packages {connector()}"
    if isinstance(error, AuthorizationError | SaslAuthenticationFailedError) or re.search(r"(Authoriz|Authentic)ationE", text):
        cause = re.search(r"Not authorized[^\n]*|Authentication failed[^\n]*", text) or re.search(r"\w*Authoriz\w*", text)
        return topics.refused(settings, cause[0] if cause else _first_line(error))
    if isinstance(error, Py4JNetworkError | ConnectionError):
        return f"Spark's Java process has ended: see {JVM_LOG}"
    return None


def _passing(error: Exception, settings: Settings) -> str | None:
    """What ended the query, if it is known to pass."""
    text = str(error)
    if "No space left on device" in text:
        return f"The disk of {settings.checkpoint_dir} or of Spark's temporary files is full: make room"
    if isinstance(error, KafkaError) or re.search(r"TimeoutException|DisconnectException|UnknownTopicOrPartition", text):
        return f"Kafka at {settings.bootstrap_servers} does not answer"
    return None


def _misfit(settings: Settings, what: str) -> str:
    return (
        f"The checkpoint {settings.checkpoint_dir} does not fit the topic {settings.raw_topic}, which {what}."
        " To start over from the topic's earliest record type: python spark.py --reset-checkpoint"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


# The checkpoint: a folder, or an object store that Hadoop knows.


def starting_offsets(settings: Settings) -> str:
    """Where a job without a checkpoint starts to read, as Spark's Kafka source takes it; raises KafkaError."""
    offsets = topics.beginning(settings)
    return json.dumps({settings.raw_topic: {str(partition): offset for partition, offset in offsets.items()}})


def committed_offsets(spark: SparkSession, settings: Settings) -> dict[str, int] | None:
    """Up to where, by partition, the batches that ended have read the raw topic; None if there are none."""
    files, _, commits = _hadoop(spark, settings, "commits")
    names = [file.getPath().getName() for file in files.listStatus(commits)] if files.exists(commits) else []
    batches = [int(name) for name in names if name.isdigit()]
    if not batches:
        return None
    offsets = _read_file(spark, settings, f"offsets/{max(batches)}")
    assert offsets is not None
    return json.loads(offsets.splitlines()[-1]).get(settings.raw_topic)  # type: ignore[no-any-return]


def check_checkpoint(spark: SparkSession, settings: Settings) -> None:
    """Note in a new checkpoint which topic it is of; raises Failure if it is of one that has been made anew."""
    topic = topics.identity(settings)
    noted = _read_file(spark, settings, TOPIC_NOTE)
    if noted is None and topic:
        _write_file(spark, settings, TOPIC_NOTE, topic)
    elif noted and topic and noted != topic:
        raise Failure(_misfit(settings, "was made anew"))


def confirm_reset(settings: Settings) -> None:
    """Ask before the checkpoint is removed; raises Failure unless the answer is yes."""
    if not sys.stdin.isatty():
        raise Failure("--reset-checkpoint asks before it forgets the progress, and nobody can answer here: add --yes")
    question = (
        f"Forget the progress in {settings.checkpoint_dir} and count {settings.raw_topic} from its earliest record? [y/N] "
    )
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("The checkpoint is left as it is")


def reset_checkpoint(spark: SparkSession, settings: Settings) -> None:
    """Remove what Spark and we keep in the checkpoint, and nothing else: the folder may be a wrong one."""
    for part in (*CHECKPOINT_PARTS, TOPIC_NOTE, LETTERS_NOTE):
        files, _, path = _hadoop(spark, settings, part)
        files.delete(path, True)
    log.info("The progress in %s is forgotten", settings.checkpoint_dir)


def _read_file(spark: SparkSession, settings: Settings, name: str) -> str | None:
    """The text of a file in the checkpoint, None if it is not there."""
    files, _, path = _hadoop(spark, settings, name)
    if not files.exists(path):
        return None
    stream = files.open(path)
    text = bytes(stream.readAllBytes()).decode()
    stream.close()
    return text


def _write_file(spark: SparkSession, settings: Settings, name: str, text: str) -> None:
    files, folder, path = _hadoop(spark, settings, name)
    files.mkdirs(folder)
    stream = files.create(path, True)
    stream.write(bytearray(text.encode()))
    stream.close()


def _hadoop(spark: SparkSession, settings: Settings, name: str) -> tuple[Any, Any, Any]:
    """Hadoop's file system of the checkpoint, its folder, and the path of something in it."""
    assert spark._jvm is not None
    path = spark._jvm.org.apache.hadoop.fs.Path
    folder = path(settings.checkpoint_dir)
    return folder.getFileSystem(spark._jsc.hadoopConfiguration()), folder, path(folder, name)


if __name__ == "__main__":
    cli.run(main)
