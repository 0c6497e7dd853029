"""The top of the page: title and badge, the choice of language and theme, and the numbers."""

import time
from collections import Counter

from nicegui import ui

from velib.page import health
from velib.page.colours import shape, share
from velib.page.health import ICONS, Finding, Level
from velib.page.moment import Moment
from velib.page.text import Words

TO_HEALTH = """event => {
  event.preventDefault();
  document.getElementById("health").scrollIntoView();
}"""


class Header:
    """The title, the badge with the state of the pipeline, and two choices."""

    def __init__(self, moment: Moment, words: Words) -> None:
        self.moment, self.words = moment, words
        with ui.element("header"):
            ui.label(words("title")).props("role=heading aria-level=1").classes("title")
            self.badge = ui.element("a").props("href=#health").on("click", js_handler=TO_HEALTH)
            with self.badge:
                self.icon = ui.icon("hourglass_empty")
                self.text = ui.label()
            self.recorded = ui.label().classes("soft recorded")
            ui.space()
            ui.label(words("clock")).classes("soft")
            other = "en" if words.language == "fr" else "fr"
            ui.link(words("language"), f"/{other}").props(f"lang={other}").on(
                "click", js_handler="event => event.currentTarget.search = location.search"
            )
            theme = words("theme")
            ui.button(
                icon="contrast", on_click=lambda: ui.run_javascript("Quasar.Dark.toggle()")
            ).props(f'flat round dense aria-label="{theme}"').tooltip(theme)

    def show(self, found: list[Finding]) -> None:
        """Say that the past is shown, how old the newest snapshot is, or which part has failed."""
        state, now, snapshot = self.moment.state, time.time(), self.moment.snapshot
        recorded = state.recorded.get(snapshot)
        self.recorded.set_text(
            self.words("recorded", time=self.words.day_and_time(recorded)) if recorded else ""
        )
        values = {"time": self.words.time(snapshot, now), "age": self.words.age(now - snapshot)}
        if snapshot and not self.moment.is_live:
            self.text.set_text(self.words("past", **values))
            self.icon.set_name("history")
            self.badge.classes(replace="badge past")
            return
        worst = health.worst([finding for finding in found if finding.part != "dead_letters"])
        age_level = health.age_level(state, now - snapshot)
        level = max(worst.level, age_level)
        if worst.level is Level.BAD:
            text = f"{self.words(worst.part)} · {health.sentence(worst, self.words, now)}"
        elif snapshot:
            text = self.words("live" if age_level is Level.GOOD else "old", **values)
        else:
            level, text = Level.WARNING, self.words("no_totals")
        self.text.set_text(text)
        self.icon.set_name(ICONS[level])
        is_stale = age_level is not Level.GOOD or worst.level is Level.BAD
        self.badge.classes(replace=f"badge {level.name.lower()}{' stale' if is_stale else ''}")


class Numbers:
    """Bikes, docks and stations of the snapshot that is shown, each in a tile."""

    def __init__(self, moment: Moment, words: Words) -> None:
        self.moment, self.words = moment, words
        with ui.element("section").classes("numbers"):
            self.bikes = Tile(words("num_bikes_available"))
            self.mechanical = Tile(words("mechanical"))
            self.ebike = Tile(words("ebike"))
            self.docks = Tile(words("num_docks_available"))
            self.stations = Tile(words("stations_open"))
            self.empty_full = Tile(words("empty_full"))

    def show(self) -> None:
        words, state = self.words, self.moment.state
        sums, previous = self.moment.sum(), state.sum(self.moment.previous())
        if sums is None:
            return

        def change(name: str) -> str:
            """How much a number has changed, in words; "" if there is no earlier snapshot."""
            if previous is None:
                return ""
            return words("change", n=words.change(getattr(sums, name) - getattr(previous, name)))

        def part_of_bikes(number: int) -> str:
            return words("share", n=words.percent(share(number, sums.num_bikes_available)))

        bikes, docks = sums.num_bikes_available, sums.num_docks_available
        self.bikes.show(words.number(bikes), change("num_bikes_available"))
        self.mechanical.show(words.number(sums.mechanical), part_of_bikes(sums.mechanical))
        self.ebike.show(words.number(sums.ebike), part_of_bikes(sums.ebike))
        self.docks.show(words.number(docks), change("num_docks_available"))
        if not self.moment.is_live:  # totals do not say how many are closed, empty or full
            self.stations.show(words.number(sums.stations), "")
            self.empty_full.show("–", words("live_only"))
            return
        shapes = Counter(shape(s.is_open, s.counts) for s in state.selected_stations())
        closed = words("stations_closed", n=words.number(shapes["closed"]))
        self.stations.show(words.number(sums.stations), closed)
        both = f"{words.number(shapes['empty'])} · {words.number(shapes['full'])}"
        self.empty_full.show(both, words("empty_full_explained"))


class Tile:
    """A number with its name above and a detail below; a change marks it for a moment."""

    def __init__(self, name: str) -> None:
        with ui.element("div").classes("card"):
            ui.label(name).classes("soft")
            self.value = ui.label("–").classes("value changed")
            self.detail = ui.label().classes("soft")

    def show(self, value: str, detail: str) -> None:
        if value != self.value.text:
            self.value.set_text(value)
            self.value.classes(toggle="changed changed-again")  # restarts the animation
        self.detail.set_text(detail)
