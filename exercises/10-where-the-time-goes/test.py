"""Runs the project's job on some snapshots, and compares what Spark reports about its batches."""

import io
import json
import re
from contextlib import redirect_stdout
from functools import cache
from types import ModuleType
from typing import Any
from uuid import uuid4

import spark as job
from config import Settings
from exercises.lab import Lab, Wrong, snapshot
from velib.job.checkpoint import Checkpoint

SNAPSHOTS = 4


def test(lab: Lab, answer: ModuleType) -> None:
    batches, plan = run(lab)
    check_phase(answer.LONGEST_PHASE, batches[1:])  # in the first one Java loads Spark's code
    last = batches[-1]
    name, source = f"batch {last['batchId']}", last["sources"][0]
    offsets = f"{json.dumps(source['startOffset'])} to {json.dumps(source['endOffset'])}"
    check("INPUT_ROWS", answer.INPUT_ROWS, last["numInputRows"], f"{name} read offsets {offsets}")
    scans = re.findall(r"MicroBatchScan\[[^,]+", plan)
    found = " and ".join(f"{scan}, …]" for scan in scans)
    check("SCANS", answer.SCANS, len(scans), f"the plan of {name} has {found}")


def check_phase(said: str | None, batches: list[dict[str, Any]]) -> None:
    took = {
        phase: sum(batch["durationMs"][phase] for batch in batches)
        for phase in batches[-1]["durationMs"]
    }
    all_phases = took.pop("triggerExecution")
    about = f"batches {batches[0]['batchId']} to {batches[-1]['batchId']} took {all_phases} ms"
    if said in took:
        about += f", and {said} took {took[said]} ms of them"
    check("LONGEST_PHASE", said, max(took, key=lambda phase: took[phase]), about)


def check(name: str, said: str | int | None, right: str | int, about: str) -> None:
    if said is None:
        raise Wrong(f"{name}: no answer yet; {about}")
    if said != right:
        raise Wrong(f"{name}: you said {said}, Spark {right}; {about}")


@cache  # the tests of the exercises ask for two answers
def run(lab: Lab) -> tuple[list[dict[str, Any]], str]:
    """Run the job with a batch for each snapshot; returns what Spark reports about the batches,
    and the plan of the last one.
    """
    settings = Settings(
        raw_topic=lab.topic(),
        final_topic=lab.topic("totals"),
        dead_letter_topic=lab.topic("dead-letters"),
        checkpoint_dir=str(lab.folder / f"checkpoint-{uuid4().hex}"),
        kafka={"bootstrap_servers": lab.kafka, "security_protocol": "PLAINTEXT"},
    )
    lab.publish(settings.raw_topic, snapshot(0))
    query = job.start(lab.spark, settings, Checkpoint(lab.spark, settings), False)
    try:
        query.processAllAvailable()
        for number in range(1, SNAPSHOTS):
            lab.publish(settings.raw_topic, snapshot(number))
            query.processAllAvailable()
        with redirect_stdout(io.StringIO()) as plan:
            query.explain()
        # Spark also reports that it waits for records: such a report has no input rows.
        reports = [report for report in query.recentProgress if report.numInputRows]
    finally:
        query.stop()
    assert len(reports) == SNAPSHOTS
    return [json.loads(report.json) for report in reports], plan.getvalue()
