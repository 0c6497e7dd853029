"""The numbers on top of the page: sums over the newest snapshot."""

from nicegui import ui

from velib.page.measures import share
from velib.page.state import Live
from velib.page.text import Words


class Numbers:
    """Bikes, docks and stations, each in a tile."""

    def __init__(self, live: Live, words: Words) -> None:
        self.live, self.words = live, words
        with ui.element("section").classes("numbers"):
            self.bikes = Tile(words("bikes"))
            self.mechanical = Tile(words("mechanical"))
            self.ebike = Tile(words("ebike"))
            self.docks = Tile(words("docks"))
            self.stations = Tile(words("stations_open"))
            self.empty_full = Tile(words("empty_full"))

    def show(self) -> None:
        words, live = self.words, self.live
        sums, before = live.sum(live.newest_snapshot), live.sum(live.previous_snapshot())
        if sums is None:
            return

        def change(name: str) -> str:
            """How much a number has changed, in words; "" if there is no earlier snapshot."""
            if before is None:
                return ""
            return words("change", n=words.change(getattr(sums, name) - getattr(before, name)))

        def part_of_bikes(number: int) -> str:
            return words("share", n=words.percent(share(number, sums.num_bikes_available)))

        bikes, docks = sums.num_bikes_available, sums.num_docks_available
        self.bikes.show(words.number(bikes), change("num_bikes_available"))
        self.mechanical.show(words.number(sums.mechanical), part_of_bikes(sums.mechanical))
        self.ebike.show(words.number(sums.ebike), part_of_bikes(sums.ebike))
        self.docks.show(words.number(docks), change("num_docks_available"))
        stations = live.selected_stations()
        is_open = [station for station in stations if station.is_open]
        closed = words("stations_closed", n=words.number(len(stations) - len(is_open)))
        self.stations.show(words.number(sums.stations), closed)
        empty = sum(station.num_bikes_available == 0 for station in is_open)
        full = sum(station.num_docks_available == 0 for station in is_open)
        both = f"{words.number(empty)} · {words.number(full)}"
        self.empty_full.show(both, words("empty_full_note"))


class Tile:
    """A number with its name above and a note below; it is marked for a moment when it changes."""

    def __init__(self, name: str) -> None:
        with ui.element("div").classes("card"):
            ui.label(name).classes("soft")
            self.value = ui.label("–").classes("value changed")
            self.note = ui.label().classes("soft")

    def show(self, value: str, note: str) -> None:
        if value != self.value.text:
            self.value.set_text(value)
            self.value.classes(toggle="changed changed-again")  # starts the animation anew
        self.note.set_text(note)
