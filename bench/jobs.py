"""The two empty Spark jobs that the pipeline is measured against; they read Kafka with the pipeline's own options.

python -m bench.jobs copy     copies the raw topic to the final one, until stopped
python -m bench.jobs count    counts the records that are in the raw topic, then stops
"""

import sys
import threading

import cli
import config
import spark as job


def main() -> None:
    settings = config.load()
    stop = threading.Event()
    session = job.session(settings)
    job.stop_on_signals(stop)
    records = job.read(session, settings)
    if sys.argv[1] == "copy":
        writer = (
            records.select("key", "value")
            .writeStream.format("kafka")
            .options(**job.kafka_options(settings))
            .option("topic", settings.final_topic)
        )
    else:
        counted = records.groupBy().count()
        writer = counted.writeStream.format("noop").outputMode("complete").trigger(availableNow=True)
    query = writer.option("checkpointLocation", settings.checkpoint_dir).start()
    cli.log.info("started")
    while query.isActive and not stop.wait(0.2):
        pass
    for progress in query.recentProgress:
        if progress.numInputRows:
            print(progress.numInputRows, progress.durationMs["triggerExecution"] / 1000, flush=True)
    query.stop()
    session.stop()


if __name__ == "__main__":
    cli.run(main)
