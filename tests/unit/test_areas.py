"""The tables of postal codes."""

from velib import areas


def test_every_postal_code_of_the_network_has_a_name_and_a_place_around_paris() -> None:
    rows = areas.areas()
    assert len(rows) == 89
    assert rows["93450"]["name"] == "L’Île-Saint-Denis"
    for row in rows.values():
        assert row["name"]
        assert 48.7 < float(row["latitude"]) < 49.1
        assert 2.1 < float(row["longitude"]) < 2.6
        assert int(row["stations"]) > 0


def test_each_exception_is_a_station_whose_postal_code_is_in_the_network() -> None:
    exceptions = areas.postal_code_exceptions()
    assert len(exceptions) == 42
    assert all(code.isdecimal() for code in exceptions)
    assert set(exceptions.values()) <= areas.areas().keys()
