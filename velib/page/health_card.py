"""The health of the pipeline: what each part does, and the last dead letters."""

import time

from nicegui import ui

from velib.page.header import ICONS
from velib.page.health import Finding, Level
from velib.page.state import DAY, DeadLetter, Live
from velib.page.text import Words, readable

PARTS = ("kafka", "feed", "producer", "job", "dead_letters")
LAST_DEAD_LETTERS = 3


class HealthCard:
    """A line for each part, and the last dead letters below."""

    def __init__(self, live: Live, words: Words) -> None:
        self.live, self.words = live, words
        self.shown: list[DeadLetter] = []
        with ui.element("section").classes("health"):
            ui.label(words("health")).props("role=heading aria-level=2").classes("name")
            self.lines = {part: Line(words(part), part) for part in PARTS}
            label = words("last_dead_letters")
            self.dead_letters = ui.element("ul").props(f'aria-label="{label}"')

    def show(self, found: list[Finding]) -> None:
        now = time.time()
        for finding in found:
            level_name = self.words(finding.level.name.lower())
            text = self.words.sentence(finding, now)
            self.lines[finding.part].show(finding.level, level_name, text)
        letters = self.live.last_dead_letters(LAST_DEAD_LETTERS, now - DAY)
        if letters == self.shown:
            return
        self.shown = letters
        self.dead_letters.clear()
        with self.dead_letters:
            for letter in letters:
                fields = [letter.fields[name] for name in ("reason", "key", "value")]
                with ui.element("li"):
                    ui.label(readable(" · ".join(fields))).classes("soft")


class Line:
    """An icon, a part of the pipeline, and what it does."""

    def __init__(self, name: str, part: str) -> None:
        with ui.element("div").classes("finding").props(f"data-part={part}"):
            self.icon = ui.icon("hourglass_empty").props("role=img")
            ui.label(name)
            self.text = ui.label().classes("soft")

    def show(self, level: Level, level_name: str, text: str) -> None:
        self.icon.set_name(ICONS[level])
        self.icon.props(f'aria-label="{level_name}"')
        self.icon.classes(replace=level.name.lower())
        self.text.set_text(text)
