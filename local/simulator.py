"""The Vélib' API on this machine, for trying the pipeline out without the internet.

    python -m local.simulator [--port 8000] [--stations 1485] [--period 60] [--start EPOCH]

Serves `station_status.json` and `station_information.json` in the API's shape, with its quirks and
the numbers of a real day, which begins again after its last snapshot.
"""

import argparse
import gzip
import json
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.day import STATIONS, Day
from velib import runtime
from velib.errors import Failure
from velib.runtime import log

REFUSED_AGENTS = (
    "python-requests",
    "python-urllib",
    "curl",
    "wget",
    "java",
    "go-http-client",
    "okhttp",
)
"""The prefixes of the User-Agents that the API refuses."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator", description="The Vélib' API on this machine."
    )
    parser.add_argument(
        "--port", type=runtime.port, default=8000, help="port on localhost (default: %(default)s)"
    )
    parser.add_argument(
        "--stations",
        type=int,
        default=STATIONS,
        metavar="N",
        help="number of stations (default: %(default)s)",
    )
    parser.add_argument(
        "--period",
        type=int,
        default=60,
        metavar="SECONDS",
        help="seconds between snapshots (default: %(default)s)",
    )
    parser.add_argument(
        "--start",
        type=int,
        metavar="EPOCH",
        help="when the day begins, in epoch seconds (default: now)",
    )
    arguments = parser.parse_args()
    if arguments.period < 1:
        parser.error("argument --period: it must be at least 1 second")
    start = newest(arguments.period) if arguments.start is None else arguments.start
    try:
        day = Day(arguments.stations, arguments.period, start)
    except ValueError as error:
        parser.error(f"argument --stations: {error}")
    serve(day, arguments.port)


def newest(period: int) -> int:
    """The time of the newest snapshot (epoch seconds)."""
    return int(time.time()) // period * period


def serve(day: Day, port: int) -> None:
    """Answer requests on localhost until a signal stops the process; raises Failure."""
    served = 0

    def announce(last_updated: int) -> None:
        """Log which moment of the recorded day a snapshot shows, once for each snapshot."""
        nonlocal served
        if last_updated != served:
            if served and day.snapshot(last_updated).moment < day.snapshot(served).moment:
                log.info("The day begins again")
            log.info("%s", day.describe(last_updated))
            served = last_updated

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            last_updated = newest(day.period)
            if self.headers.get("User-Agent", "").lower().startswith(REFUSED_AGENTS):
                self.send_error(HTTPStatus.FORBIDDEN)
            elif self.path.partition("?")[0] == "/station_status.json":
                announce(last_updated)
                self._send(day.status(last_updated))
            elif self.path.partition("?")[0] == "/station_information.json":
                self._send(day.information(last_updated))
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
            if not isinstance(sys.exc_info()[1], ConnectionError):  # the client has disconnected
                log.exception("Cannot answer %s", client_address)

    try:
        server = Server((runtime.loopback(), port), Handler)
    except OSError as error:
        raise Failure(
            f"Port {port} cannot be used ({error.strerror}): choose another --port"
        ) from None
    log.info(
        "%d stations, a snapshot every %d s: VELIB_API_URL=http://localhost:%d",
        day.stations,
        day.period,
        port,
    )
    with server:
        server.serve_forever()


if __name__ == "__main__":
    runtime.run_tool(main)
