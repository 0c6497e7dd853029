"""Publishes a snapshot with the functions of an answer, and is killed in the middle of it.

python killed.py ANSWER KAFKA TOPIC NAME
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from exercises.lab import load, snapshot

LAST = 700
"""The record after which the process is killed."""


class KilledProducer:
    """A producer whose process is killed as soon as LAST records have arrived in Kafka."""

    def __init__(self, producer: KafkaProducer) -> None:
        self.producer, self.sent = producer, 0

    def send(self, *args: Any, **options: Any) -> Any:
        result = self.producer.send(*args, **options)
        self.sent += 1
        if self.sent == LAST:
            self.producer.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.producer, name)


def records(number: int) -> list[tuple[bytes, bytes]]:
    """The records of a snapshot of the real day."""
    status = snapshot(number)
    last_updated = {"last_updated": status["lastUpdatedOther"]}
    return [
        (station["stationCode"].encode(), json.dumps(station | last_updated).encode())
        for station in status["data"]["stations"]
    ]


if __name__ == "__main__":
    file, kafka, topic, name = sys.argv[1:]
    answer = load(Path(file))
    answer.publish(KilledProducer(answer.connect(kafka, name)), topic, records(0))
