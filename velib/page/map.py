"""The map: areas or, zoomed in, stations, and the legend.

Its background is plain, so it is complete without the internet.
"""

import html
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nicegui import ui

from velib.page import address, colours
from velib.page.colours import CHANGE, FILL, MEASURES, NO_TOTAL
from velib.page.moment import Moment
from velib.page.player import Player
from velib.page.station_card import StationCard
from velib.page.text import Words, readable
from velib.totals.areas import NAMES, outlines
from velib.totals.records import Counts

CENTER = (48.859, 2.347)  # degrees
STATION_ZOOM = 13.5  # from which the stations are shown
SCRIPT = f"<script>{Path(__file__).with_name('map.js').read_text(encoding='utf-8')}</script>"
"""The script that a page with a map needs in its head."""


class Map:
    """The areas and stations in the colours of the measure that the reader has chosen.

    The page gets the events `area` and `area_hover` with a postal code.
    """

    def __init__(self, moment: Moment, words: Words, on_moment: Callable[[], None]) -> None:
        """`on_moment` is called when the reader chooses another moment."""
        self.moment, self.state, self.words = moment, moment.state, words
        self.measure = address.chosen("measure", MEASURES, FILL)
        self.shown_legend: list[str] = []
        with ui.element("section").classes("map").props(f'aria-label="{words("map")}"'):
            with ui.element("div").classes("bar"):
                choices = {measure: words(measure) for measure in MEASURES}
                ui.toggle(
                    choices, value=self.measure, on_change=lambda e: self.choose_measure(e.value)
                ).props("dense no-caps unelevated")
            with ui.element("div").classes("sheet"):
                self.legend = ui.element("div").classes("legend")
                self.leaflet = LeafletMap(outlines(), self.dots)
                self.station_card = StationCard(moment, words, self.leaflet.show_stations)
            self.player = Player(moment, words, on_moment)
            with ui.element("div").classes("bar foot"):
                self.hints = ui.label()
                ui.space()
                streets = ui.switch(words("streets")).props("dense")
                streets.on_value_change(lambda event: self.leaflet.show_streets(event.value))
        self.leaflet.on("init", self.show)
        self.leaflet.on("init", self.name_zoom_buttons)
        self.leaflet.on("map-zoomend", self.show_legend)
        ui.on("station", lambda event: self.station_card.choose(event.args))

    def show(self) -> None:
        with self.state.lock:
            totals = self.moment.totals()
            before = self.state.history.get(self.moment.hour_before(), {})
            class_limits = colours.limits(self.measure, totals.values())
            self.leaflet.paint(
                {
                    code: (
                        self.colour(totals.get(code), class_limits, before.get(code)),
                        self.label(code, totals, before),
                    )
                    for code in NAMES
                }
            )
        self.player.show()
        self.show_legend()
        self.station_card.show()
        if self.leaflet.is_near():
            self.leaflet.show_stations()

    def name_zoom_buttons(self) -> None:
        names = json.dumps([self.words("zoom_in"), self.words("zoom_out")])
        self.leaflet.client.run_javascript(
            f"nameZoomButtons(getElement({self.leaflet.id}).map, ...{names})"
        )

    def hint(self) -> str:
        """What the map shows, or how to see more."""
        words, state = self.words, self.state
        if self.measure == CHANGE:
            before = self.moment.hour_before()
            if not before:
                return words("change_unknown")
            recorded = state.recorded.get(before)
            time_before = recorded.timestamp() if recorded else before
            return words("change_since", time=words.time(time_before, time.time()))
        if not self.moment.is_live:
            return words("stations_live_only")
        if not self.leaflet.is_near():
            return words("zoom_hint")
        unplaced = len(state.stations.keys() - state.positions.keys())
        hints = [words("shapes"), words("unplaced", n=words.number(unplaced)) if unplaced else ""]
        return " · ".join(filter(None, hints))

    def shows_stations(self) -> bool:
        """Whether stations are shown: zoomed in and live, because their past is not known."""
        return self.leaflet.is_near() and self.moment.is_live and self.measure != CHANGE

    def choose_measure(self, measure: Any) -> None:
        if measure in MEASURES:
            self.measure = measure
            address.keep("measure", measure)
            self.show()

    def show_legend(self) -> None:
        """Show the limits of the classes: of stations if they are shown, else of areas."""
        with self.state.lock:
            self.hints.set_text(self.hint())
            counts = (
                [station.counts for station in self.state.stations.values()]
                if self.shows_stations()
                else list(self.moment.totals().values())
            )
            class_limits = colours.limits(self.measure, counts)
        is_share = self.measure in (FILL, CHANGE)
        write = self.words.percent if is_share else self.words.number
        bounds = [write(limit) for limit in class_limits]
        texts = [f"< {bounds[0]}", *(f"≥ {bound}" for bound in bounds), self.words("no_total")]
        if texts == self.shown_legend:
            return
        self.shown_legend = texts
        self.legend.clear()
        with self.legend:
            for colour, text in zip([*colours.palette(self.measure), NO_TOTAL], texts, strict=True):
                with ui.element("div").classes("bar"):
                    ui.element("i").style(f"background: {colour}")
                    ui.label(text)

    def colour(
        self, counts: Counts | None, class_limits: list[float], before: Counts | None = None
    ) -> str:
        amount = colours.value(self.measure, counts, before)
        return colours.colour(self.measure, amount, class_limits)

    def label(self, postal_code: str, totals: dict[str, Counts], before: dict[str, Counts]) -> str:
        words, place = self.words, f"{postal_code} {NAMES[postal_code]}"
        if postal_code not in totals:
            return words("area_unknown", place=place)
        counts = totals[postal_code]
        if self.measure == CHANGE and postal_code in before:
            change = counts.num_bikes_available - before[postal_code].num_bikes_available
            return words("area_change", place=place, n=words.change(change))
        return words(
            "area_label",
            place=place,
            bikes=words.number(counts.num_bikes_available),
            mechanical=words.number(counts.mechanical),
            ebike=words.number(counts.ebike),
            docks=words.number(counts.num_docks_available),
            fill=words.percent(colours.value(FILL, counts)),
        )

    def dots(self) -> list["Dot"]:
        """The stations of the newest snapshot with a position; none if stations are not shown."""
        if not self.shows_stations():
            return []
        with self.state.lock:
            stations, positions = dict(self.state.stations), dict(self.state.positions)
        class_limits = colours.limits(self.measure, [s.counts for s in stations.values()])
        return [
            Dot(
                code,
                positions[code].latitude,
                positions[code].longitude,
                self.colour(station.counts, class_limits),
                colours.shape(station.is_open, station.counts),
                code == self.station_card.code,
                self.words(
                    "station_label",
                    place=readable(positions[code].name),
                    bikes=station.counts.num_bikes_available,
                    docks=station.counts.num_docks_available,
                ),
            )
            for code, station in stations.items()
            if code in positions
        ]


@dataclass(frozen=True)
class Dot:
    """A station on the map; latitude and longitude in degrees."""

    code: str
    latitude: float
    longitude: float
    colour: str
    shape: str
    is_chosen: bool
    label: str


class LeafletMap(ui.leaflet):
    """Outlines and dots, drawn by Leaflet. It knows nothing of the pipeline.

    The page gets the events `area`, `area_hover` (with the id of an outline) and `station` (with
    the code of a dot).
    """

    def __init__(self, outlines: dict[str, Any], dots: Callable[[], list[Dot]]) -> None:
        """`outlines` is a GeoJSON FeatureCollection; `dots` returns all stations to show."""
        super().__init__(
            center=CENTER, zoom=11, options={"zoomSnap": 0.1, "minZoom": 9, "maxZoom": 19}
        )
        self.clear_layers()  # the tiles of OpenStreetMap, which ui.leaflet adds
        self.areas = self.generic_layer(name="geoJSON", args=[outlines])
        self.streets: Any = None
        self.dots = dots
        self.window = (0.0, 0.0, 0.0, 0.0)  # south, west, north, east, in degrees
        self.on("init", self.fit)
        ui.on("window", lambda event: self.show_window(event.args))

    def is_near(self) -> bool:
        """Whether the zoom is close enough for stations."""
        return isinstance(self.zoom, (int, float)) and self.zoom >= STATION_ZOOM

    def fit(self) -> None:
        """Show the part of the map that the page's address names, else every area."""
        is_areas = f"layer.id === {json.dumps(self.areas.id)}"
        self.client.run_javascript(
            f"const map = getElement({self.id}).map; watchWindow(map);"
            f"map.eachLayer(layer => {is_areas} && showPart(map, layer.getBounds()))"
        )

    def paint(self, areas: dict[str, tuple[str, str]]) -> None:
        """Give each area its colour and its label."""
        painted = {code: (*area, html.escape(area[1])) for code, area in areas.items()}
        paint = f"layer => paintArea(layer, {json.dumps(painted)}[layer.feature.id])"
        self.areas.run_method(":eachLayer", paint)

    def mark_area(self, mark: str, code: str) -> None:
        """Mark this area, and no other, as `chosen` or `hovered`."""
        mark_one = f"layer => markArea(layer, {json.dumps(mark)}, {json.dumps(code)})"
        self.areas.run_method(":eachLayer", mark_one)

    def move_to(self, code: str) -> None:
        """Centre an area unless a part of it is visible."""
        self.areas.run_method(":eachLayer", f"layer => moveTo(layer, {json.dumps(code)})")

    def show_window(self, window: Any) -> None:
        """Show the stations that lie in a new window: south, west, north and east in degrees."""
        with suppress(TypeError, ValueError):  # a browser may send anything
            south, west, north, east = map(float, window)
            self.window = (south, west, north, east)
            self.show_stations()

    def show_stations(self) -> None:
        """Show the stations that lie in the window, if stations are shown at all."""
        south, west, north, east = self.window
        visible = [
            asdict(dot)
            for dot in self.dots()
            if south < dot.latitude < north and west < dot.longitude < east
        ]
        self.client.run_javascript(
            f"showStations(getElement({self.id}).map, {json.dumps(visible)})"
        )

    def show_streets(self, wanted: bool) -> None:
        """Show the street tiles of OpenStreetMap under the areas, or remove them."""
        if wanted and self.streets is None:
            self.streets = self.tile_layer(
                url_template="https://tile.openstreetmap.org/{z}/{x}/{y}.png",
                options={"attribution": "© OpenStreetMap contributors", "maxZoom": 19},
            )
        elif not wanted and self.streets is not None:
            self.remove_layer(self.streets)
            self.streets = None
        container = f"getElement({self.id}).map.getContainer()"
        self.client.run_javascript(f"{container}.classList.toggle('streets', {json.dumps(wanted)})")
