"""Compares the stations that `keep_stations` keeps with those that have an electric bike."""

import json
from types import ModuleType

import spark as job
from exercises.lab import Lab, Wrong, clock, snapshot, where


def test(lab: Lab, answer: ModuleType) -> None:
    topic = lab.topic()
    lab.publish(topic, snapshot(0), snapshot(1))
    kept = answer.keep_stations(job.parse(lab.read(topic)))
    kept_values = {record.value for record in lab.write(kept.select("key", "value"))}
    for record in lab.records(topic):
        station = json.loads(record.value)
        ebikes = sum(kind.get("ebike", 0) for kind in station["num_bikes_available_types"])
        is_open = station["is_installed"] == 1 and station["is_renting"] == 1
        is_kept = record.value in kept_values
        if is_kept != (is_open and ebikes > 0):
            state = f"is {'open' if is_open else 'closed'} and has {ebikes} electric bikes"
            raise Wrong(
                f"At {clock(station['last_updated'])} station {station['stationCode']} {state}, and"
                f" you {'keep it' if is_kept else 'leave it out'}: {where(record)}"
            )
