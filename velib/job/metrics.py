"""The job's own counters among Spark's metrics: what Spark knows of each batch, but does not serve.

Spark's page serves them to Prometheus at /metrics/prometheus, beside those of `velib.engine`.
"""

from pyspark.sql import SparkSession

NAMES = ("records_in", "totals_out", "totals_dropped_late", "dead_letters_out")


class JobMetrics:
    """Counters of this run of the job. Spark shows each as a gauge."""

    def __init__(self, spark: SparkSession) -> None:
        context, jvm = spark.sparkContext._jsc.sc(), spark.sparkContext._jvm
        assert jvm is not None
        self.counters = {name: context.longAccumulator(name) for name in NAMES}
        counters = jvm.PythonUtils.toScalaMap(self.counters)
        scala_class = getattr(jvm.org.apache.spark.metrics.source, "LongAccumulatorSource$")
        getattr(scala_class, "MODULE$").register(context, counters)  # its only instance

    def add(self, **counts: int) -> None:
        """Add to the counters of these names."""
        for name, count in counts.items():
            self.counters[name].add(count)
