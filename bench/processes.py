"""The processes of the bench: their output, and the memory and CPU time that they take."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.contenders import PROJECT
from local.broker import free_port
from velib.errors import Failure

SAMPLE = 0.5  # seconds between two measurements of a process's memory
STOP_TIMEOUT = 45.0  # seconds that a process has to end


class Process:
    """A command with its output in files; what it and the processes that it starts take."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", " ".join(command[1:3]).strip("-"))
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.started = time.monotonic()
        self.memory = self.peak_memory = 0  # bytes: the sum of the resident sets, and its largest
        self.cpu_seconds = 0.0
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = psutil.Popen(
                command, cwd=PROJECT, env=os.environ | environment, stdout=out, stderr=err
            )
        self.ended = threading.Event()
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()

    def _sample(self) -> None:
        while not self.ended.wait(SAMPLE):
            self.measure()

    def measure(self) -> None:
        """Update the memory and the CPU seconds."""
        memory, cpu = 0, 0.0
        for process in self.tree():
            with suppress(psutil.Error):
                memory += process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system
        self.memory, self.peak_memory = memory, max(self.peak_memory, memory)
        self.cpu_seconds = max(self.cpu_seconds, cpu)

    def tree(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def wait(self, timeout: float) -> int | None:
        """Wait until it ends by itself; returns its exit status, None after the timeout."""
        with suppress(psutil.TimeoutExpired):
            return int(self.process.wait(timeout))
        return None

    def stop(self) -> None:
        """End it and what it has started."""
        self.ended.set()
        processes = self.tree()
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            self.wait(STOP_TIMEOUT)
        finally:  # even if Ctrl-C interrupts the wait
            for process in processes:
                with suppress(psutil.Error):
                    process.kill()

    def problem(self) -> str:
        """The last line of its log."""
        lines = self.err.read_text(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no output")


@contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> Iterator[Process]:
    process = Process(command, folder, environment or {})
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def kafka(folder: Path) -> Iterator[tuple[str, Process]]:
    """A Kafka of the bench's own: its address and its process."""
    port = free_port()
    options = ["--port", str(port), "--data-dir", str(folder / "kafka")]
    with running([sys.executable, "-m", "local.broker", *options], folder) as broker:
        while "ready" not in broker.out.read_text():
            if broker.wait(0.1) is not None:
                raise Failure(f"Kafka did not start: {broker.problem()}")
        yield f"localhost:{port}", broker
