"""A real day of Vélib', as its API served it: the files `day_*.csv*` of `data/`."""

import csv
import gzip
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from itertools import cycle, groupby
from typing import Any, NamedTuple

from velib.totals.areas import DATA

DATE, OFFSET = "2024-11-07", "+01:00"  # of Paris in winter
STATIONS, MAX_STATIONS = 1485, 1_000_000
FIRST_CODES = ("16107", "32017")
"""The stations that the scripts count by default, part of every simulated feed, however small."""


class Snapshot(NamedTuple):
    moment: datetime
    states: dict[str, dict[str, Any]]
    """The fields of `station_status.json` that change, by station code."""


@cache
def snapshots() -> list[Snapshot]:
    """The snapshots of the day. FIRST_CODES come first, then the other stations in the order of the
    feed, so that the first ones are spread over the city, however few.
    """
    states: dict[str, dict[str, Any]] = {code: {} for code in FIRST_CODES}
    found = []
    with gzip.open(DATA / "day_changes.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for time, rows in groupby(csv.DictReader(file), lambda row: row["time"]):
            states = states | {row["station_code"]: _state(row) for row in rows}
            found.append(Snapshot(datetime.fromisoformat(f"{DATE}T{time}:00{OFFSET}"), states))
    return found


def _state(row: dict[str, str]) -> dict[str, Any]:
    mechanical, ebikes = int(row["mechanical"]), int(row["ebike"])
    docks, is_renting = int(row["num_docks_available"]), int(row["is_renting"])
    return {
        "num_bikes_available": mechanical + ebikes,
        "numBikesAvailable": mechanical + ebikes,
        "num_bikes_available_types": [{"mechanical": mechanical}, {"ebike": ebikes}],
        "num_docks_available": docks,
        "numDocksAvailable": docks,
        "is_installed": int(row["is_installed"]),
        "is_returning": is_renting,
        "is_renting": is_renting,
    }


@dataclass(frozen=True)
class Day:
    """The day at another pace: from `start` (epoch seconds) a snapshot every `period` seconds, and
    after the last one the first again.

    Beyond STATIONS the same stations follow again under other codes, such as 16107_2. Raises
    ValueError unless there are from 1 to MAX_STATIONS.
    """

    stations: int = STATIONS
    period: int = 60
    start: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.stations <= MAX_STATIONS:
            raise ValueError(f"{self.stations} is not between 1 and {MAX_STATIONS}")

    def snapshot(self, last_updated: int) -> Snapshot:
        """The snapshot that is served at a time (epoch seconds)."""
        return snapshots()[(last_updated - self.start) // self.period % len(snapshots())]

    def describe(self, last_updated: int) -> str:
        """The time of this snapshot in the day: `Thursday 7 November 2024, 09:10`."""
        return f"{self.snapshot(last_updated).moment:%A %-d %B %Y, %H:%M}"

    def status(self, last_updated: int) -> dict[str, Any]:
        """The answer of `station_status.json` at a time (epoch seconds).

        Each station has one more field, `recorded_at`: when its state was recorded.
        """
        moment, states = self.snapshot(last_updated)
        recorded_at = moment.isoformat()
        stations = []
        for about, state in zip(self._information, cycle(states.values()), strict=False):
            station = {
                "station_id": about["station_id"],
                **state,
                "last_reported": last_updated - 5 - about["station_id"] % 3000,
                "stationCode": about["stationCode"],
                "recorded_at": recorded_at,
            }
            if about["station_id"] % 2:
                station["station_opening_hours"] = None
            stations.append(station)
        return _answer(last_updated, stations)

    def information(self, last_updated: int) -> dict[str, Any]:
        """The answer of `station_information.json` at a time (epoch seconds)."""
        return _answer(last_updated, self._information)

    @cached_property
    def _information(self) -> list[dict[str, Any]]:
        with (DATA / "day_stations.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["station_code"]: row for row in csv.DictReader(file)}
        return [
            {
                # The feed has small ids, and some that need more than 32 bits.
                "station_id": number + (10**10 if number % 5 == 0 else 10_000),
                "stationCode": code if number < STATIONS else f"{code}_{number // STATIONS + 1}",
                "name": rows[code]["name"],
                "lat": float(rows[code]["lat"]),
                "lon": float(rows[code]["lon"]),
                "capacity": int(rows[code]["capacity"]),
            }
            for number, code in zip(
                range(self.stations), cycle(snapshots()[0].states), strict=False
            )
        ]


def _answer(last_updated: int, stations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"lastUpdatedOther": last_updated, "ttl": 3600, "data": {"stations": stations}}
