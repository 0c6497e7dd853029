"""The Vélib' API on this machine, for trying the pipeline out without the network.

    python -m local.simulator [--port 8000] [--stations 1500] [--period 60] [--seed 1]

Serves `station_status.json` and `station_information.json` in the API's shape, with its quirks.
The data depend on the seed, the number of stations and the snapshot's time alone.
"""

import argparse
import gzip
import itertools
import json
import math
import random
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from velib import runtime
from velib.errors import Failure
from velib.runtime import log
from velib.totals.areas import areas, outlines, postal_code_exceptions

DEFAULT_STATIONS = {"16107": "75016", "32017": "93200"}
"""The stations that the scripts count by default, and their postal codes: always there."""

REFUSED_AGENTS = (
    "python-requests",
    "python-urllib",
    "curl",
    "wget",
    "java",
    "go-http-client",
    "okhttp",
)
"""How the User-Agents begin that the API refuses."""

Point = tuple[float, float]
"""Longitude and latitude (degrees), as GeoJSON has them."""

Polygon = list[list[Point]]
"""The outline of a polygon, then the outlines of its holes; the last point of each is its first."""

MAX_STATIONS = 1_000_000

HASH_FACTOR = 2654435761  # spreads seeds that lie close together (Knuth)


@dataclass(frozen=True)
class Station:
    """What does not change of a station: its information, and how full it is over a day."""

    code: str
    station_id: int
    name: str
    latitude: float
    longitude: float
    capacity: int
    is_installed: int
    is_renting: int
    is_office: bool
    """Whether commuters go there in the morning, or leave from there."""
    mean_fill: float
    """The mean share of its docks that hold a bike."""
    ebike_share: float
    """The share of its bikes that are electric."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator", description="The Vélib' API on this machine."
    )
    parser.add_argument(
        "--port", type=runtime.port, default=8000, help="port on localhost (default: %(default)s)"
    )
    parser.add_argument(
        "--stations", type=int, default=1500, metavar="N", help="number (default: %(default)s)"
    )
    parser.add_argument(
        "--period",
        type=int,
        default=60,
        metavar="SECONDS",
        help="between snapshots (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="same seed, same data (default: %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.period < 1:
        parser.error("argument --period: 1 second is the shortest")
    try:
        network = make_network(arguments.stations, arguments.seed)
    except ValueError as error:
        parser.error(f"argument --stations: {error}")
    serve(network, arguments.port, arguments.period, arguments.seed)


def make_network(count: int, seed: int) -> list[Station]:
    """A network of `count` stations, spread over the postal codes like the real ones.

    Raises ValueError unless `count` is from 1 to MAX_STATIONS.
    """
    if not 1 <= count <= MAX_STATIONS:
        raise ValueError(f"{count} is not from 1 to {MAX_STATIONS}")
    rows = areas()
    polygons = {area["id"]: area["geometry"]["coordinates"] for area in outlines()["features"]}
    codes = _codes(count, {code: int(row["stations"]) for code, row in rows.items()})
    chance = random.Random(seed)
    return [
        _station(number, code, rows[postal_code]["name"], polygons[postal_code], chance)
        for number, (code, postal_code) in enumerate(codes)
    ]


def _codes(count: int, weights: dict[str, int]) -> list[tuple[str, str]]:
    """Station codes with their postal codes: the default stations, then those of each postal code
    in turn, in proportion to its weight.
    """
    exceptions = postal_code_exceptions()
    free = {postal_code: _regular_codes(postal_code, exceptions) for postal_code in weights}
    numbers = [(code, area) for area in weights for code in free[area] if code.isdecimal()]
    for code, postal_code in exceptions.items():
        free[postal_code].insert(0, code)
    codes = list(DEFAULT_STATIONS.items())
    taken = dict.fromkeys(weights, 0)
    while len(codes) < count and any(free.values()):
        postal_code = min(
            (area for area in weights if free[area]),
            key=lambda area: (taken[area] + 0.5) / weights[area],
        )
        codes.append((free[postal_code].pop(0), postal_code))
        taken[postal_code] += 1
    # A network larger than there are numbers has stations beside these, such as 16107_2.
    times = math.ceil((count - len(codes)) / len(numbers))
    for suffix in range(2, 2 + times):
        codes += [(f"{code}_{suffix}", postal_code) for code, postal_code in numbers]
    return codes[:count]


def _regular_codes(postal_code: str, exceptions: dict[str, str]) -> list[str]:
    """The station codes that say a postal code by the rule; 75011 has one with a suffix too."""
    if postal_code == "92000":
        numbers = range(92_001, 93_000)
    elif postal_code.startswith("750"):
        numbers = range(int(postal_code[3:]) * 1000 + 1, int(postal_code[3:]) * 1000 + 1000)
    elif postal_code.startswith("9"):
        numbers = range(int(postal_code[1:4]) * 100 + 1, int(postal_code[1:4]) * 100 + 100)
    else:  # all stations of 75116 are exceptions
        numbers = range(0)
    codes = [
        str(number)
        for number in numbers
        if str(number) not in exceptions and str(number) not in DEFAULT_STATIONS
    ]
    return ["11031_relais", *codes] if postal_code == "75011" else codes


def _station(
    number: int, code: str, place: str, polygons: list[Polygon], chance: random.Random
) -> Station:
    closed = number > 1 and chance.random() < 0.03
    longitude, latitude = _point_in(polygons, chance)
    return Station(
        code=code,
        # The feed has small ids, and some that need more than 32 bits.
        station_id=chance.randrange(10**10, 2 * 10**10)
        if chance.random() < 0.2
        else 10_000 + number,
        name=f"{place} - {code}",
        latitude=latitude,
        longitude=longitude,
        capacity=0 if number > 1 and chance.random() < 0.01 else chance.randrange(12, 61),
        is_installed=0 if closed and chance.random() < 0.3 else 1,
        is_renting=0 if closed else 1,
        is_office=chance.random() < 0.4,
        mean_fill=chance.uniform(0.25, 0.65),
        ebike_share=chance.uniform(0.2, 0.6),
    )


def _point_in(polygons: list[Polygon], chance: random.Random) -> Point:
    """A point of an area: points of the rectangle around it are tried until one is inside."""
    longitudes, latitudes = zip(*(p for rings in polygons for p in rings[0]), strict=True)
    while True:
        longitude = round(chance.uniform(min(longitudes), max(longitudes)), 6)
        latitude = round(chance.uniform(min(latitudes), max(latitudes)), 6)
        if _is_inside((longitude, latitude), polygons):
            return longitude, latitude


def _is_inside(point: Point, polygons: list[Polygon]) -> bool:
    """Whether a line from the point to the east crosses the outlines an odd number of times."""
    x, y = point
    crossings = 0
    for ring in (ring for rings in polygons for ring in rings):
        for (x1, y1), (x2, y2) in itertools.pairwise(ring):
            crossings += (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)
    return crossings % 2 == 1


def station_status(network: list[Station], last_updated: int, seed: int) -> dict[str, Any]:
    """The answer of `station_status.json` for a snapshot of this time (epoch seconds)."""
    return _answer(last_updated, [_status(station, last_updated, seed) for station in network])


def _answer(last_updated: int, stations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"lastUpdatedOther": last_updated, "ttl": 3600, "data": {"stations": stations}}


def _status(station: Station, now: int, seed: int) -> dict[str, Any]:
    chance = random.Random((seed * HASH_FACTOR + station.station_id) * HASH_FACTOR + now)
    fill = station.mean_fill + commute(now, station.is_office) + chance.gauss(0, 0.03)
    bikes = round(station.capacity * min(max(fill, 0.0), 1.0))
    ebikes = round(bikes * station.ebike_share)
    status = {
        "station_id": station.station_id,
        "num_bikes_available": bikes,
        "numBikesAvailable": bikes,
        "num_bikes_available_types": [{"mechanical": bikes - ebikes}, {"ebike": ebikes}],
        "num_docks_available": station.capacity - bikes,
        "numDocksAvailable": station.capacity - bikes,
        "is_installed": station.is_installed,
        "is_returning": station.is_renting,
        "is_renting": station.is_renting,
        "last_reported": now - chance.randrange(5, 3000),
        "stationCode": station.code,
    }
    if station.station_id % 2:
        status["station_opening_hours"] = None
    return status


def commute(now: int, is_office: bool) -> float:
    """What commuters add to a station's mean fill: from 7 to 9 they ride from their homes to
    their offices, from 17 to 19 back.
    """
    hour = (now / 3600 + 1) % 24  # Paris in winter
    at_work = 1 / (1 + math.exp(-3 * (hour - 8))) - 1 / (1 + math.exp(-3 * (hour - 18)))
    return (0.3 if is_office else -0.2) * at_work


def station_information(network: list[Station], last_updated: int) -> dict[str, Any]:
    """The answer of `station_information.json`."""
    stations = [
        {
            "station_id": station.station_id,
            "stationCode": station.code,
            "name": station.name,
            "lat": station.latitude,
            "lon": station.longitude,
            "capacity": station.capacity,
        }
        for station in network
    ]
    return _answer(last_updated, stations)


def serve(network: list[Station], port: int, period: int, seed: int) -> None:
    """Answer requests on localhost until a signal stops the process; raises Failure."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            last_updated = int(time.time()) // period * period
            if self.headers.get("User-Agent", "").lower().startswith(REFUSED_AGENTS):
                self.send_error(HTTPStatus.FORBIDDEN)
            elif self.path.partition("?")[0] == "/station_status.json":
                self._send(station_status(network, last_updated, seed))
            elif self.path.partition("?")[0] == "/station_information.json":
                self._send(station_information(network, last_updated))
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _send(self, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                body = gzip.compress(body, compresslevel=1)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            log.debug(format, *args)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # the client has gone
                log.exception("Cannot answer %s", client_address)

    try:
        server = Server((runtime.loopback(), port), Handler)
    except OSError as error:
        raise Failure(
            f"Port {port} cannot be used ({error.strerror}): name another --port"
        ) from None
    log.info(
        "%d stations, a snapshot every %d s: VELIB_API_URL=http://localhost:%d",
        len(network),
        period,
        port,
    )
    with server:
        server.serve_forever()


if __name__ == "__main__":
    runtime.run_tool(main)
