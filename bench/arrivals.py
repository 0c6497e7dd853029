"""Records when the totals of each snapshot become readable, and whether they are right."""

import threading
import time
from typing import Any

import orjson
import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.fill import Totals
from config import Settings

TIMEOUT = 90.0  # seconds that a snapshot's totals may take


class WrongTotals(Exception):
    """Totals are missing, or are not the expected ones."""


class Arrivals:
    """Reads the final topic in a thread of its own, from its beginning.

    A contender may write a total several times: the last one counts. A snapshot counts as readable
    while all its totals are the expected ones.
    """

    def __init__(self, settings: Settings) -> None:
        self.consumer = Consumer(
            {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "arrivals"}
        )
        self.consumer.assign([TopicPartition(settings.final_topic, 0, OFFSET_BEGINNING)])
        self.expected: Totals = {}
        self.missing: dict[int, set[str]] = {}  # missing or wrong totals, by snapshot
        self.readable: dict[int, float] = {}  # since when, by snapshot
        self.changed = threading.Condition()
        self.is_over = False
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Arrivals":
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_over = True
        self.thread.join()
        self.consumer.close()

    def expect(self, totals: Totals) -> None:
        """Add the totals of a snapshot that is about to be written."""
        with self.changed:
            self.expected |= totals
            for name, snapshot in totals:
                self.missing.setdefault(snapshot, set()).add(name)

    def _read(self) -> None:
        while not self.is_over:
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None and message.value():
                self._take(orjson.loads(message.value() or b""), time.monotonic())

    def _take(self, record: dict[str, Any], now: float) -> None:
        name = record.get("postal_code") or record["stationCode"]
        snapshot = record["last_updated"]
        with self.changed:
            missing = self.missing[snapshot]
            if record == self.expected[name, snapshot]:
                missing.discard(name)
            else:
                missing.add(name)
            if missing:
                self.readable.pop(snapshot, None)
            elif snapshot not in self.readable:
                self.readable[snapshot] = now
                self.changed.notify_all()

    def wait_for(self, snapshot: int, writer: psutil.Popen) -> float:
        """When (monotonic seconds) a snapshot's totals became readable.

        Raises WrongTotals if they do not in time, or if the process that writes them has ended.
        """
        deadline = time.monotonic() + TIMEOUT
        with self.changed:
            while snapshot not in self.readable:
                if time.monotonic() > deadline or writer.poll() is not None:
                    raise WrongTotals(f"{len(self.missing[snapshot])} of snapshot {snapshot}")
                self.changed.wait(1)
            return self.readable[snapshot]

    def check(self) -> None:
        """Raise WrongTotals unless all that was expected is there now."""
        with self.changed:
            if wrong := sum(map(len, self.missing.values())):
                raise WrongTotals(f"{wrong} at the end")
