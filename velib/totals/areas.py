"""The postal codes that Vélib' serves, from the files in `data/`."""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "data"


def areas() -> dict[str, dict[str, str]]:
    """The row of `postal_areas.csv` of each postal code.

    A row has a name, the stations' mean latitude and longitude (degrees), and how many stations and
    docks there are.
    """
    return _rows("postal_areas.csv", "postal_code")


def postal_code_exceptions() -> dict[str, str]:
    """The postal codes of the stations whose code implies another one, by station code."""
    rows = _rows("postal_code_exceptions.csv", "station_code")
    return {code: row["postal_code"] for code, row in rows.items()}


@cache
def outlines() -> dict[str, Any]:
    """The outlines of the postal codes, as a GeoJSON FeatureCollection (degrees, WGS 84).

    The `id` of a feature is its postal code; its geometry is a MultiPolygon.
    """
    text = (DATA / "postal_areas.geojson").read_text(encoding="utf-8")
    collection: dict[str, Any] = json.loads(text)
    return collection


def _rows(name: str, key: str) -> dict[str, dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


NAMES = {postal_code: area["name"] for postal_code, area in areas().items()}
"""The arrondissement or the town of each postal code."""
