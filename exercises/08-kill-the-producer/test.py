"""Kills a producer in the middle of a snapshot, and looks at what a reader sees of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from exercises.lab import FOLDER, Lab, Wrong, clock, load, where

SCRIPT = Path(__file__).with_name("killed.py")


def test(lab: Lab, answer: ModuleType) -> None:
    killed = load(SCRIPT)
    topic, name = lab.topic(), uuid4().hex
    kill(str(answer.__file__), lab.kafka, topic, name)
    producer = answer.connect(lab.kafka, name)
    answer.publish(producer, topic, killed.records(1))
    producer.close()

    visible = lab.records(topic)
    times = [json.loads(record.value)["last_updated"] for record in visible]
    first, second = (json.loads(killed.records(n)[0][1])["last_updated"] for n in (0, 1))
    whole = len(killed.records(0))
    if times.count(first) not in (0, whole):
        last = [record for record in visible if json.loads(record.value)["last_updated"] == first]
        raise Wrong(
            f"A reader sees {times.count(first):,} of the {whole:,} stations of {clock(first)},"
            f" and cannot know that the others are missing. The last one is {where(last[-1])}"
        )
    if times.count(second) != whole:
        offsets = {record.offset for record in visible}
        hidden = [r for r in lab.records(topic, committed=False) if r.offset not in offsets]
        raise Wrong(
            f"After the restart a reader sees {times.count(second):,} of the {whole:,} stations of"
            f" {clock(second)}. {example(hidden, visible)}"
        )


def kill(file: str, kafka: str, topic: str, name: str) -> None:
    """Run the answer in a process that is killed after LAST records."""
    process = subprocess.run(
        [sys.executable, str(SCRIPT), file, kafka, topic, name],
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
    )
    if process.returncode != -signal.SIGKILL:
        error = process.stderr.strip().splitlines() or ["it ended before it had sent 700 records"]
        raise Wrong(f"The producer that was to be killed: {error[-1]}")


def example(hidden: list, visible: list) -> str:
    if hidden:
        return f"The first record without a commit is {where(hidden[0])}"
    return f"The last record is {where(visible[-1])}" if visible else "The topic is empty"
