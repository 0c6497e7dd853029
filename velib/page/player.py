"""The slider over the snapshots of the last day, and the buttons that play them."""

import time
from collections.abc import Callable
from typing import Any

from nicegui import ui

from velib.page import address
from velib.page.moment import Moment
from velib.page.text import Words

SPEEDS = (1, 5, 20)  # snapshots a second


class Player:
    """Chooses the moment that the page shows, by mouse, touch or keyboard."""

    def __init__(self, moment: Moment, words: Words, on_change: Callable[[], None]) -> None:
        """`on_change` is called when the reader chooses another moment."""
        self.moment, self.words, self.on_change = moment, words, on_change
        self.speed = SPEEDS[1]
        with ui.element("div").classes("bar player").props("role=group") as group:
            self.button = ui.button(on_click=self.toggle).props("flat round dense")
            self.slider = ui.slider(min=0, max=1).props(f'dense aria-label="{words("moment")}"')
            self.time = ui.label().classes("soft")
            speeds = {speed: words("speed", n=speed) for speed in SPEEDS}
            choice = ui.select(speeds, value=self.speed)
            choice.on_value_change(lambda event: self.choose_speed(event.value))
            name = words("speed_name")
            choice.props(f'dense borderless options-dense aria-label="{name}"').tooltip(name)
            self.live = ui.button(words("go_live"), on_click=self.follow)
            self.live.props("flat dense no-caps")
        group.props(f'aria-label="{words("player")}"')
        self.slider.props(f"aria-describedby={self.time.html_id}")
        # The event's own value: new totals may have set the slider back since the reader moved it.
        self.slider.on("update:model-value", lambda event: self.seek(event.args), throttle=0.1)
        self.slider.on("keydown.space.prevent", self.toggle)

    def show(self) -> None:
        moment, words = self.moment, self.words
        last, index = len(moment.state.snapshots()) - 1, moment.index()
        self.slider.props(f"max={max(1, last)}")
        self.slider.set_value(index if last > 0 else 1)
        self.slider.set_enabled(last > 0)
        # The badge shows the date.
        self.time.set_text(words.time(moment.snapshot, moment.snapshot) if last >= 0 else "")
        self.button.props(f"icon={'pause' if moment.speed else 'play_arrow'}")
        self.button.props(f'aria-label="{words("pause" if moment.speed else "play")}"')
        self.live.set_enabled(not moment.is_live)

    def seek(self, index: Any) -> None:
        """Show the snapshot at a position of the slider, paused unless it is the last one."""
        if isinstance(index, int):  # a browser may send anything
            self.moment.play(0, time.time())
            self.moment.go_to(index)
            self.changed()

    def toggle(self) -> None:
        """Play, or pause."""
        self.moment.play(0 if self.moment.speed else self.speed, time.time())
        self.changed()

    def follow(self) -> None:
        """Show the newest snapshot, and each that follows."""
        self.moment.chosen = self.moment.speed = 0
        self.changed()

    def choose_speed(self, speed: Any) -> None:
        if speed in SPEEDS:
            self.speed = speed
            if self.moment.speed:
                self.moment.play(speed, time.time())

    def advance(self) -> None:
        """If playing, show what is due. Meanwhile the address keeps the moment at which playing
        began, because browsers limit how often it may change; it is cleared once the page is live.
        """
        if self.moment.advance(time.time()):
            self.on_change()
            if self.moment.is_live:
                address.keep("at", "", in_history=False)

    def changed(self) -> None:
        address.keep("at", self.moment.chosen or "", in_history=False)
        self.on_change()
