"""Publishes recorded snapshots again: in order, at their own pace or faster, and once each.

What is published already is known from the topic alone, so a replay that was stopped goes on.
"""

import argparse
import logging
import math
import re
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from velib.errors import Failure
from velib.feed.snapshot import Snapshot
from velib.producer import recorded
from velib.runtime import local_time, log

MIN_SPEED = 0.01  # slower than the snapshots came, but not for ever
MAX_SLEEP = 3600.0  # seconds: Python refuses to sleep for centuries
LOG_INTERVAL = 30.0  # seconds between two lines where there is no terminal for a bar
COUNTS = "{task.completed:,.0f}/{task.total:,.0f} snapshots, {task.fields[state]}"


def parse_speed(text: str) -> float:
    """The speed that an option gives; raises ArgumentTypeError."""
    is_number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)
    if not is_number or 0 < float(text) < MIN_SPEED:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor a number from {MIN_SPEED}")
    return float(text)


class Replay:
    """The recorded snapshots of a span, and how far they are published."""

    def __init__(self, path: Path, start: int | None, end: int | None, speed: float) -> None:
        """Find what is recorded below `path`, from `start` up to, but without, `end` (epoch
        seconds) if they are given; raises Failure if there is nothing.

        speed: how often faster than it was; 0 is as fast as possible.
        """
        self.speed = speed
        self.recorded = recorded.find(path, start or 0, math.inf if end is None else end)
        self.oldest, self.newest = self.recorded[0].last_updated, self.recorded[-1].last_updated
        log.info(
            "%d recorded snapshots, of %s to %s",
            len(self.recorded),
            local_time(self.oldest),
            local_time(self.newest),
        )

    def is_complete(self, topic: str, newest: int) -> bool:
        """Whether the last one is published, in a topic with this newest snapshot (0: it is empty).

        Raises Failure if that is none of the recorded ones, and they are not all newer: snapshots
        would be in the topic in the wrong order, or twice.
        """
        done = self._count_up_to(newest)
        if done > 0 and self.recorded[done - 1].last_updated != newest:
            relation, choice = "newer than", "into"
            if newest < self.newest:
                relation = "not among"
                choice = f'with --from "{local_time(newest + 1)}", or into'
            raise Failure(
                f"{topic} has a snapshot of {local_time(newest)}, which is {relation} the recorded"
                f" ones: replay {choice} other topics (VELIB_RAW_TOPIC and the others)"
            )
        if done == len(self.recorded):
            log.info("All %d recorded snapshots are published already", done)
        return done == len(self.recorded)

    def publish_after(
        self, newest: int, publish: Callable[[list[Snapshot]], object], stop: Event
    ) -> None:
        """Have `publish` called with each snapshot that is newer, when its time has come."""
        done = self._count_up_to(newest)
        started, first, records, skipped = time.monotonic(), 0, 0, 0
        with _progress(done, len(self.recorded)) as show:
            for number, one in enumerate(self.recorded[done:], start=1):
                if one.last_updated <= newest:
                    continue  # another copy of the one before
                snapshot = recorded.read(one)
                if snapshot is None:
                    skipped += 1
                    continue
                first = first or one.last_updated
                self._wait(started, one.last_updated - first)
                publish([snapshot])
                newest, records = one.last_updated, records + len(snapshot.stations)
                seconds = time.monotonic() - started
                left = seconds / number * (len(self.recorded) - done - number)
                if self.speed:
                    left = (self.newest - newest) / self.speed
                state = f"{local_time(newest)}, {records / seconds:,.0f} records/s"
                show(done + number, f"{state}, {timedelta(seconds=round(left))} left")
        seconds = time.monotonic() - started
        log.info(
            "Replayed up to %s: %d records in %.0f s, %.0f a second; %d files skipped",
            local_time(newest),
            records,
            seconds,
            records / seconds,
            skipped,
        )

    def _count_up_to(self, last_updated: int) -> int:
        """How many of the recorded snapshots are not newer."""
        return bisect_right(self.recorded, last_updated, key=lambda one: one.last_updated)

    def _wait(self, started: float, recorded_seconds: int) -> None:
        """Wait until it is so long after the start as it was then, or less by the speed."""
        due = started + recorded_seconds / self.speed if self.speed else 0.0
        while (seconds := due - time.monotonic()) > 0:
            time.sleep(min(seconds, MAX_SLEEP))


@contextmanager
def _progress(done: int, total: int) -> Iterator[Callable[[int, str], None]]:
    """What shows how many snapshots are published, and a text: a bar on stderr, or log lines."""
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with Progress(BarColumn(), TextColumn(COUNTS), console=console) as bar, _log_above_bar():
            task: TaskID = bar.add_task("", total=total, completed=done, state="starting")
            yield lambda number, state: bar.update(task, completed=number, state=state)
        return
    next_line = time.monotonic() + LOG_INTERVAL

    def log_now_and_then(number: int, state: str) -> None:
        nonlocal next_line
        if time.monotonic() > next_line:
            log.info("%d of %d snapshots: %s", number, total, state)
            next_line = time.monotonic() + LOG_INTERVAL

    yield log_now_and_then


@contextmanager
def _log_above_bar() -> Iterator[None]:
    """Have log lines go through rich's own stderr, which moves the bar down for them."""
    handlers = [one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
