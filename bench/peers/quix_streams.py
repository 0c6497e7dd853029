"""The totals with Quix Streams: a window for each snapshot and postal code, in its state store.

    python -m bench.peers.quix_streams                   until stopped
    python -m bench.peers.quix_streams --available-now   what is in the topic now; then prints the
                                                         seconds since the start of the application

It writes a total again for each station (`current`). The other choice, `final`, would write a total
once, but only when the next snapshot has come, a minute later.
"""

import sys
import time
from typing import Any

from quixstreams import Application

import config
from bench.peers.sums import CLOSED, Counts, counts, postal_code, total
from velib import runtime

SECOND = 1_000  # milliseconds: snapshots are named by the second, so each has its own window
LATE = 600 * SECOND  # the grace of the windows is the job's watermark of ten minutes
IDLE = 3.0  # seconds without a record, after which there are no more


class Clock:
    """When the application was started, and when it had its last record."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()

    def tick(self, topic: str, partition: int, offset: int) -> None:
        self.last = time.monotonic()


def main() -> None:
    settings = config.load()
    clock = Clock()
    app = Application(
        broker_address=settings.kafka.bootstrap_servers,
        consumer_group=settings.final_topic,
        auto_offset_reset="earliest",
        state_dir=settings.checkpoint_dir,
        consumer_extra_config={"isolation.level": "read_committed"},
        on_message_processed=clock.tick,
        loglevel="WARNING",
    )
    raw = app.topic(
        settings.raw_topic,
        value_deserializer="json",
        timestamp_extractor=lambda station, *_: station["last_updated"] * SECOND,
    )
    final = app.topic(settings.final_topic, key_serializer="str", value_serializer="json")
    totals = (
        app.dataframe(raw)
        .group_by(lambda station: postal_code(station["stationCode"]), name="postal_code")
        .tumbling_window(SECOND, grace_ms=LATE)
        .reduce(initializer=lambda station: count_in({}, station), reducer=count_in)
        .current()
    )
    totals.apply(to_total, metadata=True).to_topic(final)
    if "--available-now" in sys.argv[1:]:
        app.run(timeout=IDLE)
        print(f"{clock.last - clock.started:.3f} s")
    else:
        app.run()


def count_in(counted: dict[str, Counts], station: dict[str, Any]) -> dict[str, Counts]:
    """The counts of a window's stations by station code, with one more: each counts once."""
    return counted | {station["stationCode"]: counts(station)}


def to_total(window: dict[str, Any], key: str, timestamp: int, headers: Any) -> dict[str, Any]:
    sums = tuple(map(sum, zip(CLOSED, *window["value"].values(), strict=True)))
    return total(key, window["start"] // SECOND, sums)


if __name__ == "__main__":
    runtime.run_tool(main)
