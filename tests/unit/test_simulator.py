"""The simulated feed has the API's shape and quirks, and the same data for the same seed."""

import itertools
import math
from collections import Counter

import pytest

from local.simulator import commute, make_network, station_information, station_status
from tests.expected import postal_code
from velib.totals.areas import outlines

NOW = 1_795_514_400


def test_same_seed_same_data_and_another_seed_other_data() -> None:
    network = make_network(300, seed=7)
    assert station_status(network, NOW, 7) == station_status(make_network(300, seed=7), NOW, 7)
    assert station_status(network, NOW, 7) != station_status(make_network(300, seed=8), NOW, 8)
    assert station_status(network, NOW, 7) != station_status(network, NOW + 60, 7)


@pytest.mark.parametrize("count", [1, 2, 40, 1500, 10_000, 60_000])
def test_there_are_as_many_stations_as_asked_each_with_its_own_code_and_a_postal_code(
    count: int,
) -> None:
    codes = [station.code for station in make_network(count, seed=1)]
    assert len(set(codes)) == len(codes) == count
    assert all(postal_code(code) for code in codes)
    assert {"16107", "32017"} & set(codes) == set(["16107", "32017"][:count])


def test_the_network_is_spread_over_the_postal_codes_as_the_real_one() -> None:
    spread = Counter(postal_code(station.code) for station in make_network(1500, seed=1))
    assert len(spread) == 89
    assert spread["75015"] > 60 > spread["75001"] > 15


def test_it_has_the_quirks_of_the_feed() -> None:
    network = make_network(1500, seed=1)
    stations = station_status(network, NOW, 1)["data"]["stations"]
    assert any(station["stationCode"] == "11031_relais" for station in stations)
    assert any(station["station_id"] > 2**31 for station in stations)
    assert any(station["is_installed"] == 0 for station in stations)
    assert any(
        station["is_renting"] == 0 and station["num_bikes_available"] > 0 for station in stations
    )
    assert any(
        station["num_bikes_available"] + station["num_docks_available"] == 0 for station in stations
    )
    assert any(station.get("station_opening_hours", 0) is None for station in stations)
    for station in stations:
        mechanical, ebike = station["num_bikes_available_types"]
        assert mechanical["mechanical"] + ebike["ebike"] == station["num_bikes_available"] >= 0


def test_the_information_names_the_same_stations() -> None:
    network = make_network(100, seed=1)
    information = station_information(network, NOW)
    status = station_status(network, NOW, 1)
    assert information["lastUpdatedOther"] == status["lastUpdatedOther"] == NOW
    for about, now in zip(information["data"]["stations"], status["data"]["stations"], strict=True):
        assert (about["station_id"], about["stationCode"]) == (
            now["station_id"],
            now["stationCode"],
        )
        assert about["capacity"] == now["num_bikes_available"] + now["num_docks_available"]


def _turns(point: tuple[float, float], ring: list[tuple[float, float]]) -> float:
    """How often a ring goes around a point: the sum of the angles under which its sides are seen
    from there, in turns.
    """
    angles = [math.atan2(lat - point[1], lon - point[0]) for lon, lat in ring]
    steps = (later - earlier for earlier, later in itertools.pairwise(angles))
    return sum((step + math.pi) % math.tau - math.pi for step in steps) / math.tau


def test_every_station_is_inside_the_outline_of_its_postal_code() -> None:
    polygons = {area["id"]: area["geometry"]["coordinates"] for area in outlines()["features"]}
    stations = station_information(make_network(1500, seed=1), NOW)["data"]["stations"]
    positions = set()
    for one in stations:
        area = polygons[postal_code(one["stationCode"])]
        position = (one["lon"], one["lat"])
        turns = [round(_turns(position, ring), 6) for rings in area for ring in rings]
        assert sum(map(abs, turns)) == 1, one
        positions.add(position)
    assert len(positions) == len(stations)


def test_commuters_take_bikes_to_the_offices_in_the_morning() -> None:
    midnight_in_paris = 1_795_474_800
    night, noon = midnight_in_paris + 3 * 3600, midnight_in_paris + 12 * 3600
    assert commute(noon, is_office=True) > commute(night, is_office=True) + 0.2
    assert commute(noon, is_office=False) < commute(night, is_office=False) - 0.1
