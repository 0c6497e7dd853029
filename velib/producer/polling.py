"""Polls the feed for its snapshots."""

import time
from collections.abc import Iterator
from threading import Event
from typing import get_args

from prometheus_client import Counter

from velib.errors import Failure
from velib.feed.api import ErrorKind, FeedError
from velib.feed.snapshot import Feed, Snapshot
from velib.runtime import backoff, log

MAX_BACKOFF = 300.0  # seconds between two polls of a feed that fails

POLL_ERRORS = Counter("velib_producer_poll_errors", "Polls without a snapshot, by kind.", ["kind"])
for kind in get_args(ErrorKind):  # a kind that has not occurred yet is 0, not missing
    POLL_ERRORS.labels(kind)


def poll_once(feed: Feed) -> Snapshot:
    """The feed's current snapshot; raises Failure if there is none."""
    try:
        return feed.snapshot()
    except FeedError as error:
        raise Failure(str(error)) from None


def poll(feed: Feed, poll_seconds: float, stop: Event) -> Iterator[Snapshot]:
    """Yield the snapshot of every poll, whether it is new or not, until `stop` is set.

    The next poll follows `poll_seconds` after a new snapshot. Until there is a new one, polls are
    12 times as frequent, so that it is read soon. The first snapshot may be old, so it does not
    count as new.
    """
    failures, short_pause = FailureLog(), poll_seconds / 12
    delays = backoff(short_pause, MAX_BACKOFF)
    newest = 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            snapshot = feed.snapshot()
        except FeedError as error:
            POLL_ERRORS.labels(error.kind).inc()
            failures.failed(error)
            pause = max(next(delays), error.retry_after)
        else:
            failures.recovered()
            delays = backoff(short_pause, MAX_BACKOFF)
            yield snapshot
            is_new = 0 < newest < snapshot.last_updated
            pause = poll_seconds if is_new else short_pause
            newest = max(newest, snapshot.last_updated)
        stop.wait(max(0.0, started + pause - time.monotonic()))


class FailureLog:
    """Logs why the feed fails, each reason once, and when it recovers."""

    def __init__(self) -> None:
        self.reason = ""
        self.failing_since = 0.0

    def failed(self, error: FeedError) -> None:
        if not self.reason:
            self.failing_since = time.monotonic()
        if error.reason != self.reason:
            log.warning("%s. Retrying with increasing delays", error)
        self.reason = error.reason

    def recovered(self) -> None:
        if self.reason:
            log.info("The feed is back after %.0f s", time.monotonic() - self.failing_since)
        self.reason = ""
