"""Two days of the whole network in half an hour, to see what grows with the number of snapshots.

    make soak    prints the table and draws docs/soak.svg

The real scripts on a real Kafka. The feed has a snapshot for each minute of the last two days, and
serves the next one as soon as the producer has published the previous one. Memory is the resident
set of each process, Java's and Python's. The exit status is 1 if something grows after the warm-up.
"""

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pygal
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from local.broker import free_port
from local.day import Day
from tests import PROJECT
from tests.chaos.feed import Feed
from tests.pipeline import Pipeline, Script, wait_until
from velib import runtime
from velib.errors import Failure
from velib.runtime import log

STATIONS, SNAPSHOTS, MINUTE = 1500, 2 * 1440, 60
TIMEOUT = 3600.0  # seconds for all snapshots
MAX_GROWTH = 1.1  # of the last quarter over the third: the first half is the warm-up
PLOT = PROJECT / "docs" / "soak.svg"


Samples = dict[str, list[tuple[int, float]]]
"""What was measured, by name, as pairs of the number of snapshots served and the value."""


class FastFeed(Feed):
    """Has the next snapshot as soon as the previous one is published."""

    def __init__(self, port: int) -> None:
        self.count = 0  # snapshots served
        self.first = int(time.time()) // MINUTE * MINUTE - SNAPSHOTS * MINUTE
        self.producer: Script | None = None
        super().__init__(Day(STATIONS, MINUTE), 1, port)

    def now(self) -> int:
        self.served.clear()  # nothing compares them here
        lines = self.producer.log() if self.producer else ""
        self.count = min(lines.count("stations of the snapshot of") + 1, SNAPSHOTS)
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
        }
        try:
            samples = run(pipeline, feed, port)
        finally:
            pipeline.kill_all()
    draw(samples)
    if growing := report(samples):
        raise Failure(f"This grows: {', '.join(growing)}")


def run(pipeline: Pipeline, feed: FastFeed, port: int) -> Samples:
    """Replay the two days; returns what was measured."""
    scripts = {
        "broker": pipeline.start("-m", "local.broker", "--port", str(port)),
        "producer": pipeline.start("kafka_project.py"),
        "job": pipeline.start("spark.py"),
        "consumer": pipeline.start("consumer.py"),
    }
    feed.producer = scripts["producer"]
    samples: Samples = defaultdict(list)
    deadline = time.monotonic() + TIMEOUT
    while feed.count < SNAPSHOTS:
        if time.monotonic() > deadline:
            raise Failure(f"After {TIMEOUT:.0f} s there are {feed.count} snapshots of {SNAPSHOTS}")
        time.sleep(2)
        for name, script in scripts.items():
            if script.has_ended():
                raise Failure(f"The {name} ended: {script.log()}")
            for process, megabytes in _memory(name, script):
                samples[process].append((feed.count, megabytes))
        if kept := re.findall(r"(\d+) totals kept", scripts["job"].log()):
            samples["totals kept in the state"].append((feed.count, float(kept[-1])))
        size = _size(pipeline.folder / ".velib" / "checkpoint")
        samples["checkpoint, MB"].append((feed.count, size / 1e6))
        if len(samples["broker, MB"]) % 15 == 0:
            log.info("%d snapshots of %d", feed.count, SNAPSHOTS)
    last = feed.first + SNAPSHOTS * MINUTE
    wait_until(lambda: _has_totals(pipeline, last), "the last totals", 300)
    return samples


def _memory(name: str, script: Script) -> Iterator[tuple[str, float]]:
    """The resident set of a script and of its Java process, in MB, each with a name."""
    python = psutil.Process(script.process.pid)
    yield f"{name}, MB", python.memory_info().rss / 1e6
    for child in python.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a process that lived for a moment
            if child.name() == "java":
                yield f"{name}'s Java, MB", child.memory_info().rss / 1e6


def _has_totals(pipeline: Pipeline, snapshot: int) -> bool:
    try:
        return any(last_updated == snapshot for _, last_updated in pipeline.totals())
    except KafkaError:
        return False


def _size(folder: Path) -> int:
    """The bytes in the files below a folder, of which Spark may be removing some."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def minima(values: list[tuple[int, float]]) -> list[float]:
    """The minimum of each quarter, in which Spark has removed its old files at least once."""
    parts: list[list[float]] = [[], [], [], []]
    for count, value in values:
        parts[min(4 * count // SNAPSHOTS, 3)].append(value)
    return [min(part, default=0.0) for part in parts]


def report(samples: Samples) -> list[str]:
    """Print the minimum of each quarter; returns the names of what grows after the third."""
    title = f"{SNAPSHOTS} snapshots of {STATIONS} stations"
    table = Table("", "1st quarter", "2nd", "3rd", "4th", title=title)
    growing = []
    for name, values in samples.items():
        least = minima(values)
        is_growing = least[3] > MAX_GROWTH * least[2]
        growing += [name] * is_growing
        numbers = [f"{value:,.1f}" for value in least]
        table.add_row(name, *numbers, style="bold red" if is_growing else None)
    Console().print(table)
    return growing


def draw(samples: Samples) -> None:
    """Draw what was measured into docs/soak.svg."""
    network = f"{SNAPSHOTS} snapshots of {STATIONS} stations"
    chart = pygal.XY(
        title=f"{network}: MB; on the right, totals kept in the state",
        x_title="snapshots served",
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
    runtime.run_tool(main)
