"""Sums the answer's counts over a snapshot, and compares each total with a plain sum."""

import json
from collections import Counter
from types import ModuleType
from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from docs import pocket
from exercises.lab import Lab, Wrong, clock, record_of, snapshot, where
from tests import expected


def test(lab: Lab, answer: ModuleType) -> None:
    topic = lab.topic()
    status = snapshot(0)
    lab.publish(topic, status)
    station = F.from_json(F.col("value").cast("string"), pocket.STATION)
    is_open = (F.col("station.is_installed") == 1) & (F.col("station.is_renting") == 1)
    stations = lab.read(topic).select(station.alias("station")).where(is_open)
    counts = answer.counts(F.col("station"))
    totals = stations.groupBy(
        F.timestamp_seconds("station.last_updated").alias("snapshot"),
        pocket.postal_code(F.col("station.stationCode")).alias("postal_code"),
    ).agg(*[F.sum(count).alias(name) for name, count in counts.items()])
    value = F.to_json(F.struct("postal_code", *counts))
    written = [
        json.loads(record.value) for record in lab.write(totals.select(value.alias("value")))
    ]
    found = {total.pop("postal_code"): total for total in written}

    examples: dict[str, dict[str, Any]] = {}
    right: dict[str, Counter[str]] = {}
    for one in status["data"]["stations"]:
        if one["is_installed"] != 1 or one["is_renting"] != 1:
            continue
        place = expected.postal_code(one["stationCode"]) or ""
        total = right.setdefault(place, Counter())
        for name in ("num_bikes_available", "num_docks_available"):
            total[name] += one[name]
        total["empty_stations"] += one["num_bikes_available"] == 0
        if one["num_bikes_available"] == 0:
            examples[place] = one
    for place in sorted(examples):
        if found[place] != right[place]:
            record = record_of(
                lab.records(topic), examples[place]["stationCode"], status["lastUpdatedOther"]
            )
            raise Wrong(
                f"The total of {place} at {clock(status['lastUpdatedOther'])} is"
                f" {json.dumps(found[place])}, it should be {json.dumps(right[place])}. One of its"
                f" empty stations: {where(record)}"
            )
    for place, total in right.items():
        if found[place] != total:
            raise Wrong(
                f"The total of {place}, which has no empty station, is {json.dumps(found[place])},"
                f" it should be {json.dumps(total)}"
            )
