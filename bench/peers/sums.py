"""What the peers that sum in Python share: the meaning of a record, and exact sums.

It follows velib/job/columns.py, which says the same to Spark.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from velib.totals.areas import postal_code_exceptions
from velib.totals.records import COUNTS

EXCEPTIONS = postal_code_exceptions()
KEPT = 10  # snapshots whose stations are known, as many as the job's watermark of ten minutes has

Counts = tuple[int, ...]
"""The numbers of COUNTS."""

CLOSED: Counts = (0,) * len(COUNTS)


@cache
def postal_code(station_code: str) -> str:
    """The postal code that a station code carries; raises ValueError if it carries none."""
    if station_code in EXCEPTIONS:
        return EXCEPTIONS[station_code]
    number = int(station_code.partition("_")[0])
    if 1_000 <= number <= 20_999:
        return str(75_000 + number // 1_000)
    if 21_000 <= number <= 59_999:
        return str(90_000 + number // 100 * 10)
    if 92_000 <= number <= 92_999:
        return "92000"
    raise ValueError(f"{station_code} has no postal code")


def counts(station: dict[str, Any]) -> Counts:
    """What a station adds to its postal code: zeros if it is closed."""
    if station["is_installed"] != 1 or station["is_renting"] != 1:
        return CLOSED
    mechanical = ebike = 0
    for kind in station["num_bikes_available_types"]:
        mechanical += kind.get("mechanical", 0)
        ebike += kind.get("ebike", 0)
    bikes, docks = station["num_bikes_available"], station["num_docks_available"]
    return (1, bikes, mechanical, ebike, docks)


def total(postal_code: str, last_updated: int, sums: Counts) -> dict[str, Any]:
    """The value of a record of the final topic."""
    return {
        "postal_code": postal_code,
        "last_updated": last_updated,
        **dict(zip(COUNTS, sums, strict=True)),
    }


class Sums:
    """The sums by snapshot and postal code, each station once, in the memory of this process."""

    def __init__(self) -> None:
        self.stations: dict[int, set[str]] = {}  # what has been counted, by snapshot
        self.sums: dict[int, dict[str, Counts]] = {}
        self.changed: set[int] = set()

    def add(self, station: dict[str, Any]) -> None:
        """Count a station, unless its snapshot has it already."""
        last_updated, code = station["last_updated"], station["stationCode"]
        counted = self.stations.setdefault(last_updated, set())
        if code in counted:
            return
        counted.add(code)
        self.changed.add(last_updated)
        sums = self.sums.setdefault(last_updated, {})
        area = postal_code(code)
        old, (a, b, c, d, e) = sums.get(area, CLOSED), counts(station)
        sums[area] = (old[0] + a, old[1] + b, old[2] + c, old[3] + d, old[4] + e)

    def changes(self) -> Iterator[dict[str, Any]]:
        """The totals of the snapshots that have changed since the last call."""
        for last_updated in self.changed:
            for area, sums in self.sums[last_updated].items():
                yield total(area, last_updated, sums)
        self.changed.clear()
        for old in sorted(self.sums)[:-KEPT]:
            del self.sums[old], self.stations[old]
