"""Publishes recorded snapshots again: in order, at their original pace or another, once each.

The newest snapshot in the topic shows how far a stopped replay has come: it resumes there.
"""

import argparse
import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from threading import Event

from velib.errors import Failure
from velib.feed.snapshot import Snapshot
from velib.producer.archive import Archive, Recorded
from velib.runtime import local_time, log

MIN_SPEED = 0.01  # a hundred times slower than recorded
MAX_SNAPSHOTS = 20  # in one transaction
MAX_RECORDS = 50_000  # in one transaction, unless one snapshot has more
MAX_WAIT = 3600.0  # seconds: Python cannot wait for centuries at a time
LOG_INTERVAL = 10.0  # seconds between two log lines


def parse_speed(text: str) -> float:
    """The speed given by an option; raises ArgumentTypeError."""
    is_number = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)
    if not is_number or 0 < float(text) < MIN_SPEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or a number of at least {MIN_SPEED}")
    return float(text)


class Replay:
    """The recorded snapshots of a span, to be published in order."""

    def __init__(self, path: Path, start: int | None, end: int | None, speed: float) -> None:
        """Find what is recorded below `path`, from `start` up to but not including `end` (epoch
        seconds, None: no limit); raises Failure if there is nothing.

        speed: how many times faster than recorded; 0 is as fast as possible.
        """
        self.speed = speed
        self.archive = Archive(path, start or 0, math.inf if end is None else end)
        self.recorded = self.archive.recorded
        self.oldest, self.newest = self.recorded[0].last_updated, self.recorded[-1].last_updated
        log.info(
            "%d recorded snapshots, from %s to %s",
            len(self.recorded),
            local_time(self.oldest),
            local_time(self.newest),
        )

    def is_published(self, topic: str, newest: int) -> bool:
        """Whether the topic, whose newest snapshot is `newest` (0: none), contains the last one.

        Raises Failure if the topic's newest snapshot is neither one of the recorded ones nor older
        than all of them: snapshots would be published in the wrong order, or twice.
        """
        done = self._count_up_to(newest)
        if done > 0 and self.recorded[done - 1].last_updated != newest:
            relation, choice = "newer than", "into"
            if newest < self.newest:
                relation = "not among"
                choice = f'with --from "{local_time(newest + 1)}", or into'
            raise Failure(
                f"{topic} contains a snapshot of {local_time(newest)}, which is {relation} the"
                f" recorded ones: replay {choice} other topics (VELIB_RAW_TOPIC and the others)"
            )
        if done == len(self.recorded):
            log.info("All %d recorded snapshots are published already", done)
        return done == len(self.recorded)

    def publish_after(
        self, newest: int, publish: Callable[[Sequence[Snapshot]], float | None], stop: Event
    ) -> None:
        """Call `publish` with the snapshots after `newest` that are due, several at a time if it
        cannot keep pace; returns early when `stop` is set.

        `publish` returns None if it published nothing. Raises Failure if nothing at all could be
        published, or if a file cannot be read.
        """
        done = self._count_up_to(newest)
        started, records = time.monotonic(), 0
        next_line = started + LOG_INTERVAL
        for number, snapshots in self._due(done, newest, stop):
            if publish(snapshots) is None:
                continue
            newest = snapshots[-1].last_updated
            records += sum(len(snapshot.stations) for snapshot in snapshots)
            if time.monotonic() > next_line:
                next_line = time.monotonic() + LOG_INTERVAL
                seconds = time.monotonic() - started
                left = seconds / (number - done) * (len(self.recorded) - number)
                if self.speed:
                    left = (self.newest - newest) / self.speed
                log.info(
                    "%d of %d snapshots, up to %s: %.0f records per second, %s left",
                    number,
                    len(self.recorded),
                    local_time(newest),
                    records / seconds,
                    timedelta(seconds=round(left)),
                )
        self.archive.skipped.log()
        if records:
            seconds = time.monotonic() - started
            log.info(
                "Replayed up to %s: %d records in %.0f s, %.0f per second",
                local_time(newest),
                records,
                seconds,
                records / seconds,
            )
        elif done == 0 and not stop.is_set():
            raise Failure(f"None of the {len(self.recorded)} recorded snapshots can be published")

    def _count_up_to(self, last_updated: int) -> int:
        """The number of recorded snapshots that are not newer."""
        return bisect_right(self.recorded, last_updated, key=lambda recorded: recorded.last_updated)

    def _due(self, done: int, newest: int, stop: Event) -> Iterator[tuple[int, list[Snapshot]]]:
        """Wait for the snapshots after the first `done`; yields those that are due together, and
        the number of recorded snapshots up to them. Ends when `stop` is set.
        """
        started = time.monotonic()
        first = self.recorded[done].last_updated if done < len(self.recorded) else 0

        def seconds_until(recorded: Recorded) -> float:
            if not self.speed:
                return 0.0
            return started + (recorded.last_updated - first) / self.speed - time.monotonic()

        snapshots: list[Snapshot] = []
        for number, recorded in enumerate(islice(self.recorded, done, None), start=done):
            if recorded.last_updated <= newest:
                continue  # another copy of the previous one
            is_full = (
                len(snapshots) == MAX_SNAPSHOTS
                or sum(len(snapshot.stations) for snapshot in snapshots) >= MAX_RECORDS
            )
            if snapshots and (is_full or seconds_until(recorded) > 0):
                yield number, snapshots
                snapshots = []
            while (seconds := seconds_until(recorded)) > 0 and not stop.is_set():
                stop.wait(min(seconds, MAX_WAIT))
            if stop.is_set():
                return
            snapshot = self.archive.read(recorded)
            if snapshot is not None:
                snapshots.append(snapshot)
                newest = snapshot.last_updated
        if snapshots:
            yield len(self.recorded), snapshots
