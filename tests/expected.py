"""The totals as they must be: plain sums over the feed, computed independently of the pipeline."""

import csv
from collections.abc import Iterable
from typing import Any

from local.day import Day
from tests import PROJECT

EXCEPTIONS = {
    row["station_code"]: row["postal_code"]
    for row in csv.DictReader((PROJECT / "data" / "postal_code_exceptions.csv").open())
}

Total = dict[str, Any]

CSV_HEADER = (
    "postal_code,last_updated,stations,num_bikes_available,mechanical,ebike,num_docks_available"
)
"""The first line of `consumer.py --csv`."""


def postal_code(station_code: str) -> str | None:
    """The rule of the README, character by character; None if the code has no postal code."""
    if station_code in EXCEPTIONS:
        return EXCEPTIONS[station_code]
    digits = station_code.split("_")[0]
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5):
        return None
    a, b, c = list(digits.zfill(5)[:3])
    if "01" <= a + b <= "20":
        return "750" + a + b
    if a in "2345":
        return "9" + a + b + c + "0"
    return "92000" if a + b == "92" else None


def totals(feed: dict[str, Any], selected: set[str] | None = None) -> dict[tuple[str, int], Total]:
    """The total of each postal code and snapshot for an answer of `station_status.json`.

    `selected` are the codes of the stations to count, None for all of them.
    """
    sums: dict[tuple[str, int], Total] = {}
    for station in feed["data"]["stations"]:
        if selected is not None and station["stationCode"] not in selected:
            continue
        code = postal_code(station["stationCode"])
        assert code is not None
        total = sums.setdefault(
            (code, feed["lastUpdatedOther"]),
            {
                "postal_code": code,
                "last_updated": feed["lastUpdatedOther"],
                "stations": 0,
                "num_bikes_available": 0,
                "mechanical": 0,
                "ebike": 0,
                "num_docks_available": 0,
            },
        )
        if station["is_installed"] == 1 and station["is_renting"] == 1:
            total["stations"] += 1
            total["num_bikes_available"] += station["num_bikes_available"]
            total["num_docks_available"] += station["num_docks_available"]
            for kind in station["num_bikes_available_types"]:
                for name, count in kind.items():
                    total[name] += count
    return sums


def simulated_totals(day: Day, snapshots: Iterable[int]) -> dict[tuple[str, int], Total]:
    """The totals of the simulator's answers at these times (epoch seconds)."""
    sums: dict[tuple[str, int], Total] = {}
    for snapshot in snapshots:
        sums |= totals(day.status(snapshot))
    return sums


def total(
    postal_code: str, last_updated: int, bikes: int = 5, ebikes: int = 0, docks: int = 9
) -> Total:
    """A total of the final topic; `bikes` are all of them, `ebikes` the electric ones."""
    return {
        "postal_code": postal_code,
        "last_updated": last_updated,
        "stations": 1,
        "num_bikes_available": bikes,
        "mechanical": bikes - ebikes,
        "ebike": ebikes,
        "num_docks_available": docks,
    }


def station(
    code: str = "16107", bikes: int = 3, ebikes: int = 1, docks: int = 10, **other: Any
) -> dict[str, Any]:
    """A station of the feed; `bikes` are the mechanical ones, `other` replaces or adds fields."""
    return {
        "station_id": 213688169,
        "num_bikes_available": bikes + ebikes,
        "numBikesAvailable": bikes + ebikes,
        "num_bikes_available_types": [{"mechanical": bikes}, {"ebike": ebikes}],
        "num_docks_available": docks,
        "numDocksAvailable": docks,
        "is_installed": 1,
        "is_returning": 1,
        "is_renting": 1,
        "last_reported": 1732001704,
        "stationCode": code,
    } | other


def feed(last_updated: int, *stations: dict[str, Any]) -> dict[str, Any]:
    """An answer of `station_status.json`."""
    return {"lastUpdatedOther": last_updated, "ttl": 3600, "data": {"stations": list(stations)}}
