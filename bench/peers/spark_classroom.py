"""The totals as a first Spark course writes them: foreachBatch, collect, and a loop in Python.

    python -m bench.peers.spark_classroom                   until stopped
    python -m bench.peers.spark_classroom --available-now   what is in the topic now; then prints
                                                            the seconds of its batches

The usual job forgets its sums after each batch, and is wrong if a snapshot comes in two, or a
station twice: this one keeps them in memory. Otherwise it has Spark's defaults.
"""

import json
import sys
from threading import Event
from typing import Any

from bench.peers.spark_defaults import default_read, default_session  # isort: skip  (chooses Spark)

from kafka import KafkaProducer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

import config
from bench.peers.sums import Sums
from velib import runtime
from velib.job import supervisor

SCHEMA = """
    stationCode string, last_updated long, is_installed int, is_renting int,
    num_bikes_available int, num_docks_available int,
    num_bikes_available_types array<map<string, int>>
"""


def main(stop: Event) -> None:
    settings = config.load()
    trigger: dict[str, Any] = {"processingTime": "0 seconds"}
    if "--available-now" in sys.argv[1:]:
        trigger = {"availableNow": True}
    sums = Sums()
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)

    def write_totals(batch: DataFrame, batch_id: int) -> None:
        for row in batch.collect():
            sums.add(row.station.asDict())
        for total in sums.changes():
            key, value = total["postal_code"].encode(), json.dumps(total).encode()
            producer.send(settings.final_topic, key=key, value=value)
        producer.flush()

    with default_session(settings) as spark:
        stations = default_read(spark, settings).select(
            F.from_json(F.col("value").cast("string"), SCHEMA).alias("station")
        )
        query = (
            stations.writeStream.foreachBatch(write_totals)
            .trigger(**trigger)
            .option("checkpointLocation", settings.checkpoint_dir)
            .start()
        )
        while query.isActive and not stop.wait(0.1):
            pass
        milliseconds = [p.durationMs["triggerExecution"] for p in query.recentProgress]
        query.stop()
    print(f"{sum(milliseconds) / 1000:.3f} s")


if __name__ == "__main__":
    runtime.run(main, supervisor.PATIENCE)
