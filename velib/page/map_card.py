"""The map with what belongs to it: the choice of the colour, the legend, and a station's card."""

import time
from typing import Any

from nicegui import ui

from velib.page import measures
from velib.page.area_map import AreaMap, Dot
from velib.page.measures import COLOURS, MEASURES
from velib.page.state import Counts, Live
from velib.page.text import Words, readable
from velib.totals.areas import NAMES, outlines


class MapCard:
    """The areas and stations in the colours of the measure that the reader has chosen."""

    def __init__(self, live: Live, words: Words) -> None:
        self.live, self.words = live, words
        self.measure = MEASURES[0]
        self.shown_legend: list[str] = []
        with ui.element("section").classes("map").props(f'aria-label="{words("map")}"'):
            with ui.element("div").classes("bar"):
                choices = {measure: words(measure) for measure in MEASURES}
                ui.toggle(
                    choices, value=self.measure, on_change=lambda e: self.choose_measure(e.value)
                ).props("dense no-caps unelevated")
                self.legend = ui.element("div").classes("legend")
            self.map = AreaMap(outlines(), self.dots)
            self.station_card = StationCard(live, words)
            with ui.element("div").classes("bar foot"):
                self.note = ui.label()
                ui.space()
                streets = ui.switch(words("streets")).props("dense")
                streets.on_value_change(lambda event: self.map.show_streets(event.value))
        self.map.on("init", self.show)
        self.map.on("map-zoomend", self.show_legend)
        ui.on("station", lambda event: self.station_card.choose(event.args))

    def show(self) -> None:
        words, live = self.words, self.live
        with live.lock:
            totals = live.totals()
            class_limits = measures.limits(self.measure, totals.values())
            self.map.paint(
                {
                    code: (
                        measures.colour(
                            measures.value(self.measure, totals.get(code)), class_limits
                        ),
                        self.area_label(code, totals.get(code)),
                    )
                    for code in NAMES
                }
            )
            unplaced = len(live.stations.keys() - live.positions.keys())
        notes = [words("zoom_hint"), words("shapes")]
        if unplaced:
            notes.append(words("unplaced", n=words.number(unplaced)))
        self.note.set_text(" · ".join(notes))
        self.show_legend()
        self.station_card.show()
        if self.map.is_near():
            self.map.show_stations()

    def choose_measure(self, measure: Any) -> None:
        if measure in MEASURES:
            self.measure = measure
            self.show()

    def show_legend(self) -> None:
        """Name the classes of what is seen: of the stations if the map is near, else the areas."""
        with self.live.lock:
            seen = self.live.stations if self.map.is_near() else self.live.totals()
            class_limits = measures.limits(self.measure, list(seen.values()))
        write = self.words.percent if self.measure == "fill" else self.words.number
        bounds = [write(limit) for limit in class_limits]
        texts = [f"< {bounds[0]}", *(f"≥ {bound}" for bound in bounds)]
        if texts == self.shown_legend:
            return
        self.shown_legend = texts
        self.legend.clear()
        with self.legend:
            for colour, text in zip(COLOURS, texts, strict=True):
                with ui.element("div").classes("bar"):
                    ui.element("i").style(f"background: {colour}")
                    ui.label(text)

    def area_label(self, postal_code: str, counts: Counts | None) -> str:
        words, place = self.words, f"{postal_code} {NAMES[postal_code]}"
        if counts is None:
            return words("area_unknown", place=place)
        return words(
            "area_label",
            place=place,
            bikes=words.number(counts.num_bikes_available),
            mechanical=words.number(counts.mechanical),
            ebike=words.number(counts.ebike),
            docks=words.number(counts.num_docks_available),
            fill=words.percent(measures.value("fill", counts)),
        )

    def dots(self) -> list[Dot]:
        """The stations of the newest snapshot that have a position."""
        with self.live.lock:
            stations, positions = dict(self.live.stations), dict(self.live.positions)
        class_limits = measures.limits(self.measure, stations.values())
        return [
            Dot(
                code,
                positions[code].latitude,
                positions[code].longitude,
                measures.colour(measures.value(self.measure, station), class_limits),
                measures.shape(station),
                self.words(
                    "station_label",
                    place=readable(positions[code].name),
                    bikes=station.num_bikes_available,
                    docks=station.num_docks_available,
                ),
            )
            for code, station in stations.items()
            if code in positions
        ]


class StationCard:
    """What the station has that the reader has clicked."""

    def __init__(self, live: Live, words: Words) -> None:
        self.live, self.words, self.code = live, words, ""
        with ui.element("aside").classes("card station-card") as self.card:
            with ui.element("div").classes("bar"):
                self.name = ui.label().classes("name")
                close = words("close")
                ui.button(icon="close", on_click=lambda: self.choose("")).props(
                    f'flat round dense size=sm aria-label="{close}"'
                )
            self.lines = [ui.label() for _ in range(6)]
        self.card.set_visibility(False)

    def choose(self, code: object) -> None:
        """Show a station, or none for ""."""
        self.code = str(code)
        self.show()

    def show(self) -> None:
        words = self.words
        with self.live.lock:
            station = self.live.stations.get(self.code)
            position = self.live.positions.get(self.code)
            snapshot = words.time(self.live.raw_snapshot, time.time())
        self.card.set_visibility(station is not None and position is not None)
        if station is None or position is None:
            return
        is_open = words("station_open" if station.is_open else "station_closed")
        numbers = {
            "mechanical": station.mechanical,
            "ebike": station.ebike,
            "docks": station.num_docks_available,
        }
        self.name.set_text(readable(position.name) or station.code)
        texts = [
            f"{station.code} · {is_open}",
            *(
                words("station_number", name=words(k), n=words.number(n))
                for k, n in numbers.items()
            ),
            words("station_capacity", n=words.number(position.capacity)),
            words("snapshot", time=snapshot),
        ]
        for line, text in zip(self.lines, texts, strict=True):
            line.set_text(text)
