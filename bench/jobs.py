"""The two empty Spark jobs that the pipeline is measured against; they read Kafka as it does.

python -m bench.jobs copy     copies the raw topic to the final one, until stopped
python -m bench.jobs count    counts the records that are in the raw topic, then stops
"""

import sys

import config
import spark as job
from velib import cli, connection, engine, supervisor


def main() -> None:
    settings = config.load()
    with engine.session(settings) as spark:
        stop = supervisor.stop_on_signals()
        records = job.read(spark, settings, "earliest")
        if sys.argv[1] == "copy":
            writer = (
                records.select("key", "value")
                .writeStream.format("kafka")
                .options(**connection.spark_options(settings))
                .option("topic", settings.final_topic)
            )
        else:
            counted = records.groupBy().count()
            writer = (
                counted.writeStream.format("noop").outputMode("complete").trigger(availableNow=True)
            )
        query = writer.option("checkpointLocation", settings.checkpoint_dir).start()
        cli.log.info("started")
        while query.isActive and not stop.wait(0.2):
            pass
        for progress in query.recentProgress:
            if progress.numInputRows:
                seconds = progress.durationMs["triggerExecution"] / 1000
                print(progress.numInputRows, seconds, flush=True)
        query.stop()


if __name__ == "__main__":
    cli.run(main)
