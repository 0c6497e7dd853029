"""The card of a station: its state, its numbers and its capacity."""

import time
from collections.abc import Callable

from nicegui import ui

from velib.page.moment import Moment
from velib.page.text import Words, readable


class StationCard:
    """The station that the reader has clicked."""

    def __init__(self, moment: Moment, words: Words, on_choose: Callable[[], None]) -> None:
        """`on_choose` marks the station on the map."""
        self.moment, self.state, self.words = moment, moment.state, words
        self.code, self.on_choose = "", on_choose
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
        self.on_choose()

    def show(self) -> None:
        words = self.words
        with self.state.lock:
            station = self.state.stations.get(self.code)
            position = self.state.positions.get(self.code)
            snapshot = words.time(self.state.raw_snapshot, time.time())
        is_known = station is not None and position is not None
        self.card.set_visibility(is_known and self.moment.is_live)
        if station is None or position is None:
            return
        is_open = words("station_open" if station.is_open else "station_closed")
        numbers = [
            words("station_number", name=words(name), n=words.number(getattr(station.counts, name)))
            for name in ("mechanical", "ebike", "num_docks_available")
        ]
        self.name.set_text(readable(position.name) or station.code)
        texts = [
            f"{station.code} · {is_open}",
            *numbers,
            words("station_capacity", n=words.number(position.capacity)),
            words("snapshot", time=snapshot),
        ]
        for line, text in zip(self.lines, texts, strict=True):
            line.set_text(text)
