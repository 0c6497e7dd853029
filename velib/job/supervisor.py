"""Keeps the job's queries running: logs batches, starts again after failures, stops on signals."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from kafka.errors import KafkaError
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
    StreamingQueryProgress,
)
from pyspark.sql.streaming.query import StreamingQuery

from config import Settings
from velib.errors import Failure
from velib.job.checkpoint import mismatch
from velib.job.metrics import JobMetrics
from velib.job.session import CONNECTOR, JVM_LOG
from velib.kafka import clients
from velib.runtime import log

STOP_TIMEOUT = 30.0  # seconds that the batches in progress have to end
PATIENCE = 60.0  # seconds that the job has to end after a signal: its batch, then Java
MAX_BACKOFF = 30.0  # seconds between two starts of queries that failed
HEALTHY_AFTER = 300.0  # seconds: a failure after so long begins a new row of failures
MAX_UNKNOWN_FAILURES = 5  # in a row, whose cause is in none of the lists below
LOG_TIMEOUT = 10.0  # seconds that Spark has to report the last progress
BACKLOG = 10_000  # offsets; fewer are the next snapshots of a running producer

StartQueries = Callable[[], Iterator[StreamingQuery]]


def keep_running(
    spark: SparkSession,
    settings: Settings,
    start: StartQueries,
    one_by_one: bool,
    stop: threading.Event,
) -> None:
    """Run the queries that `start` yields, one after another or all at once, until they end.

    Starts them again, with growing pauses, when one has failed for a reason that may pass; raises
    Failure if it will not. Once `stop` is set the queries end with their batch.
    """
    batches = BatchLog(JobMetrics(spark))
    spark.streams.addListener(batches)
    backoff, unknown_failures = 1.0, 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            batches.wait_for(_run(spark, start(), one_by_one, stop))
            return
        except (PySparkException, Py4JError, KafkaError, ConnectionError) as error:
            if stop.is_set():  # the signal went to Java, too, as when a service is stopped
                return
            if time.monotonic() - started > HEALTHY_AFTER:
                backoff, unknown_failures = 1.0, 0
            if (cause := permanent_cause(error, settings)) is not None:
                raise Failure(cause) from None
            reason = transient_cause(error, settings)
            if reason is None:
                reason = f"Spark stopped: {_first_line(error)}"
                unknown_failures += 1
            if unknown_failures == MAX_UNKNOWN_FAILURES:
                line = f"{reason}; that was {unknown_failures} times in a row, see {JVM_LOG}"
                raise Failure(line) from None
        log.warning("%s. The queries start again in %.0f s", reason, backoff)
        stop.wait(backoff)
        backoff = min(backoff * 2, MAX_BACKOFF)


def _run(
    spark: SparkSession,
    queries: Iterator[StreamingQuery],
    one_by_one: bool,
    stop: threading.Event,
) -> list[StreamingQuery]:
    """Start the queries and wait until they end or `stop` is set; raises why one has failed."""
    started = []
    try:
        for query in queries:
            started.append(query)
            if one_by_one:
                _wait([query], stop)
            if stop.is_set():
                break
        _wait(started, stop)
    finally:
        with suppress(PySparkException, Py4JError):  # Kafka does not answer, or Java has ended
            for query in spark.streams.active:
                query.stop()
    return started


def _wait(queries: Sequence[StreamingQuery], stop: threading.Event) -> None:
    """Wait until all queries have ended, one has failed, or `stop` is set; raises the failure."""
    while not stop.wait(0.25) and any(query.isActive for query in queries):
        _raise_failure(queries)
    _finish_batches(queries)
    _raise_failure(queries)


def _raise_failure(queries: Sequence[StreamingQuery]) -> None:
    for query in queries:
        if (failure := query.exception()) is not None:
            raise failure


def _finish_batches(queries: Sequence[StreamingQuery]) -> None:
    """Let the batches in progress end: totals would be missing until the next start."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline and any(_is_in_a_batch(query) for query in queries):
        time.sleep(0.02)


def _is_in_a_batch(query: StreamingQuery) -> bool:
    return query.isActive and bool(query.status["isTriggerActive"])


class BatchLog(StreamingQueryListener):
    """Logs and counts each batch of the queries, from the progress that Spark reports."""

    def __init__(self, metrics: JobMetrics) -> None:
        self.metrics = metrics
        self.ended: set[str] = set()  # the runs of queries whose last progress is logged
        self.changed = threading.Condition()

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802
        pass

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        progress = event.progress
        if progress.name == "totals" and progress.numInputRows:
            _log_totals(progress)
            self.metrics.add(
                records_in=progress.numInputRows,
                totals_out=progress.sink.numOutputRows,
                totals_dropped_late=_dropped(progress),
            )
        elif progress.name == "dead-letters" and progress.sink.numOutputRows > 0:
            _log_dead_letters(progress)
            self.metrics.add(dead_letters_out=progress.sink.numOutputRows)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        pass

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        with self.changed:
            self.ended.add(str(event.runId))
            self.changed.notify_all()

    def wait_for(self, queries: Sequence[StreamingQuery]) -> None:
        """Wait until the last batch of ended queries is logged: Spark reports it a moment later."""
        run_ids = {str(query.runId) for query in queries}
        with self.changed:
            self.changed.wait_for(lambda: run_ids <= self.ended, LOG_TIMEOUT)


def _log_totals(progress: StreamingQueryProgress) -> None:
    seconds = progress.durationMs["triggerExecution"] / 1000
    log.info(
        "batch %d: %d records in, %d out, %.2f s, %d sums kept, %s%s",
        progress.batchId,
        progress.numInputRows,
        progress.sink.numOutputRows,
        seconds,
        sum(operator.numRowsTotal for operator in progress.stateOperators),
        _watermark(progress),
        _backlog(progress, seconds),
    )
    if late := _dropped(progress):
        log.warning(
            "batch %d: %d sums dropped, of snapshots older than the watermark (VELIB_WATERMARK)",
            progress.batchId,
            late,
        )


def _dropped(progress: StreamingQueryProgress) -> int:
    """How many totals of the batch were of snapshots older than the watermark."""
    return sum(operator.numRowsDroppedByWatermark for operator in progress.stateOperators)


def _watermark(progress: StreamingQueryProgress) -> str:
    watermark = progress.eventTime.get("watermark", "")
    return "no watermark yet" if watermark < "1970-01-02" else f"watermark {watermark}"


def _backlog(progress: StreamingQueryProgress, seconds: float) -> str:
    """How many records are left and how long they take at this batch's speed; "" if few are."""
    source = progress.sources[0]
    if source.latestOffset == "None":  # Spark does not ask for it when it repeats a batch
        return ""
    left = _records_up_to(source.latestOffset) - _records_up_to(source.endOffset)
    if left < BACKLOG:
        return ""
    speed = progress.numInputRows / seconds
    return f"; {left:,} records left, {speed:,.0f} a second: about {left / speed:.0f} s"


def _records_up_to(offsets: str) -> int:
    """The number of records before such offsets as {"velib-projet": {"0": 1486}}."""
    return sum(sum(partitions.values()) for partitions in json.loads(offsets).values())


def _log_dead_letters(progress: StreamingQueryProgress) -> None:
    dead_letters = progress.sink.numOutputRows
    could_count = dead_letters < progress.numInputRows
    log.warning(
        "batch %d: %d dead letters, most of them: %s%s",
        progress.batchId,
        dead_letters,
        progress.observedMetrics["parsed"].commonest_reason,
        "" if could_count else ". Nothing could be counted: the feed has probably changed its form",
    )


def permanent_cause(error: Exception, settings: Settings) -> str | None:
    """The line for a failure that a new start does not mend, None if it may."""
    text = str(error)
    lost_records = (
        "offset was changed",
        "are gone",
        "out of range",
        "OffsetOutOfRange",
        "failOnDataLoss",
    )
    changed_job = ("STATE_STORE_", "SCHEMA_NOT_COMPATIBLE", "sources in the checkpoint")
    if any(sign in text for sign in (*lost_records, *changed_job)):
        return mismatch(
            settings,
            "the topic was made anew or has lost records that were not read yet,"
            " or the job has changed",
        )
    if "Failed to find data source: kafka" in text or "DATA_SOURCE_NOT_FOUND" in text:
        return f"Spark has no Kafka connector: give spark-submit --packages {CONNECTOR}"
    if "UnsatisfiedLinkError" in text:
        return (
            "Java may not run its libraries in its temporary folder, which is /tmp: name another"
            " one with JAVA_TOOL_OPTIONS=-Djava.io.tmpdir=FOLDER"
        )
    if re.search(r"(Authoriz|Authentic)ationE", text):
        cause = re.search(r"Not authorized[^\n]*|Authentication failed[^\n]*", text)
        cause = cause or re.search(r"\w*Authoriz\w*", text)
        return clients.refusal_message(settings, cause[0] if cause else _first_line(error))
    if (refusal := clients.final_cause(error)) is not None:
        return clients.refusal_message(settings, refusal.strip().partition("\n")[0])
    if isinstance(error, Py4JNetworkError | ConnectionError):
        return f"Spark's Java process has ended: see {JVM_LOG}"
    return None


def transient_cause(error: Exception, settings: Settings) -> str | None:
    """What ended a query, if that is known to pass; None if it is unknown."""
    text = str(error)
    if "No space left on device" in text:
        return (
            f"The disk of {settings.checkpoint_dir} or of Spark's temporary files is full:"
            " make room"
        )
    no_answer = r"TimeoutException|DisconnectException|UnknownTopicOrPartition"
    if isinstance(error, KafkaError) or re.search(no_answer, text):
        return f"Kafka at {settings.kafka.bootstrap_servers} does not answer"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
