"""Kills the job in the middle of a batch, restarts it, and compares what it has written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from kafka import KafkaConsumer

import config
from exercises.lab import FOLDER, Lab, Wrong, clock, load, snapshot, where

SCRIPT = Path(__file__).with_name("job.py")
CODES = ("16107", "32017")  # of two postal codes
PATIENCE = 180  # seconds

Process = subprocess.Popen[bytes]


def test(lab: Lab, answer: ModuleType) -> None:
    written = run(lab)
    for name in ("RECORDS", "DIFFERENT"):
        for time_of in dict.fromkeys(map(snapshot_of, written)):
            records = [record for record in written if snapshot_of(record) == time_of]
            different = {record.value for record in records}
            number = len(records if name == "RECORDS" else different)
            check(f"{name} of {time_of}", getattr(answer, name)[time_of], number, records)
    printed: list[dict[str, Any]] = []
    for record in written:
        total = json.loads(record.value)
        is_new = answer.is_new(total, list(printed))
        if is_new and total in printed:
            first = next(r.offset for r in written if r.value == record.value)
            raise Wrong(f"is_new: you print the total of offset {first} again: {where(record)}")
        if not is_new and total not in printed:
            raise Wrong(f"is_new: you never print {where(record)}")
        printed.append(total)


def check(what: str, said: int | None, number: int, records: list[Any]) -> None:
    if said is None:
        raise Wrong(f"{what}: no number yet. The first record is {where(records[0])}")
    if said != number:
        same = [record for record in records if record.value == records[-1].value]
        offsets = " and ".join(str(record.offset) for record in same)
        shown = f"Offsets {offsets} have the same record:" if same[1:] else "The last record is"
        raise Wrong(f"{what}: you said {said}, it is {number}. {shown} {where(same[-1])}")


def snapshot_of(record: Any) -> str:
    return clock(json.loads(record.value)["last_updated"])


@cache  # the tests of the exercises ask for two answers
def run(lab: Lab) -> list[Any]:
    """Process 08:45; kill the job in the batch of 08:50; publish 08:55; restart the job. Returns
    the records of the totals topic.
    """
    stations, totals = lab.topic(), lab.topic("totals")
    checkpoint = lab.folder / f"checkpoint-{totals}"
    arguments = (lab.kafka, stations, totals, str(checkpoint))
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments, str(config.load().cache_dir)],
        cwd=lab.folder,  # for the log of its Java
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # so that Spark's Java process is killed, too
    )
    try:
        with KafkaConsumer(
            totals, bootstrap_servers=lab.kafka, auto_offset_reset="earliest"
        ) as consumer:
            lab.publish(stations, snapshot(0, *CODES))
            receive(consumer, len(CODES), process)
            wait_until((checkpoint / "commits" / "0").exists, process)
            lab.publish(stations, snapshot(1, *CODES))
            receive(consumer, len(CODES), process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lab.publish(stations, snapshot(2, *CODES))
    # The process may have written its commit in the moment between the totals and the signal.
    for name in ("1", ".1.crc"):
        (checkpoint / "commits" / name).unlink(missing_ok=True)
    query = load(SCRIPT).start(lab.spark, *arguments)
    try:
        query.processAllAvailable()
    finally:
        query.stop()
    return lab.records(totals)


def receive(consumer: KafkaConsumer, number: int, process: Process) -> None:
    """Wait until a consumer has received this many more records."""
    received: list[Any] = []

    def poll() -> bool:
        for records in consumer.poll(timeout_ms=50).values():
            received.extend(records)
        return len(received) >= number

    wait_until(poll, process)


def wait_until(condition: Callable[[], bool], process: Process) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the job that was to be killed did not process the snapshots")
        time.sleep(0.001)
