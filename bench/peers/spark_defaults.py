"""A Spark session and a stream of the raw topic as tutorials write them, with Spark's defaults."""

from collections.abc import Iterator
from contextlib import contextmanager

import velib.job  # isort: skip  # noqa: F401  (chooses Spark, so it comes before pyspark)

from pyspark.sql import DataFrame, SparkSession

from config import Settings
from velib import jars


@contextmanager
def default_session(settings: Settings) -> Iterator[SparkSession]:
    """A session on this machine; the Kafka connector comes from where spark.py keeps it."""
    spark = (
        SparkSession.builder.appName("velib-peer")
        .master(settings.spark_master)
        .config("spark.jars", f"{jars.connector(settings.cache_dir)}/*.jar")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


def default_read(spark: SparkSession, settings: Settings) -> DataFrame:
    """The stream of the raw topic's committed records."""
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka.bootstrap_servers)
        .option("subscribe", settings.raw_topic)
        .option("startingOffsets", "earliest")
        .option("kafka.isolation.level", "read_committed")
        # A collected batch has to fit the memory of the driver.
        .option("maxOffsetsPerTrigger", "200000")
        .load()
    )
