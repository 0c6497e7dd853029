"""Shows the pipeline live in a browser: where the bikes are now, and whether every part runs.

    python dashboard.py                      http://localhost:8080, for this machine alone
    python dashboard.py --port 8081          on another port
    python dashboard.py --host 0.0.0.0       for every machine that reaches this one

All that it shows comes from Kafka's topics, which one thread follows for all open pages. For
programs there are the same numbers:

    /api/totals           the latest total of each postal code, as stored in the topic
    /api/areas.geojson    the outlines of the postal codes with these totals
    /metrics              for Prometheus
"""

import argparse
import asyncio
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from nicegui import app, ui

import config
from velib import runtime
from velib.errors import Failure
from velib.page import area_map, health, metrics
from velib.page.chart import Chart
from velib.page.follower import Follower
from velib.page.header import Header
from velib.page.health import Finding
from velib.page.health_card import HealthCard
from velib.page.map_card import MapCard
from velib.page.numbers import Numbers
from velib.page.state import Live
from velib.page.table import Table
from velib.page.text import LANGUAGES, Words, preferred_language
from velib.runtime import log
from velib.totals.areas import NAMES, outlines

STYLE = Path(area_map.__file__).with_name("page.css")
REFRESH_SECONDS = 0.2


def main() -> None:
    arguments = parse_arguments()
    settings = config.load()
    check_address(arguments.host, arguments.port)
    live = Live(settings)
    follower = Follower(settings, live)
    follower.start()
    pages = Pages(live, follower)
    serve_data(live, pages)
    for language in LANGUAGES:
        serve_page(language, pages)
    serve_start()
    app.on_startup(pages.refresh)
    app.on_startup(lambda: log.info("The page: http://%s:%d", arguments.host, arguments.port))
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI would wait for a test of its own kind
    ui.run(
        host=arguments.host,
        port=arguments.port,
        reload=False,
        show=False,
        show_welcome_message=False,
        favicon="🚲",
        dark=None,
        tailwind=False,
        timeout_graceful_shutdown=1,  # seconds; an open page would hold it up for ever
        message_history_length=50,  # of a page that its browser has not confirmed
    )
    if not follower.is_alive():
        raise follower.failure or Failure("The topics are not followed any more: see above")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Show the pipeline live in a browser.")
    parser.add_argument("--host", default="localhost", help="address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port (default: %(default)s)")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 65536:
        parser.error(f"argument --port: {arguments.port} is not a port: use 1 to 65535")
    return arguments


def check_address(host: str, port: int) -> None:
    """Raise Failure if nothing can be served there."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = (error.strerror or "").partition(" (")[0]
        raise Failure(
            f"The page cannot be served at {host}:{port} ({reason}): name another --port or --host"
        ) from None


def serve_page(language: str, pages: "Pages") -> None:
    """Serve the page in a language at `/en` or `/fr`."""

    @ui.page(f"/{language}", title="Vélib’", language=LANGUAGES[language])
    def page() -> None:
        pages.add(Page(pages.live, Words(language)))


def serve_start() -> None:
    """Have `/` lead to the page in the language that the browser prefers."""

    @app.get("/")
    def start(request: Request) -> Response:
        return RedirectResponse(preferred_language(request.headers.get("accept-language", "")))


def serve_data(live: Live, pages: "Pages") -> None:
    """Serve the totals as data: JSON, GeoJSON and Prometheus metrics."""

    @app.get("/api/totals")
    def totals() -> Response:
        with live.lock:
            values = [live.latest[postal_code][2] for postal_code in sorted(live.latest)]
        return Response(b"[" + b",\n".join(values) + b"]", media_type="application/json")

    @app.get("/api/areas.geojson")
    def areas_with_totals() -> Response:
        with live.lock:
            latest = {code: json.loads(value) for code, (_, _, value) in live.latest.items()}
        features = [
            feature | {"properties": feature["properties"] | latest.get(feature["id"], {})}
            for feature in outlines()["features"]
        ]
        collection = outlines() | {"features": features}
        return Response(json.dumps(collection), media_type="application/geo+json")

    @app.get("/metrics")
    def prometheus() -> Response:
        return metrics.response(live, len(pages.open))


class Pages:
    """The open pages, all of which one task keeps up to date."""

    def __init__(self, live: Live, follower: Follower) -> None:
        self.live, self.follower = live, follower
        self.open: set[Page] = set()

    def add(self, page: "Page") -> None:
        """Keep a page up to date until its browser has gone."""
        self.open.add(page)
        ui.context.client.on_delete(lambda: self.open.discard(page))

    async def refresh(self) -> None:
        """Show each change on every page soon after it came, and the ages every second."""
        shown, second = -1, 0
        while self.follower.is_alive():
            await asyncio.sleep(REFRESH_SECONDS)
            has_news, now = self.live.version != shown, int(time.time())
            if not (has_news or now != second):
                continue
            shown, second = self.live.version, now
            with self.live.lock:
                found = health.findings(self.live, time.time())
            for page in list(self.open):
                try:
                    with page.client:
                        page.show_all(found) if has_news else page.show_ages(found)
                except Exception:  # of one page: the others must not stop for it
                    log.exception("A page could not be shown")
                await asyncio.sleep(0)  # lets the server answer requests between two pages
        app.shutdown()


class Page:
    """One open page: its parts, in the order in which they stand."""

    def __init__(self, live: Live, words: Words) -> None:
        self.live, self.words, self.client = live, words, ui.context.client
        ui.add_css(STYLE)
        ui.add_head_html(area_map.SCRIPT)
        ui.add_body_html(f'<p class="loading">{words("title")} …</p>')  # until it is drawn
        ui.colors(primary="#2b5fa8")
        with ui.element("div").classes("page"):
            self.header = Header(live, words)
            self.numbers = Numbers(live, words)
            self.map = MapCard(live, words)
            self.table = Table(live, words, on_choose=self.choose, on_hover=self.hover)
            self.chart = Chart(live, words)
            self.health = HealthCard(live, words)
        ui.on("area", lambda event: self.choose(event.args))
        ui.on("area_hover", lambda event: self.hover(event.args))
        ui.on("time_zone", lambda event: self.use_time_zone(event.args))
        zone = "Intl.DateTimeFormat().resolvedOptions().timeZone"
        self.client.on_connect(
            lambda: self.client.run_javascript(f"emitEvent('time_zone', {zone})")
        )
        with live.lock:
            self.show_all(health.findings(live, time.time()))

    def show_all(self, found: list[Finding]) -> None:
        """Show the present state in every part, `found` in the health."""
        with self.live.lock:
            self.show_ages(found)
            self.numbers.show()
            self.map.show()
            self.table.show()
            self.chart.show()

    def show_ages(self, found: list[Finding]) -> None:
        """Show what changes although no record has come."""
        with self.live.lock:
            self.header.show(found)
            self.health.show(found)

    def choose(self, postal_code: object) -> None:
        """Show the chart of a place, and mark its area and its row.

        A place that is chosen again, and what is none, stands for all places.
        """
        place = str(postal_code)
        if place not in NAMES or place == self.chart.place:
            place = ""
        self.map.map.mark_area("chosen", place)
        self.table.mark_chosen(place)
        self.chart.choose_place(place)

    def hover(self, postal_code: object) -> None:
        """Mark the area and the row under the pointer."""
        self.map.map.mark_area("hovered", str(postal_code))
        self.table.mark_hovered(str(postal_code))

    def use_time_zone(self, zone: object) -> None:
        """Have times shown as the reader's own clock does, from the next second on."""
        with suppress(ValueError, KeyError, OSError):  # this machine does not know the zone
            self.words.zone = ZoneInfo(str(zone))


if __name__ == "__main__":
    runtime.run_tool(main)
