"""What is published of a station's entry in the feed, and what is left out, without Kafka."""

import json
from typing import Any

import pytest

from velib.producer.positions import MAX_NAME, to_record

ENTRY = {
    "stationCode": "16107",
    "name": "Benjamin Godard",
    "lat": 48.86,
    "lon": 2.27,
    "capacity": 9,
}


def test_an_entry_is_keyed_by_its_code_and_has_what_a_map_needs() -> None:
    given = {"station_id": 213688169} | ENTRY | {"rental_methods": ["CREDITCARD"]}
    expected = (
        b'{"stationCode":"16107","name":"Benjamin Godard","lat":48.86,"lon":2.27,"capacity":9}'
    )
    assert to_record(given) == (b"16107", expected)


@pytest.mark.parametrize(
    ("field", "value", "published"),
    [
        ("stationCode", 16107, "16107"),
        ("stationCode", "11031_relais", "11031_relais"),
        ("name", "Île <script>\u0007", "Île <script>\u0007"),
        ("name", None, ""),
        ("name", 5, ""),
        ("name", "x" * 10_000_000, "x" * MAX_NAME),
        ("lat", 48, 48),
        ("lat", -90, -90),
        ("lon", 180.0, 180.0),
        ("capacity", 0, 0),
        ("capacity", None, None),
        ("capacity", -1, None),
        ("capacity", 2.5, None),
        ("capacity", True, None),
        ("capacity", 10**400, None),
        ("capacity", {"docks": 35}, None),
    ],
)
def test_odd_entries_are_published_in_the_form_of_the_others(
    field: str, value: Any, published: Any
) -> None:
    record = to_record(ENTRY | {field: value})
    assert record is not None
    key, text = record
    assert json.loads(text) == ENTRY | {field: published}
    assert key.decode() == json.loads(text)["stationCode"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stationCode", None),
        ("stationCode", ""),
        ("stationCode", True),
        ("stationCode", 16107.0),
        ("stationCode", ["16107"]),
        ("stationCode", "1" * 1000),
        *[
            (field, value)
            for field in ("lat", "lon")
            for value in (None, "48.86", True, [48], float("nan"), float("inf"), 10**400, -180.1)
        ],
        ("lat", 90.1),
    ],
)
def test_an_entry_without_code_or_position_is_left_out(field: str, value: Any) -> None:
    assert to_record(ENTRY | {field: value}) is None


@pytest.mark.parametrize("entry", [None, 3, [], "16107", {}])
def test_a_value_that_is_not_an_entry_is_left_out(entry: Any) -> None:
    assert to_record(entry) is None


def test_a_code_that_cannot_be_encoded_is_published_anyway() -> None:
    record = to_record(ENTRY | {"stationCode": "\ud800"})
    assert record is not None
    assert record[0] == b"?"
