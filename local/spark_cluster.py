"""A real Spark cluster on this machine, to try the job out: a standalone master and its workers.

    python -m local.spark_cluster [--port 7077] [--workers 2] [--cores 1] [--memory 1500m]
    spark-submit --master spark://127.0.0.1:7077 --packages \\
        org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0 spark.py

Prints `ready` when all workers have joined. Each process writes its log to the data directory. When
a worker ends, it is restarted.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyspark
import requests

from local.broker import free_port
from local.processes import stop, watch
from velib import java, runtime
from velib.errors import Failure
from velib.kafka import clients
from velib.runtime import log

SPARK = Path(pyspark.__file__).parent  # whatever other Spark this machine has
HOST = "127.0.0.1"
START_TIMEOUT = 60  # seconds


def main() -> None:
    arguments = _parse_arguments()
    java.find()
    cluster = Cluster(arguments.port, arguments.data_dir.absolute())
    try:
        cluster.start_master()
        for number in range(1, arguments.workers + 1):
            cluster.start_worker(number, arguments.cores, arguments.memory)
        cluster.wait_for_workers()
        print("ready", flush=True)
        log.info("Spark's master is %s, UI at %s", cluster.master, cluster.ui_url)
        watch(cluster.processes, cluster.run, cluster.describe_end, ["master"])
    finally:
        stop("Spark", cluster.processes.values())  # the workers end what they run for the job


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.spark_cluster", description="A Spark cluster for this machine only."
    )
    add = parser.add_argument
    add("--port", type=runtime.port, default=7077, help="the master's port (default: %(default)s)")
    add(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="number of workers (default: %(default)s)",
    )
    add(
        "--cores",
        type=int,
        default=1,
        metavar="N",
        help="cores of each worker (default: %(default)s)",
    )
    add("--memory", default="1500m", help="memory of each worker (default: %(default)s)")
    add(
        "--data-dir",
        type=Path,
        default=Path(".velib/spark-cluster"),
        help="where logs and temporary files are kept (default: %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.workers < 1 or arguments.cores < 1:
        parser.error("--workers and --cores must be at least 1")
    return arguments


class Cluster:
    """The processes of the master and the workers, each by its name."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port, self.directory = port, directory
        self.master = f"spark://{HOST}:{port}"
        self.ui_port = free_port()
        self.ui_url = f"http://{HOST}:{self.ui_port}"
        self.commands: dict[str, list[str]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_master(self) -> None:
        """Start the master, and wait until it serves; raises Failure."""
        if clients.listens(f"{HOST}:{self.port}"):
            raise Failure(f"Port {self.port} is in use: choose another --port")
        ports = ["--port", str(self.port), "--webui-port", str(self.ui_port)]
        self._start("master", "master.Master", ports)
        self._wait_until(lambda: clients.listens(f"{HOST}:{self.port}"))

    def start_worker(self, number: int, cores: int, memory: str) -> None:
        """Start a worker, which joins the master."""
        size = ["--cores", str(cores), "--memory", memory, "--webui-port", "0"]
        folder = ["--work-dir", str(self.directory / f"worker-{number}")]
        self._start(f"worker-{number}", "worker.Worker", [*size, *folder, self.master])

    def wait_for_workers(self) -> None:
        """Return when all workers have joined the master; raises Failure."""
        self._wait_until(lambda: self._alive_workers() >= len(self.processes) - 1)

    def describe_end(self, name: str, status: int) -> str:
        return f"The {name} ended (status {status}): see {self.directory / name}.log"

    def _start(self, name: str, class_name: str, arguments: list[str]) -> None:
        self.commands[name] = [
            str(SPARK / "bin" / "spark-class"),
            f"org.apache.spark.deploy.{class_name}",
            *("--host", HOST),
            *arguments,
        ]
        self.processes[name] = self.run(name)

    def run(self, name: str) -> subprocess.Popen[bytes]:
        """Start the process of this name, whose log is appended to."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # A master whose port is taken must not choose the next one: no worker would find it there.
        options = {
            "SPARK_HOME": str(SPARK),
            "SPARK_LOCAL_IP": HOST,
            "SPARK_DAEMON_JAVA_OPTS": "-Dspark.port.maxRetries=0",
        }
        with (self.directory / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                self.commands[name],
                env=os.environ | java.LOCALE | options,
                stdout=output,
                stderr=output,
            )

    def _alive_workers(self) -> int:
        """How many workers the master knows, 0 while it does not answer."""
        try:
            state = requests.get(f"{self.ui_url}/json/", timeout=5).json()
        except requests.RequestException:
            return 0
        return int(state["aliveworkers"])

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition is true; raises Failure if a process ends first."""
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                names = " and ".join(ended or self.processes)
                raise Failure(f"The {names} did not start: see the logs in {self.directory}")
            time.sleep(0.1)


if __name__ == "__main__":
    runtime.run_tool(main)
