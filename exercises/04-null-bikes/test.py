"""Publishes stations with good and bad numbers of bikes, and looks which ones have a reason."""

import json
from types import ModuleType
from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from docs import pocket
from exercises.lab import Lab, Wrong, snapshot, where

GOOD = ("16107", "16108")
BAD: dict[str, Any] = {"16109": -1, "16110": None, "16111": "many"}


def test(lab: Lab, answer: ModuleType) -> None:
    topic = lab.topic()
    status = snapshot(0, *GOOD, *BAD)
    for station in status["data"]["stations"]:
        code = station["stationCode"]
        station["num_bikes_available"] = BAD.get(code, station["num_bikes_available"])
    lab.publish(topic, status)
    records = lab.read(topic)
    station = F.from_json(records["value"].cast("string"), pocket.STATION)
    is_bad = answer.reason(station["num_bikes_available"]).isNotNull()
    dead = {record.value for record in lab.write(records.where(is_bad).select("key", "value"))}
    for record in lab.records(topic):
        is_good = record.key.decode() in GOOD
        if is_good and record.value in dead:
            raise Wrong(f"This station can be counted, and you have a reason: {where(record)}")
        if not is_good and record.value not in dead:
            bikes = json.dumps(BAD[record.key.decode()])
            raise Wrong(f"{bikes} is not a number of bikes, and you count it: {where(record)}")
