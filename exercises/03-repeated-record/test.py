"""Publishes a snapshot, and one of its stations again, and compares the sums."""

import json
from types import ModuleType

from pyspark.sql import functions as F  # noqa: N812

from docs import pocket
from exercises.lab import Lab, Wrong, clock, snapshot
from tests import expected

REPEATED = "16107"


def test(lab: Lab, answer: ModuleType) -> None:
    topic = lab.topic()
    whole = snapshot(0)
    lab.publish(topic, whole, snapshot(0, REPEATED))
    sums = answer.sum_by_postal_code(pocket.parse(lab.read(topic)))
    written = lab.write(sums.select(F.to_json(F.struct("postal_code", "bikes")).alias("value")))
    found = {total["postal_code"]: total["bikes"] for total in map(_value, written)}
    offsets = [record.offset for record in lab.records(topic) if record.key == REPEATED.encode()]
    place = expected.postal_code(REPEATED)
    totals = expected.totals(whole)
    for (code, last_updated), total in sorted(totals.items(), key=lambda item: item[0][0] != place):
        right = total["num_bikes_available"]
        if found.get(code) == right:
            continue
        why = "one of its stations is missing, or counts for something else"
        if code == place:
            numbers = " and ".join(map(str, offsets))
            why = f"station {REPEATED} is in {topic} twice, at the offsets {numbers}"
        raise Wrong(
            f"{code} had {right} bikes at {clock(last_updated)}, and you count {found.get(code)}:"
            f" {why}"
        )


def _value(record):
    return json.loads(record.value)
