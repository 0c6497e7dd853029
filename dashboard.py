"""Shows the pipeline live in a browser: where the bikes are now, and whether every part runs.

    python dashboard.py                      http://localhost:8080, for this machine only
    python dashboard.py --port 8081          on another port
    python dashboard.py --host 0.0.0.0       for every machine that can reach this one

All that it shows comes from Kafka's topics, which one thread follows for all open pages. Programs
can read the same numbers:

    /api/totals           the latest total of each postal code, as stored in the topic
    /api/areas.geojson    the outlines of the postal codes with these totals
    /metrics              for Prometheus
"""

import argparse
import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from nicegui import app, ui

import config
from velib import runtime
from velib.errors import Failure
from velib.page import address, endpoints, health
from velib.page.chart import Chart
from velib.page.follower import Follower
from velib.page.header import Header, Numbers
from velib.page.health import Finding, HealthCard
from velib.page.map import SCRIPT, Map
from velib.page.moment import Moment
from velib.page.state import PipelineState
from velib.page.table import Table
from velib.page.text import LANGUAGES, Words, preferred_language
from velib.runtime import in_thread, log
from velib.totals.areas import NAMES

STYLE = Path(health.__file__).with_name("page.css")
REFRESH_SECONDS = 0.2


def main(stop: Event) -> None:
    arguments = parse_arguments()
    settings = config.load()
    ip_address = address_of(arguments.host, arguments.port)
    state = PipelineState(settings)
    following = in_thread(Follower(settings, state).run)
    pages = Pages(state)
    endpoints.serve(app, state, lambda: len(pages.open))
    for language in LANGUAGES:
        serve_page(language, pages)
    serve_root()
    app.on_startup(lambda: pages.refresh(until=lambda: stop.is_set() or following.done()))
    app.on_startup(lambda: log.info("The page: http://%s", shown(arguments.host, arguments.port)))
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI would take it for one of its own tests
    ui.run(
        host=ip_address,
        port=arguments.port,
        reload=False,
        show=False,
        show_welcome_message=False,
        favicon="🚲",
        dark=None,
        tailwind=False,
        # Seconds; otherwise an open page would keep the server from stopping.
        timeout_graceful_shutdown=1,
        message_history_length=50,  # kept for a browser that has not confirmed them
    )
    if following.done():
        following.result()  # raises the reason


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Show the pipeline live in a browser.")
    parser.add_argument("--host", default="localhost", help="address (default: %(default)s)")
    parser.add_argument(
        "--port", type=runtime.port, default=8080, help="port (default: %(default)s)"
    )
    return parser.parse_args()


def address_of(host: str, port: int) -> str:
    """The address of a host, the IPv4 one if it has two; raises Failure if it cannot be used.

    Often `localhost` is also ::1, even on a machine without IPv6.
    """
    try:
        found = min(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        address = str(found[4][0])
        socket.create_server((address, port), family=found[0]).close()
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise Failure(
            f"The page cannot be served at {shown(host, port)} ({reason}):"
            " choose another --port or --host"
        ) from None
    return address


def shown(host: str, port: int) -> str:
    """Host and port as written in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve_page(language: str, pages: "Pages") -> None:
    """Serve the page in a language at `/en` or `/fr`."""

    @ui.page(f"/{language}", title="Vélib’", language=LANGUAGES[language])
    def page() -> None:
        pages.add(Page(pages.state, Words(language)))


def serve_root() -> None:
    """Redirect `/` to the page in the language that the browser prefers."""

    @app.get("/")
    def start(request: Request) -> Response:
        language = preferred_language(request.headers.get("accept-language", ""))
        query = request.url.query
        return RedirectResponse(f"{language}?{query}" if query else language)


class Pages:
    """The open pages, all of which one task keeps up to date."""

    def __init__(self, state: PipelineState) -> None:
        self.state = state
        self.open: set[Page] = set()

    def add(self, page: "Page") -> None:
        """Keep a page up to date until its browser disconnects."""
        self.open.add(page)
        ui.context.client.on_delete(lambda: self.open.discard(page))

    async def refresh(self, until: Callable[[], bool]) -> None:
        """Until `until()` is true, show new records on every page within REFRESH_SECONDS and ages
        every second; then stop the server.
        """
        shown_version, second = -1, 0
        while not until():
            await asyncio.sleep(REFRESH_SECONDS)
            has_news, now = self.state.version != shown_version, int(time.time())
            is_due = has_news or now != second
            if is_due:
                shown_version, second = self.state.version, now
                with self.state.lock:
                    found = health.findings(self.state, time.time())
            for page in [page for page in self.open if is_due or page.moment.speed]:
                try:
                    with page.client:
                        page.map.player.advance()
                        if has_news:
                            page.show_all(found)
                        elif is_due:
                            page.show_ages(found)
                except Exception:  # in one page: the others must keep working
                    log.exception("A page could not be shown")
                await asyncio.sleep(0)  # lets the server answer requests between two pages
        app.shutdown()


class Page:
    """One open page: its parts, from top to bottom."""

    def __init__(self, state: PipelineState, words: Words) -> None:
        self.state, self.words, self.client = state, words, ui.context.client
        self.moment = Moment(state, address.chosen_number("at"))
        ui.add_css(STYLE)
        ui.add_head_html(address.SCRIPT + SCRIPT)
        ui.add_body_html(f'<p class="loading">{words("title")} …</p>')  # until it is drawn
        ui.colors(primary="#2b5fa8")
        with ui.element("div").classes("page"):
            self.header = Header(self.moment, words)
            self.numbers = Numbers(self.moment, words)
            self.map = Map(self.moment, words, on_moment=self.show_moment)
            self.table = Table(self.moment, words, on_choose=self.choose, on_hover=self.hover)
            self.chart = Chart(self.moment, words)
            self.health = HealthCard(state, words)
        self.map.leaflet.on("init", lambda: self.mark(self.chart.place))
        ui.on("area", lambda event: self.choose(event.args))
        ui.on("area_hover", lambda event: self.hover(event.args))
        with state.lock:
            self.show_all(health.findings(state, time.time()))

    def show_all(self, found: list[Finding]) -> None:
        """Show the state in every part, and these findings."""
        with self.state.lock:
            self.show_ages(found)
            for part in (self.numbers, self.map, self.table, self.chart):
                part.show()

    def show_ages(self, found: list[Finding]) -> None:
        """Show what changes without a new record."""
        with self.state.lock:
            self.header.show(found)
            self.health.show(found)

    def show_moment(self) -> None:
        """Show the moment in every part that has a past."""
        with self.state.lock:
            self.header.show(health.findings(self.state, time.time()))
            for part in (self.numbers, self.map, self.table):
                part.show()
            self.chart.show_moment()

    def choose(self, postal_code: object) -> None:
        """Show the chart of a place, and mark its area and its row.

        Choosing it again, or an unknown place, shows all places.
        """
        place = str(postal_code)
        if place not in NAMES or place == self.chart.place:
            place = ""
        self.mark(place)
        self.map.leaflet.move_to(place)
        self.chart.choose_place(place)

    def mark(self, place: str) -> None:
        """Mark the area and the row of the chosen place; for "" mark none."""
        self.map.leaflet.mark_area("chosen", place)
        self.table.mark_chosen(place)

    def hover(self, postal_code: object) -> None:
        """Mark the area and the row under the pointer."""
        self.map.leaflet.mark_area("hovered", str(postal_code))
        self.table.mark_hovered(str(postal_code))


if __name__ == "__main__":
    runtime.run(main)
