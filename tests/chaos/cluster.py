"""The same scripts on clusters: three Kafka brokers, a Spark master and two workers, all killed.

    make cluster-demo                                    150,000 stations, some minutes
    python -m tests.chaos.cluster --stations 1500        smaller

The raw topic has six partitions, and the job is submitted to the master with `spark-submit`. When
it runs, a worker, the driver and a Kafka broker are killed (-9), one after the other. Every total
is compared with a plain sum. The exit status is 1 if any is wrong or missing.
"""

import argparse
import collections
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import psutil
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

import config
from local.broker import free_port
from local.day import Day
from tests import expected
from tests.chaos.faults import ports_in_a_row
from tests.chaos.feed import BAD, Feed
from tests.pipeline import Pipeline, Script, wait_until
from velib import jars, runtime
from velib.errors import Failure
from velib.kafka import topics
from velib.kafka.raw_topic import snapshot_of
from velib.runtime import log

STATIONS = 150_000
PARTITIONS = 6  # of the raw topic
MIN_PERIOD = 5  # seconds between two snapshots
PACE = 5_000  # stations a second: two cores can serve, publish and sum as many
SNAPSHOTS = 8  # whose totals there are before something is killed
TIMEOUT = 600.0  # seconds for each step


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.cluster", description="The pipeline on clusters."
    )
    parser.add_argument(
        "--stations", type=int, default=STATIONS, metavar="N", help="number (default: %(default)s)"
    )
    parser.add_argument(
        "--snapshots",
        type=int,
        default=SNAPSHOTS,
        metavar="N",
        help="before something is killed (default: %(default)s)",
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=3,
        metavar="N",
        help="of a worker, the driver, a Kafka broker (default: %(default)s)",
    )
    parser.add_argument(
        "--nodes", type=int, choices=(1, 3), default=3, help="of Kafka (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="of Spark, a core each (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="velib-cluster-") as name:
        demo = ClusterDemo(Path(name), arguments.stations, arguments.nodes, arguments.workers)
        try:
            demo.start()
            demo.run(arguments.snapshots, arguments.kills)
            differences = demo.show()
        finally:
            demo.pipeline.kill_all()
    if differences:
        raise Failure(f"{differences} differences")


class ClusterDemo:
    """The clusters, the feed and the scripts, and what was seen of them."""

    def __init__(self, folder: Path, stations: int, nodes: int, workers: int) -> None:
        self.stations, self.nodes, self.workers = stations, nodes, workers
        port = ports_in_a_row(nodes)
        self.pipeline = Pipeline(",".join(f"localhost:{port + n}" for n in range(nodes)), folder)
        self.kafka_options = ("--port", str(port), "--nodes", str(nodes), "--data-dir", "kafka")
        self.period = max(MIN_PERIOD, stations // PACE)
        self.feed = Feed(Day(stations, self.period), 1, free_port())
        self.pipeline.environment |= {
            "VELIB_API_URL": f"http://localhost:{self.feed.port}",
            "VELIB_STATIONS": "all",
            "VELIB_POLL_SECONDS": str(self.period),
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        self.running: list[Script] = []
        self.recoveries: dict[str, float] = {}

    def start(self) -> None:
        """Start the clusters, make the topics, then start the scripts."""
        log.info("Starting Kafka (nodes: %d) and Spark (workers: %d)", self.nodes, self.workers)
        self.kafka = self._start("-m", "local.broker", *self.kafka_options)
        master_port = free_port()
        spark_options = ("--port", str(master_port), "--workers", str(self.workers))
        self.spark = self._start("-m", "local.spark_cluster", *spark_options)
        self._wait(lambda: "ready" in self.kafka.printed(), "Kafka")
        self._wait(lambda: "ready" in self.spark.printed(), "Spark's master and workers")
        raw_topic = {"num_partitions": PARTITIONS, "replication_factor": self.nodes}
        with KafkaAdminClient(**self.pipeline.client) as admin:
            admin.create_topics({self.pipeline.settings.raw_topic: raw_topic})
        topics.ensure(self.pipeline.settings)
        self.submit = (
            "spark-submit",
            *("--master", f"spark://127.0.0.1:{master_port}"),
            *("--jars", f"{jars.connector(config.load().cache_dir)}/*.jar"),
            "spark.py",
        )
        self.producer = self._start("kafka_project.py")
        self.job = self._start(*self.submit)

    def _start(self, *arguments: str) -> Script:
        self.running.append(self.pipeline.start(*arguments))
        return self.running[-1]

    def run(self, snapshots: int, kills: int) -> None:
        """Wait for some snapshots, kill the first `kills` parts one by one, stop the producer."""
        log.info("%d stations, every %d s: waiting for totals", self.stations, self.period)
        self._wait(lambda: len(self._snapshots()) >= snapshots, f"totals of {snapshots} snapshots")
        self.batches = self._batches()
        self.python_on_workers = self._python_on_workers()
        victims = {
            "a worker": lambda: _kill(self.spark, "deploy.worker.Worker"),
            "the driver": self._kill_driver,
            "a Kafka broker": lambda: _kill(self.kafka, "kafka.Kafka"),
        }
        for name, kill in islice(victims.items(), kills):
            self._kill(name, kill)
        self.running.remove(self.producer)
        self.producer.stop()

    def _kill(self, name: str, kill: Callable[[], None]) -> None:
        """Kill a part; records the seconds until the totals of a later snapshot are there."""
        log.info("kill -9: %s", name)
        killed = time.time()
        kill()
        self._wait(lambda: max(self._snapshots()) > killed, f"new totals without {name}")
        self.recoveries[name] = time.time() - killed

    def _kill_driver(self) -> None:
        self.running.remove(self.job)
        self.job.kill()
        self.job = self._start(*self.submit)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition is true, even while Kafka is away; raises Failure."""

        def is_true() -> bool:
            for script in self.running:
                if script.has_ended():
                    raise Failure(f"A script ended by itself: {script.log()}")
            try:
                return condition()
            except KafkaError:
                return False

        wait_until(is_true, what, TIMEOUT)

    def _snapshots(self) -> set[int]:
        return {snapshot for _, snapshot in self.pipeline.totals()}

    def _batches(self) -> list[float]:
        """The seconds of each batch that had just one snapshot, from the job's log.

        `spark-submit` puts all that Python writes to stdout, and Spark's own log to stderr.
        """
        lines = re.findall(
            r"batch \d+: (\d+) records in, .* out, ([0-9.]+) s", "\n".join(self.job.printed())
        )
        return [float(seconds) for records, seconds in lines if int(records) == self.stations]

    def _python_on_workers(self) -> int:
        """How many processes of the Spark cluster run Python: the job's modules stay with its
        driver, as all its steps are Spark's own expressions.
        """
        processes = psutil.Process(self.spark.process.pid).children(recursive=True)
        return sum("python" in process.name() for process in processes)

    def show(self) -> int:
        """Print what happened; returns the number of differences from plain sums."""
        published = collections.Counter(
            snapshot_of(record) for record in self.pipeline.read(self.pipeline.settings.raw_topic)
        )
        wanted: dict[tuple[str, int], expected.Total] = {}
        incomplete = 0
        for snapshot, count in published.items():
            answer = self.feed.answer(snapshot)
            stations = answer["data"]["stations"]
            incomplete += count != len(stations)
            answer["data"]["stations"] = [station for station in stations if BAD not in station]
            wanted |= expected.totals(answer)
        self._wait(lambda: self.pipeline.totals().keys() >= wanted.keys(), "all totals")
        totals = self.pipeline.totals()
        differences = {
            "snapshots published in part or twice": incomplete,
            "totals wrong": sum(wanted.get(key) != total for key, total in totals.items()),
            "totals missing": len(wanted.keys() - totals.keys()),
            "Python processes on the workers": self.python_on_workers,
        }
        written = len(self.pipeline.records(self.pipeline.settings.final_topic))
        table = Table("", "", title=f"{self.stations:,} stations, {PARTITIONS} partitions")
        table.add_row("snapshots published", f"{len(published):,}")
        table.add_row("totals compared", f"{len(totals):,}")
        table.add_row("totals that were replaced or repeated", f"{written - len(totals):,}")
        if self.batches:
            table.add_row("a batch of one snapshot, median", f"{statistics.median(self.batches)} s")
        for name, seconds in self.recoveries.items():
            table.add_row(f"kill -9 of {name}, to the next totals", f"{seconds:.0f} s")
        for name, number in differences.items():
            table.add_row(name, f"{number:,}", style="bold red" if number else None)
        Console().print(table)
        return sum(differences.values())


def _kill(cluster: Script, name: str) -> None:
    """Kill one of a cluster's processes that run this Java class."""
    children = psutil.Process(cluster.process.pid).children(recursive=True)
    next(child for child in children if name in " ".join(child.cmdline())).kill()


if __name__ == "__main__":
    runtime.run_tool(main)
