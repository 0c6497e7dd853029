"""Publishes two snapshots, and a station of the first one again, and compares the sums."""

import json
from types import ModuleType

from pyspark.sql import functions as F  # noqa: N812

from docs import pocket
from exercises.lab import Lab, Wrong, clock, snapshot
from tests import expected

REPEATED = "16107"


def test(lab: Lab, answer: ModuleType) -> None:
    topic = lab.topic()
    first, second = snapshot(0), snapshot(1)
    lab.publish(topic, first, snapshot(0, REPEATED), second)
    sums = answer.sum_by_postal_code(pocket.parse(lab.read(topic)))
    columns = F.struct("postal_code", F.unix_seconds("snapshot").alias("last_updated"), "bikes")
    written = map(_value, lab.write(sums.select(F.to_json(columns).alias("value"))))
    found = {(total["postal_code"], total["last_updated"]): total["bikes"] for total in written}
    offsets = [record.offset for record in lab.records(topic) if record.key == REPEATED.encode()]
    repeated = (expected.postal_code(REPEATED), first["lastUpdatedOther"])
    totals = expected.totals(first) | expected.totals(second)
    for key, total in sorted(totals.items(), key=lambda item: item[0] != repeated):
        right = total["num_bikes_available"]
        if found.get(key) == right:
            continue
        why = "one of its stations is missing, or counts for something else"
        if key == repeated:
            numbers = " and ".join(map(str, offsets[:2]))
            why = f"station {REPEATED} is in {topic} twice, at the offsets {numbers}"
        code, last_updated = key
        raise Wrong(
            f"{code} had {right} bikes at {clock(last_updated)}, and you count {found.get(key)}:"
            f" {why}"
        )


def _value(record):
    return json.loads(record.value)
