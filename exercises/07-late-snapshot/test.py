"""Sends snapshots, some of them late, and compares which of them Spark counts."""

import json
from datetime import datetime
from functools import cache
from types import ModuleType

from docs import pocket
from exercises.lab import Lab, Wrong, clock, record_of, snapshot, where

CODE = "16107"
ARRIVALS = [snapshot(number, CODE) for number in (0, 6, 1, 4, 5, 3, 12, 7, 10, 11, 8)]
DELAY = 600


def test(lab: Lab, answer: ModuleType) -> None:
    stations, totals, watermarks = run(lab)
    published, written = lab.records(stations), lab.records(totals)
    times = [each["lastUpdatedOther"] for each in ARRIVALS]
    by_spark = [json.loads(record.value)["last_updated"] for record in written]
    by_answer = list(answer.counted(list(times), DELAY))
    for batch, time in enumerate(times):
        about = f"{clock(time)}, in batch {batch} with the watermark {watermarks[batch]}"
        if time in by_spark and time not in by_answer:
            total = written[by_spark.index(time)]
            raise Wrong(f"Spark counted {about}, and you do not: {where(total)}")
        if time in by_answer and time not in by_spark:
            station = record_of(published, CODE, time)
            raise Wrong(f"Spark dropped {about}, and you count it: {where(station)}")
    if by_answer != by_spark:
        order = ", ".join(map(clock, by_spark))
        raise Wrong(f"You return the right snapshots, but not once each in this order: {order}")


@cache  # the tests of the exercises ask for two answers
def run(lab: Lab) -> tuple[str, str, list[str]]:
    """Publish each snapshot and process it in a batch; returns the topics of the stations and of
    the totals, and each batch's watermark.
    """
    stations, totals = lab.topic(), lab.topic("totals")
    lab.spark.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", False)  # as in spark.py
    sums = pocket.sum_by_postal_code(pocket.parse(lab.read(stations)))
    query = pocket.write(pocket.to_records(sums), str(lab.folder / totals), lab.kafka, totals)
    try:
        for each in ARRIVALS:
            lab.publish(stations, each)
            query.processAllAvailable()
        # Spark also reports that it waits for records: such a report has no input rows.
        batches = [batch for batch in query.recentProgress if batch.numInputRows]
    finally:
        query.stop()
    assert len(batches) == len(ARRIVALS)
    return stations, totals, [watermark(batch.eventTime["watermark"]) for batch in batches]


def watermark(text: str) -> str:
    time = int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
    return clock(time) if time else "none yet"
