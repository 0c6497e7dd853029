"""Two days of the whole network in a few minutes: what grows with the number of snapshots would be seen here.

    make soak    prints the table and draws docs/soak.svg; status 1 if something grows after the warm-up

The real scripts on a real Kafka; the feed has a snapshot a minute of the last two days, and the next as soon as one was asked
for. Memory is the resident set of each process, Java's and Python's.
"""

import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pygal
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

import cli
from cli import Failure, log
from local.broker import free_port
from local.simulator import make_network
from tests.chaos.feed import Feed
from tests.conftest import PROJECT
from tests.integration.conftest import Pipeline, wait_until

STATIONS, SNAPSHOTS, MINUTE = 1500, 2 * 1440, 60
LONGEST = 3600.0
GROWTH = 1.1  # of the last quarter over the third: the first half is the warm-up
PLOT = PROJECT / "docs" / "soak.svg"


class FastFeed(Feed):
    """Has the next snapshot whenever it is asked."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.first = int(time.time()) // MINUTE * MINUTE - SNAPSHOTS * MINUTE
        super().__init__(make_network(STATIONS, 1), 1, MINUTE, port)

    def now(self) -> int:
        self.served.clear()  # nobody compares them here
        self.count = min(self.count + 1, SNAPSHOTS)
        return self.first + self.count * MINUTE


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="velib-soak-") as name:
        port, feed = free_port(), FastFeed(free_port())
        pipeline = Pipeline(f"localhost:{port}", Path(name))
        pipeline.environment |= {
            "VELIB_API_URL": f"http://localhost:{feed.port}",
            "VELIB_STATIONS": "all",
            "VELIB_SPARK_MASTER": "local[*]",
            "VELIB_POLL_SECONDS": "0.1",
            "JAVA_TOOL_OPTIONS": "",  # the tests' own are for processes that live for a minute
        }
        try:
            samples = run(pipeline, feed, port)
        finally:
            pipeline.clean_up()
    draw(samples)
    growing = report(samples)
    if growing:
        raise Failure(f"This grows: {', '.join(growing)}")


def run(pipeline: Pipeline, feed: FastFeed, port: int) -> dict[str, list[tuple[int, float]]]:
    """Let the days pass; returns what was measured, as pairs of the snapshots published and the value."""
    scripts = {
        "broker": pipeline.start("-m", "local.broker", "--port", str(port)),
        "producer": pipeline.start("kafka_project.py"),
        "job": pipeline.start("spark.py"),
        "consumer": pipeline.start("consumer.py"),
    }
    samples: dict[str, list[tuple[int, float]]] = {}
    deadline = time.monotonic() + LONGEST
    while feed.count < SNAPSHOTS:
        if time.monotonic() > deadline:
            raise Failure(f"The days were not over after {LONGEST:.0f} s: {feed.count} snapshots of {SNAPSHOTS}")
        time.sleep(2)
        for name, script in scripts.items():
            if script.process.poll() is not None:
                raise Failure(f"The {name} ended: {script.said()}")
            python = psutil.Process(script.process.pid)
            samples.setdefault(f"{name}, MB", []).append((feed.count, python.memory_info().rss / 1e6))
            for child in python.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # one that lived for a moment
                    if child.name() == "java":
                        samples.setdefault(f"{name}'s Java, MB", []).append((feed.count, child.memory_info().rss / 1e6))
        if kept := re.findall(r"(\d+) sums kept", scripts["job"].said()):
            samples.setdefault("sums kept in the state", []).append((feed.count, float(kept[-1])))
        size = _size(pipeline.folder / ".velib" / "checkpoint")
        samples.setdefault("checkpoint, MB", []).append((feed.count, size / 1e6))
        if len(samples["broker, MB"]) % 15 == 0:
            log.info("%d snapshots of %d", feed.count, SNAPSHOTS)
    last = feed.first + SNAPSHOTS * MINUTE
    wait_until(lambda: _has(pipeline, last), "the last totals", 300)
    return samples


def _has(pipeline: Pipeline, snapshot: int) -> bool:
    try:
        return any(of == snapshot for _, of in pipeline.totals())
    except KafkaError:
        return False


def _size(folder: Path) -> int:
    """The bytes in the files below a folder, of which Spark may be removing some."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def quarters(values: list[tuple[int, float]]) -> list[float]:
    """The least in each quarter: it takes longer than the minute after which Spark removes old files."""
    parts: list[list[float]] = [[], [], [], []]
    for count, value in values:
        parts[min(4 * count // SNAPSHOTS, 3)].append(value)
    return [min(part, default=0.0) for part in parts]


def report(samples: dict[str, list[tuple[int, float]]]) -> list[str]:
    """Print the least of each quarter; returns what grows after the third."""
    table = Table("", "1st quarter", "2nd", "3rd", "4th", title=f"{SNAPSHOTS} snapshots of {STATIONS} stations")
    growing = []
    for name, values in samples.items():
        least = quarters(values)
        is_growing = least[3] > GROWTH * least[2]
        growing += [name] * is_growing
        table.add_row(name, *[f"{value:,.1f}" for value in least], style="bold red" if is_growing else None)
    Console().print(table)
    return growing


def draw(samples: dict[str, list[tuple[int, float]]]) -> None:
    chart = pygal.XY(
        title=f"{SNAPSHOTS} snapshots of {STATIONS} stations: MB; on the right, sums kept in the state",
        x_title="snapshots published",
        show_dots=False,
        truncate_legend=-1,
        truncate_label=-1,
        legend_at_bottom=True,
        range=(0, 2000),
        secondary_range=(0, 10_000),
        js=(),
        style=pygal.style.DefaultStyle,
    )
    for name, values in samples.items():
        chart.add(name, values, secondary=not name.endswith("MB"))
    PLOT.write_bytes(chart.render())


if __name__ == "__main__":
    cli.run(main)
