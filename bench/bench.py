"""A run of the bench: its size, its Kafka, its topics, its results."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from bench.contenders import CLASSROOM, COPY, Contender
from bench.fill import Totals, fill
from bench.machine import machine
from bench.measure import Figures, RunEnvironment
from bench.processes import Process


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    turns: int
    warm_up: int
    """Snapshots before the measured ones: Java compiles what it does often."""
    measured: int
    snapshots: int
    """The backlog of a contender that catches up, of 1,500 stations each."""
    few_snapshots: int
    """For the contenders that would take longer than four minutes."""
    stations: tuple[int, ...]
    """Stations of a snapshot, for growing networks."""
    cost_seconds: int
    scales: tuple[tuple[int, int], ...] = ()
    """Cores and partitions of the runs in which `growth_snapshots` wait."""
    growth_snapshots: int = 0
    left_out: tuple[Contender, ...] = ()
    """Contenders that are not measured, to save time."""


FULL = Size(
    turns=5,
    warm_up=150,
    measured=50,
    snapshots=3_334,
    few_snapshots=334,
    stations=(1_500, 15_000, 150_000),
    cost_seconds=30,
    scales=((1, 1), (1, 6), (2, 1), (2, 6)),
    growth_snapshots=1_334,
)
QUICK = Size(
    turns=1,
    warm_up=5,
    measured=10,
    snapshots=40,
    few_snapshots=40,
    stations=(15_000,),
    cost_seconds=6,
    left_out=(COPY, CLASSROOM),
)

PERIOD = 0.3  # seconds between two snapshots


@dataclass(frozen=True)
class Task:
    """One run of one contender."""

    title: str
    name: str
    """Under which its figures are kept, together with those of other runs of this name."""
    seconds: float
    """About how long it takes."""
    run: Callable[[], Figures]


@dataclass
class Bench:
    folder: Path
    kafka: str
    broker: Process
    size: Size
    no_peers: str
    """Why the peers with their own packages are not available, else ""."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    run_count: int = 0
    filled: dict[tuple[int, int], tuple[str, Totals]] = field(default_factory=dict)

    def new_environment(self, raw_topic: str = "") -> RunEnvironment:
        """The environment of one run, with this raw topic or a new one."""
        self.run_count += 1
        folder = self.folder / f"run-{self.run_count}"
        return RunEnvironment(self.kafka, raw_topic or f"{folder.name}-raw", folder)

    def raw_topic(self, snapshots: int, partitions: int = 1) -> tuple[str, Totals]:
        """A raw topic with this number of snapshots, filled once, and its expected totals."""
        key = (snapshots, partitions)
        if key not in self.filled:
            environment = self.new_environment()
            self.filled[key] = (
                environment.raw_topic,
                fill(environment.settings, snapshots, partitions),
            )
        return self.filled[key]

    def add_figures(self, section: str, name: str, figures: Figures) -> None:
        """Keep the figures of a run."""
        if figures:
            made = self.results.setdefault(
                section, {"date": f"{date.today()}", "machine": machine(), "runs": {}}
            )
            made["runs"].setdefault(name, []).append(figures)
