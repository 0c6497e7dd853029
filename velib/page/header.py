"""The head of the page: its title, how old the totals are, and the choice of language and theme."""

import time

from nicegui import ui

from velib.page import health
from velib.page.health import Finding, Level
from velib.page.state import Live
from velib.page.text import Words

ICONS = {Level.GOOD: "check_circle", Level.WARNING: "error", Level.BAD: "cancel"}


class Header:
    """The title, the badge that says how it goes, and two choices."""

    def __init__(self, live: Live, words: Words) -> None:
        self.live, self.words = live, words
        with ui.element("header"):
            ui.label(words("title")).props("role=heading aria-level=1").classes("title")
            with ui.element("div").props("role=status") as self.badge:
                self.icon = ui.icon("hourglass_empty")
                self.text = ui.label()
            ui.space()
            other = "en" if words.language == "fr" else "fr"
            ui.link(words("language"), f"/{other}").props(f"lang={other}")
            ui.dark_mode(None)  # as the browser has it, until it is toggled there
            theme = words("theme")
            ui.button(
                icon="contrast", on_click=lambda: ui.run_javascript("Quasar.Dark.toggle()")
            ).props(f'flat round dense aria-label="{theme}"').tooltip(theme)

    def show(self, found: list[Finding]) -> None:
        """Show the age of the newest snapshot, or which part is broken."""
        now, snapshot = time.time(), self.live.newest_snapshot
        worst = health.worst([finding for finding in found if finding.part != "dead_letters"])
        age_level = health.age_level(self.live, now - snapshot)
        level = max(worst.level, age_level)
        if worst.level is Level.BAD:
            text = f"{self.words(worst.part)} {self.words.sentence(worst, now)}"
        elif snapshot:
            values = {"time": self.words.time(snapshot, now), "age": self.words.age(now - snapshot)}
            text = self.words("live" if age_level is Level.GOOD else "old", **values)
        else:
            level, text = Level.WARNING, self.words("no_totals")
        self.text.set_text(text)
        self.icon.set_name(ICONS[level])
        self.badge.classes(replace=f"badge {level.name.lower()}")
