"""The Spark session of the job, and the options that differ from Spark's defaults."""

import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import findspark
import pyspark
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

import config
from config import BadSetting, Settings
from velib import jars, java
from velib.errors import SPARK_LOG, Failure, describe
from velib.kafka import raw_topic
from velib.runtime import log

STOP_TIMEOUT = 30  # seconds

FOREIGN_VARIABLES = ("PYSPARK_SUBMIT_ARGS", "SPARK_REMOTE")
"""Variables of other tools, with which `python spark.py` would not start."""

OPTIONS = {
    # The state is on disk, not in the heap: it may contain a week of snapshots.
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    # A batch writes what it changed, not a whole copy of the state.
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    # A batch without records would only move the watermark: it has no total to write.
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    # When a query stops, Spark would wait forever for a sink that waits for Kafka.
    "spark.sql.streaming.stopTimeout": "10s",
    # By default Spark keeps records that a task has fetched but not read for five minutes. With a
    # backlog of days they filled the heap. With one second, a million records are read just as
    # fast.
    "spark.kafka.consumer.fetchedData.cache.timeout": "1s",
    "spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval": "1s",
    # Spark's page serves the metrics of the driver and its query to Prometheus. By default their
    # names begin with the id of the application, which changes at every start.
    "spark.metrics.conf.*.sink.prometheusServlet.class": (
        "org.apache.spark.metrics.sink.PrometheusServlet"
    ),
    "spark.metrics.conf.*.sink.prometheusServlet.path": "/metrics/prometheus",
    "spark.sql.streaming.metricsEnabled": "true",
    "spark.metrics.namespace": "velib",
}
"""For every session."""

LOCAL_OPTIONS = {
    # The checkpoint is a folder of this machine, even where Hadoop is configured for a cluster.
    "spark.hadoop.fs.defaultFS": "file:///",
    # A sort spills to disk before it fills the heap.
    "spark.memory.fraction": "0.3",
    # The parallel collector processes a million waiting records a tenth faster than the one that
    # Java chooses. A heap that grows only when it must keeps Java at 1.1 GB instead of 1.4 GB while
    # it processes five million.
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:-UseAdaptiveSizePolicy -Xms450m",
}
"""For a Spark that runs in one process on this machine."""

LOCAL_CHECKPOINT_OPTIONS = {
    # Renames on a local disk are atomic without the shell commands of Hadoop's own file manager:
    # a batch took 165 ms instead of 240 ms.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
}
"""For a checkpoint in a local folder."""

SUBMITTED_OPTIONS = {
    # At INFO Spark writes forty lines for every batch, which hide the job's own.
    "spark.log.level": "ERROR",
}
"""For a Spark that `spark-submit` has started, unless its user has chosen otherwise."""

LOGGERS_OF_ENDING_QUERIES = (
    "org.apache.spark.sql.execution.streaming.runtime.MicroBatchExecution",
    "org.apache.spark.sql.execution.datasources.v2.WriteToDataSourceV2Exec",
)
"""They write hundreds of lines about what velib/job/supervisor.py logs in one."""


@contextmanager
def spark_session(settings: Settings) -> Iterator[SparkSession]:
    """The Spark session of `spark-submit`, or one on VELIB_SPARK_MASTER; raises Failure."""
    options = OPTIONS | (LOCAL_CHECKPOINT_OPTIONS if config.checkpoint_folder(settings) else {})
    if config.under_spark_submit():
        spark = _submitted_session(options)
    else:
        spark = _own_session(settings, options)
    try:
        yield spark
    finally:
        with suppress(Py4JError, OSError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the same signal may have ended the Java process
            spark.stop()
        if not config.under_spark_submit():
            _end_java()


def _submitted_session(options: dict[str, str]) -> SparkSession:
    """The session of `spark-submit`, which sends Spark's log to stderr, and the job's to stdout."""
    chosen = SparkConf()
    options = options | {k: v for k, v in SUBMITTED_OPTIONS.items() if not chosen.contains(k)}
    spark = SparkSession.builder.appName("velib-projet").config(map={**options}).getOrCreate()
    assert spark._jvm is not None
    log4j = spark._jvm.org.apache.logging.log4j
    for logger in LOGGERS_OF_ENDING_QUERIES:
        log4j.core.config.Configurator.setLevel(logger, log4j.Level.OFF)
    return spark


def _own_session(settings: Settings, options: dict[str, str]) -> SparkSession:
    """Start Spark, whose Java process writes to SPARK_LOG."""
    findspark.init()  # sets SPARK_HOME to the folder of pyspark, unless it is set
    _check_version()
    for variable in FOREIGN_VARIABLES:
        if os.environ.pop(variable, None) is not None:
            log.warning("%s is ignored: to choose Spark's options use spark-submit", variable)
    connector = jars.connector(settings.cache_dir)
    options = options | {
        "spark.app.name": "velib-projet",
        "spark.master": settings.spark_master,
        "spark.jars": f"{connector.as_uri()}/*.jar",
    }
    if settings.spark_master.startswith("local"):
        options |= LOCAL_OPTIONS
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # nothing here is for other machines
    os.environ.update(java.LOCALE)
    spark_conf = SparkConf().setAll(list(options.items()))
    spark_log = Path(SPARK_LOG)
    spark_log.parent.mkdir(parents=True, exist_ok=True)
    with spark_log.open("wb") as output:
        try:
            gateway = launch_gateway(spark_conf, {"stdout": output, "stderr": output})
            context = SparkContext(gateway=gateway, conf=spark_conf)
        except (PySparkException, Py4JError, ConnectionError) as error:
            # If Java has ended, only its log says why.
            reason = (
                error if isinstance(error, Py4JJavaError) else spark_log.read_text(errors="replace")
            )
            unknown = f"Spark did not start ({{error}}): see {SPARK_LOG}"
            raise Failure(describe(reason, settings, unknown)) from None
    context.setLogLevel("ERROR")
    ui_url = context.uiWebUrl
    log.info("Spark %s runs on %s, UI at %s", context.version, settings.spark_master, ui_url)
    return SparkSession(context)


def _check_version() -> None:
    """Raise BadSetting if PYTHONPATH or SPARK_HOME names a Spark of another version."""
    version = metadata.version("pyspark")
    if pyspark.__version__ != version:
        raise BadSetting(
            f"PYTHONPATH contains pyspark {pyspark.__version__} ({Path(pyspark.__file__).parent}):"
            f" it must be unset, the project has its own pyspark {version}"
        )
    home = os.environ["SPARK_HOME"]
    cores = [jar.stem for jar in Path(home, "jars").glob("spark-core_*.jar")]
    found = cores[0].partition("-core_")[2].partition("-")[2] if cores else "no Spark"
    if found != version:
        raise BadSetting(
            f"SPARK_HOME is {home!r}, which contains {found}: it must be the folder of a Spark"
            f" {version}, or unset: the project has its own"
        )


def _end_java() -> None:
    """Wait until Spark's Java process has ended, so that a stopped job leaves none behind."""
    assert SparkContext._gateway is not None
    SparkContext._gateway.shutdown()  # else Python objects may still talk to it
    process = SparkContext._gateway.proc
    process.stdin.close()  # Java ends at the end of its input
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()


def is_local(spark: SparkSession) -> bool:
    """Whether Spark runs in one process on this machine."""
    return str(spark.sparkContext.master).startswith("local")


def set_shuffle_partitions(spark: SparkSession, settings: Settings) -> None:
    """Set the number of parts into which Spark divides the state; each is a task in every batch.

    Without VELIB_SHUFFLE_PARTITIONS or the option of `spark-submit` it is 1 if Spark runs in one
    process on this machine; on a cluster it is one for every three partitions of the raw topic,
    because summing takes a third as long as parsing. Spark's own 200 would take seconds in every
    batch. Spark keeps the number with which a checkpoint was created. Raises KafkaError.
    """
    name = "spark.sql.shuffle.partitions"
    number = settings.shuffle_partitions or int(spark.sparkContext.getConf().get(name) or 0)
    if not number:
        number = 1 if is_local(spark) else max(1, raw_topic.partition_count(settings) // 3)
    spark.conf.set(name, str(number))
