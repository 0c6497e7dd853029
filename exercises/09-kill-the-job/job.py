"""The job of docs/pocket.py as a process that can be killed.

python job.py KAFKA STATIONS TOTALS CHECKPOINT CACHE
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from config import Settings
from docs import pocket
from velib import java
from velib.job.session import spark_session


def start(
    spark: SparkSession, kafka: str, stations: str, totals: str, checkpoint: str
) -> StreamingQuery:
    spark.conf.set("spark.sql.shuffle.partitions", 1)
    sums = pocket.sum_by_postal_code(pocket.parse(pocket.read(spark, kafka, stations)))
    return pocket.write(pocket.to_records(sums), checkpoint, kafka, totals)


if __name__ == "__main__":
    *arguments, cache = sys.argv[1:]
    java.find()
    settings = Settings(cache_dir=Path(cache), spark_master="local[1]")
    with spark_session(settings) as session:
        start(session, *arguments).awaitTermination()
