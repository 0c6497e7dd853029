"""What is measured: each section is a list of interleaved runs, so that no contender has the best
moment of the machine.
"""

import time
from collections.abc import Callable
from itertools import islice
from threading import Event

from bench import pipeline
from bench.bench import PERIOD, Bench, Task
from bench.contenders import CATCH_UP, CLASSROOM, JOB, LIVE, QUIX, Contender
from bench.fill import RECORDS, STATIONS, snapshots
from bench.measure import Figures, RunEnvironment, catch_up, live
from velib.feed.snapshot import Snapshot
from velib.producer.publisher import Publisher

FEW = (CLASSROOM, QUIX)
"""These would take many minutes for five million records, so they get half a million. They are not
faster over more.
"""

FEW_SNAPSHOTS = 5, 12  # of larger networks: warm-up, and measured


def latency(bench: Bench) -> list[Task]:
    """From the commit of a snapshot of 1,500 stations to the last of its totals."""
    size = bench.size
    seconds = size.warm_up * 0.12 + size.measured * PERIOD

    def task(contender: Contender, turn: int) -> Task:
        return Task(
            f"{contender.name}, run {turn + 1} of {size.turns}",
            contender.name,
            contender.start + seconds,
            lambda: live(
                contender, bench.new_environment(), STATIONS, size.warm_up, size.measured, PERIOD
            ),
        )

    return [task(c, turn) for turn in range(size.turns) for c in present(LIVE, bench)]


def catching_up(bench: Bench) -> list[Task]:
    """A backlog in the topic."""
    size = bench.size

    def snapshots_for(contender: Contender) -> int:
        return size.few_snapshots if contender in FEW else size.snapshots

    def task(contender: Contender, turn: int) -> Task:
        count = snapshots_for(contender)
        return Task(
            f"{contender.name}, {count * RECORDS:,} records, run {turn + 1} of {size.turns}",
            contender.name,
            contender.start + count * RECORDS / contender.speed + count / 500,
            lambda: catch_up_with(bench, contender, count),
        )

    contenders = present(CATCH_UP, bench)
    counts = sorted({snapshots_for(contender) for contender in contenders})
    return [
        *[filling(bench, count, 1) for count in counts],
        *[task(c, turn) for turn in range(size.turns) for c in contenders],
    ]


def filling(bench: Bench, count: int, partitions: int) -> Task:
    def run() -> Figures:
        bench.raw_topic(count, partitions)
        return {}

    return Task(f"writing {count * RECORDS:,} records", "", count / 30, run)


def catch_up_with(
    bench: Bench, contender: Contender, count: int, partitions: int = 1, **environment: str
) -> Figures:
    topic, expected = bench.raw_topic(count, partitions)
    return catch_up(
        contender, bench.new_environment(topic), expected, count * RECORDS, **environment
    )


def cost(bench: Bench) -> list[Task]:
    """What the whole pipeline takes, on a feed with a snapshot a second."""
    seconds, turns = bench.size.cost_seconds, bench.size.turns
    return [
        Task(
            f"the whole pipeline, run {turn + 1} of {turns}",
            "pipeline",
            18 + 1.5 * seconds,
            lambda: pipeline.cost(bench, seconds),
        )
        for turn in range(turns)
    ]


def growth(bench: Bench) -> list[Task]:
    """The job by itself: with larger networks, with more cores, with more partitions."""
    size = bench.size
    count = size.growth_snapshots

    def larger(stations: int) -> Task:
        warm_up, measured = size.warm_up, size.measured
        if stations > STATIONS:
            warm_up, measured = FEW_SNAPSHOTS
        seconds = JOB.start + (warm_up + measured) * (0.2 + stations / 25_000)
        name = f"{stations:,} stations"
        return Task(
            name,
            name,
            seconds,
            lambda: live(JOB, bench.new_environment(), stations, warm_up, measured, PERIOD),
        )

    def scaled(cores: int, partitions: int) -> Task:
        master = {"VELIB_SPARK_MASTER": f"local[{cores}]"}
        name = f"cores: {cores}, partitions: {partitions}"
        return Task(
            name,
            name,
            JOB.start + count * RECORDS / 60_000,
            lambda: catch_up_with(bench, JOB, count, partitions, **master),
        )

    return [
        *[larger(stations) for _ in range(size.turns) for stations in size.stations],
        *[filling(bench, count, partitions) for partitions in sorted({p for _, p in size.scales})],
        *[scaled(*scale) for _ in range(size.turns) for scale in size.scales],
    ]


def publishing(bench: Bench) -> list[Task]:
    """The producer's own Publisher: from a snapshot that is read to the end of its commit."""

    def task(stations: int) -> Task:
        name = f"{stations:,} stations"
        count = 20 if stations == STATIONS else 5
        seconds = 3 + count * stations / 7_500
        return Task(name, name, seconds, lambda: publish(bench.new_environment(), stations, count))

    return [task(s) for _ in range(bench.size.turns) for s in (STATIONS, 10 * STATIONS)]


def publish(environment: RunEnvironment, stations: int, count: int) -> Figures:
    """Publish `count` snapshots, after three that are not measured."""
    seconds = []
    publisher = Publisher(environment.settings, Event())
    for feed in islice(snapshots(stations), count + 3):
        snapshot = Snapshot(feed["lastUpdatedOther"], feed["data"]["stations"])
        started = time.monotonic()
        publisher.publish([snapshot])
        seconds.append(time.monotonic() - started)
    mean = sum(seconds[3:]) / count
    return {"records_per_second": stations / mean, "seconds": mean}


def present(contenders: list[Contender], bench: Bench) -> list[Contender]:
    """The contenders of this size whose packages are available."""
    return [
        c
        for c in contenders
        if c not in bench.size.left_out and not (c.packages and bench.no_peers)
    ]


ALL: dict[str, Callable[[Bench], list[Task]]] = {
    "latency": latency,
    "catch-up": catching_up,
    "cost": cost,
    "growth": growth,
    "publishing": publishing,
}
