"""The totals as they must be: plain sums in Python over a feed's answer, computed apart from the pipeline."""

import csv
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"
EXCEPTIONS = {row["station_code"]: row["postal_code"] for row in csv.DictReader((DATA / "postal_code_exceptions.csv").open())}

Total = dict[str, Any]


def postal_code(station_code: str) -> str | None:
    """The rule as it is written down, on the letters of the code."""
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
    """The record of each postal code of an answer of `station_status.json`; selected: station codes, None for all."""
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


def station(code: str = "16107", bikes: int = 3, ebikes: int = 1, docks: int = 10, **other: Any) -> dict[str, Any]:
    """A station of the feed, open unless told otherwise; `bikes` are the mechanical ones."""
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
