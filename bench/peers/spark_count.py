"""Counts the records of the raw topic with Spark and the options of spark.py.

python -m bench.peers.spark_count   what is in the topic now; then prints the seconds of its
                                    batches: reading alone takes Spark as long
"""

from velib.job import session  # isort: skip  (chooses Spark, so it comes before pyspark)

import config
import spark as job
from velib import runtime


def main() -> None:
    settings = config.load()
    with session.spark_session(settings) as spark:
        query = (
            job.read(spark, settings, "earliest")
            .groupBy()
            .count()
            .writeStream.format("noop")
            .outputMode("complete")
            .trigger(availableNow=True)
            .option("checkpointLocation", settings.checkpoint_dir)
            .start()
        )
        query.awaitTermination()
        batches = query.recentProgress
        milliseconds = sum(batch.durationMs["triggerExecution"] for batch in batches)
        print(f"{sum(b.numInputRows for b in batches)} records, {milliseconds / 1000:.3f} s")


if __name__ == "__main__":
    runtime.run_tool(main)
