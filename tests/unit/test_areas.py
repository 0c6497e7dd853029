"""The tables and the outlines of the postal codes."""

from velib.totals import areas


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


def test_every_postal_code_has_an_outline_of_closed_rings_around_paris() -> None:
    features = areas.outlines()["features"]
    names = {postal_code: row["name"] for postal_code, row in areas.areas().items()}
    assert {feature["id"]: feature["properties"]["name"] for feature in features} == names
    for feature in features:
        assert feature["geometry"]["type"] == "MultiPolygon"
        assert feature["properties"]["postal_code"] == feature["id"]
        for ring in (ring for rings in feature["geometry"]["coordinates"] for ring in rings):
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
            assert all(2.1 < lon < 2.6 and 48.7 < lat < 49.1 for lon, lat in ring)
