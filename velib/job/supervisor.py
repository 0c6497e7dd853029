"""Keeps the job's query running: logs its batches, restarts it after failures, stops it."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Event

from kafka.errors import KafkaError
from prometheus_client import Counter
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import (
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
    StreamingQueryProgress,
)
from pyspark.sql.streaming.query import StreamingQuery

from config import Settings
from velib.errors import SPARK_LOG, Failure, describe, is_known, is_retriable
from velib.runtime import backoff, local_time, log

PATIENCE = 60.0  # seconds the job is given to end after a signal: its batch, then Java
BATCH_TIMEOUT = 30.0  # seconds the batch in progress is given to end
LOG_TIMEOUT = 10.0  # seconds Spark is given to report the last batch
MAX_BACKOFF = 30.0  # seconds between two starts of a query that failed
HEALTHY_AFTER = 300.0  # seconds that a query must run to reset the count of failures
MAX_UNKNOWN_FAILURES = 5  # in a row, of errors that velib/errors.py does not know
BACKLOG = 10_000  # offsets; fewer are the next snapshots of a running producer
NOTHING_COUNTED = "Nothing could be counted: has the feed changed format?"

RECORDS_IN = Counter("velib_job_records_in", "Raw records read.")
TOTALS_OUT = Counter("velib_job_totals_out", "Totals written.")
TOTALS_DROPPED = Counter(
    "velib_job_totals_dropped_late", "Totals dropped, of snapshots older than the watermark."
)
DEAD_LETTERS_OUT = Counter("velib_job_dead_letters_out", "Dead letters written.")


def keep_running(
    spark: SparkSession, settings: Settings, start: Callable[[], StreamingQuery], stop: Event
) -> None:
    """Start the query and wait until it ends, or until `stop` is set and its batch is done.

    A query survives about two minutes without Kafka: Spark's Kafka clients retry for that long by
    default. Then it fails and is restarted here, with delays that grow to MAX_BACKOFF, for as long
    as Kafka is away: MAX_UNKNOWN_FAILURES does not count Kafka's failures, nor others that
    velib/errors.py knows. Raises Failure if the query fails for a reason that a restart will not
    fix.
    """
    batches = BatchLog()
    spark.streams.addListener(batches)
    delays, unknown_failures = backoff(1.0, MAX_BACKOFF), 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            _run(spark, start, stop)
            batches.wait_for_last()
            return
        except (PySparkException, Py4JError, KafkaError, ConnectionError) as error:
            if stop.is_set():  # the signal also reached Java, as when a service is stopped
                return
            if time.monotonic() - started > HEALTHY_AFTER:
                delays, unknown_failures = backoff(1.0, MAX_BACKOFF), 0
            is_of_kafka = isinstance(error, KafkaError)
            failed = "Kafka failed" if is_of_kafka else "Spark stopped"
            reason = describe(error, settings, unknown=f"{failed}: {{error}}")
            if not is_retriable(error):
                raise Failure(reason) from None
            unknown_failures = 0 if is_known(error) or is_of_kafka else unknown_failures + 1
            if unknown_failures == MAX_UNKNOWN_FAILURES:
                line = f"{reason} ({unknown_failures} times in a row): see {SPARK_LOG}"
                raise Failure(line) from None
        delay = next(delays)
        log.warning("%s. The query restarts in %.0f s", reason, delay)
        stop.wait(delay)


def _run(spark: SparkSession, start: Callable[[], StreamingQuery], stop: Event) -> None:
    """Start the query and wait until it ends or `stop` is set; raises why it has failed."""
    try:
        query = start()
        while query.isActive and not stop.wait(0.25):
            pass
        # Let the batch in progress end: its totals would be missing until the next start.
        deadline = time.monotonic() + BATCH_TIMEOUT
        while _is_in_a_batch(query) and time.monotonic() < deadline:
            time.sleep(0.02)
        if (failure := query.exception()) is not None:
            raise failure
    finally:
        with suppress(PySparkException, Py4JError):  # Kafka does not answer, or Java has ended
            for query in spark.streams.active:
                query.stop()


def _is_in_a_batch(query: StreamingQuery) -> bool:
    return query.isActive and bool(query.status["isTriggerActive"])


class BatchLog(StreamingQueryListener):
    """Logs and counts each batch, from the progress that Spark reports a moment later."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802
        self.ended.clear()

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        if event.progress.numInputRows:
            log_batch(event.progress)

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        self.ended.set()

    def wait_for_last(self) -> None:
        """Wait until the last batch of the ended query is logged."""
        self.ended.wait(LOG_TIMEOUT)


def log_batch(progress: StreamingQueryProgress) -> None:
    """Log a batch and count it in the metrics.

    Spark reads the topic once for the totals and once for the dead letters, and `numInputRows` is
    the sum of both. The figures that `observe_parsed` in spark.py observes count each record once.
    """
    observed = progress.observedMetrics["parsed"]
    totals = progress.sink.numOutputRows - observed.dead_letters
    dropped = sum(operator.numRowsDroppedByWatermark for operator in progress.stateOperators)
    RECORDS_IN.inc(observed.records)
    TOTALS_OUT.inc(totals)
    TOTALS_DROPPED.inc(dropped)
    DEAD_LETTERS_OUT.inc(observed.dead_letters)
    seconds = progress.durationMs["triggerExecution"] / 1000
    log.info(
        "batch %d: %d records in, %d totals out, %.2f s, %d totals kept, %s%s",
        progress.batchId,
        observed.records,
        totals,
        seconds,
        sum(operator.numRowsTotal for operator in progress.stateOperators),
        _watermark(progress),
        _backlog(progress, observed.records / seconds),
    )
    if dropped:
        log.warning(
            "batch %d: %d totals dropped, of snapshots older than the watermark (VELIB_WATERMARK)",
            progress.batchId,
            dropped,
        )
    if observed.dead_letters:
        number, counted_any = observed.dead_letters, observed.dead_letters < observed.records
        log.warning(
            "batch %d: %s: %s%s",
            progress.batchId,
            "1 dead letter" if number == 1 else f"{number} dead letters, most of them",
            observed.commonest_reason,
            "" if counted_any or number == 1 else f". {NOTHING_COUNTED}",
        )


def _watermark(progress: StreamingQueryProgress) -> str:
    """The watermark in local time. Before the first snapshot Spark reports none, or 1970."""
    text = progress.eventTime.get("watermark", "1970-01-01T00:00:00.000Z")
    reached = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    return f"watermark {local_time(reached)}" if reached > 0 else "no watermark yet"


def _backlog(progress: StreamingQueryProgress, speed: float) -> str:
    """How many records are left and how long they take at this speed (records per second).

    "" if few are left.
    """
    source = progress.sources[0]
    if source.latestOffset == "None":  # Spark does not ask for it when it repeats a batch
        return ""
    left = _records_up_to(source.latestOffset) - _records_up_to(source.endOffset)
    if left < BACKLOG:
        return ""
    return f"; {left:,} records left, {speed:,.0f} per second: about {left / speed:.0f} s"


def _records_up_to(offsets: str) -> int:
    """The number of records before such offsets as {"velib-projet": {"0": 1486}}."""
    return sum(sum(partitions.values()) for partitions in json.loads(offsets).values())
