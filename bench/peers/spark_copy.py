"""Copies the raw topic to the final one with Spark, until stopped: what no job on Spark can beat.

python -m bench.peers.spark_copy              with the options of spark.py
python -m bench.peers.spark_copy --defaults   with Spark's own
"""

import sys
from contextlib import AbstractContextManager
from threading import Event

from pyspark.sql import DataFrame, SparkSession

import config
import spark as job
from bench.peers.spark_defaults import default_read, default_session
from velib import runtime
from velib.job import supervisor
from velib.job.session import spark_session as open_session


def main(stop: Event) -> None:
    settings = config.load()
    spark_session: AbstractContextManager[SparkSession]
    if "--defaults" in sys.argv[1:]:
        spark_session, read = default_session(settings), default_read
    else:
        spark_session, read = open_session(settings), read_as_the_job
    with spark_session as spark:
        query = (
            read(spark, settings)
            .select("key", "value")
            .writeStream.format("kafka")
            .option("kafka.bootstrap.servers", settings.kafka.bootstrap_servers)
            .option("topic", settings.final_topic)
            .option("checkpointLocation", settings.checkpoint_dir)
            .start()
        )
        while query.isActive and not stop.wait(0.2):
            pass
        query.stop()


def read_as_the_job(spark: SparkSession, settings: config.Settings) -> DataFrame:
    return job.read(spark, settings, "earliest")


if __name__ == "__main__":
    runtime.run(main, supervisor.PATIENCE)
