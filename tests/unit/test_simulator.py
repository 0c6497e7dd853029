"""The simulated feed has the API's shape and quirks, and the numbers of the real day."""

import csv
import gzip
import re
import time
from functools import cache
from pathlib import Path

import pytest
import requests

from local.broker import free_port
from local.day import Day
from tests import PROJECT
from tests.expected import postal_code, simulated_totals
from tests.pipeline import Script, wait_until
from velib.totals.areas import areas

NOW = 1_795_514_400
MINUTE = 60
CHANGES = PROJECT / "data" / "day_changes.csv.gz"


@cache
def numbers_of_the_files() -> dict[str, dict[str, list[int]]]:
    """The numbers of each station by time, as the rows of the file build up."""
    numbers: dict[str, list[int]] = {}
    by_time: dict[str, dict[str, list[int]]] = {}
    with gzip.open(CHANGES, "rt") as file:
        next(file)
        for line in file:
            time, code, *values = line.strip().split(",")
            numbers[code] = list(map(int, values))
            by_time[time] = dict(numbers)
    return by_time


def test_each_snapshot_is_that_of_the_files_and_after_the_last_the_day_begins_again() -> None:
    day, by_time = Day(start=NOW), numbers_of_the_files()
    assert len(by_time) == 80
    for number, (clock, expected) in enumerate([*by_time.items(), *by_time.items()][:81]):
        last_updated = NOW + MINUTE * number
        answer = day.status(last_updated)
        assert answer["lastUpdatedOther"] == last_updated
        stations = answer["data"]["stations"]
        assert {station["recorded_at"] for station in stations} == {f"2024-11-07T{clock}:00+01:00"}
        assert day.describe(last_updated + MINUTE - 1) == f"Thursday 7 November 2024, {clock}"
        served = {}
        for station in stations:
            mechanical, ebike = station["num_bikes_available_types"]
            served[station["stationCode"]] = [
                mechanical["mechanical"],
                ebike["ebike"],
                station["num_docks_available"],
                station["is_installed"],
                station["is_renting"],
            ]
        assert served == expected


@pytest.mark.parametrize(
    ("clock", "bikes", "docks"),
    [
        ("08:45", 15_209, 28_816),
        ("10:50", 17_684, 26_457),
        ("15:10", 17_490, 26_762),
        ("18:55", 14_206, 29_545),
    ],
)
def test_the_totals_are_those_that_were_summed_by_hand(clock: str, bikes: int, docks: int) -> None:
    number = list(numbers_of_the_files()).index(clock)
    totals = simulated_totals(Day(), [MINUTE * number]).values()
    assert len(totals) == 87
    assert sum(total["num_bikes_available"] for total in totals) == bikes
    assert sum(total["num_docks_available"] for total in totals) == docks
    assert sum(total["stations"] for total in totals) == 1434


@pytest.mark.parametrize("count", [1, 2, 40, 1485, 1486, 60_000])
def test_there_are_as_many_stations_as_asked_each_with_its_own_code_and_a_postal_code(
    count: int,
) -> None:
    stations = Day(count).status(NOW)["data"]["stations"]
    codes = [station["stationCode"] for station in stations]
    assert len(set(codes)) == len({station["station_id"] for station in stations}) == count
    assert {postal_code(code) for code in codes} <= areas().keys()
    assert codes[:2] == ["16107", "32017"][:count]
    assert ("16107_2" in codes) == (count > 1485)


def test_it_has_the_quirks_of_the_feed() -> None:
    stations = Day().status(NOW)["data"]["stations"]
    assert any(station["station_id"] > 2**31 for station in stations)
    assert any(station["is_installed"] == 0 for station in stations)
    assert any(station["is_installed"] == 1 > station["is_renting"] for station in stations)
    assert any(station.get("station_opening_hours", 0) is None for station in stations)
    assert any("station_opening_hours" not in station for station in stations)
    for station in stations:
        assert station["numBikesAvailable"] == station["num_bikes_available"]
        assert station["numDocksAvailable"] == station["num_docks_available"]
        assert station["last_reported"] < NOW


def test_the_information_names_the_same_stations() -> None:
    information, status = Day(1500).information(NOW), Day(1500).status(NOW)
    assert information["lastUpdatedOther"] == status["lastUpdatedOther"] == NOW
    about = information["data"]["stations"]
    names = ("station_id", "stationCode")
    assert [[entry[name] for name in names] for entry in about] == [
        [station[name] for name in names] for station in status["data"]["stations"]
    ]
    with (PROJECT / "data" / "day_stations.csv").open() as file:
        rows = {row["station_code"]: row for row in csv.DictReader(file)}
    for entry in about:
        row = rows[entry["stationCode"].removesuffix("_2")]
        assert entry["name"] == row["name"]
        assert [entry[name] for name in ("lat", "lon", "capacity")] == [
            float(row[name]) for name in ("lat", "lon", "capacity")
        ]


def test_it_refuses_scripts_and_logs_the_time_of_each_snapshot_once(tmp_path: Path) -> None:
    port, start = free_port(), int(time.time()) - 75  # five snapshots before the day begins again
    options = ("--port", str(port), "--period", "1", "--start", str(start))
    server = Script("-m", "local.simulator", *options, folder=tmp_path, environment={})
    url = f"http://localhost:{port}/station_status.json"
    try:
        server.wait_for("VELIB_API_URL")
        assert requests.get(url, timeout=9).status_code == 403

        def has_begun_again() -> bool:
            answer = requests.get(url, headers={"User-Agent": "velib"}, timeout=9)
            assert len(answer.json()["data"]["stations"]) == 1485
            return "The day begins again" in server.log()

        wait_until(has_begun_again, "the day begins again")
    finally:
        server.kill()
    evening, morning = server.log().split("The day begins again")
    times = re.findall(r"Thursday 7 November 2024, (19:\d\d)\n", evening)
    assert times == sorted(set(times)) != []
    assert re.search(r"Thursday 7 November 2024, 0[89]:\d\d\n", morning)
