"""The producer's metrics: `kafka_project.py --metrics-port N` serves them to Prometheus."""

import math
import time
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from velib.feed.api import ErrorKind
from velib.feed.snapshot import Snapshot

SNAPSHOTS = Counter(
    "velib_producer_snapshots_published", "Snapshots published since the producer started."
)
STATIONS = Gauge("velib_producer_stations", "Stations of the last snapshot that was published.")
DURATION = Histogram(
    "velib_producer_publish_duration_seconds",
    "Time from a snapshot's first record until its transaction was committed.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
FEED_AGE = Gauge(
    "velib_producer_feed_age_seconds",
    "Age of the last published snapshot by the feed's own time stamp, NaN if there is none.",
)
POLL_ERRORS = Counter("velib_producer_poll_errors", "Polls without a snapshot, by kind.", ["kind"])

FEED_AGE.set(math.nan)
for each in get_args(ErrorKind):  # a kind that has not come yet is a zero, not a gap
    POLL_ERRORS.labels(each)


def poll_failed(kind: ErrorKind) -> None:
    """Count a poll that brought no snapshot."""
    POLL_ERRORS.labels(kind).inc()


def published(snapshot: Snapshot, seconds: float) -> None:
    """Count a snapshot that took so long to publish."""
    SNAPSHOTS.inc()
    STATIONS.set(len(snapshot.stations))
    DURATION.observe(seconds)
    set_newest_snapshot(snapshot.last_updated)


def set_newest_snapshot(last_updated: int) -> None:
    """The last published snapshot is the one of this time (epoch seconds); 0 if there is none."""
    if last_updated:
        FEED_AGE.set_function(lambda: time.time() - last_updated)
