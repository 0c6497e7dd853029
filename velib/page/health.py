"""The health of the pipeline: what each part does, derived from times, offsets and groups."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from nicegui import ui

from velib.feed import api
from velib.page.state import DAY, DeadLetter, PipelineState, commonest_reason
from velib.page.text import Words, readable

PARTS = ("kafka", "feed", "producer", "job", "dead_letters")
OVERDUE = api.TIMEOUT + 5  # seconds: the longest poll, and a few more for Kafka and the job
JOB_PAUSE = 20  # seconds without a total after which a job with records to read has stalled
LAST_DEAD_LETTERS = 3


class Level(IntEnum):
    """How bad a finding is."""

    GOOD = 0
    WARNING = 1
    BAD = 2


ICONS = {Level.GOOD: "check_circle", Level.WARNING: "error", Level.BAD: "cancel"}


class Age(NamedTuple):
    """How long ago a time was."""

    time: float  # epoch seconds


class Time(NamedTuple):
    """A time of day."""

    time: float  # epoch seconds


Values = Mapping[str, float | str | Age | Time]


@dataclass(frozen=True)
class Finding:
    """What is known about a part: the name of a text (velib/page/text.py) and its values."""

    part: str
    level: Level
    text: str
    values: Values = field(default_factory=dict)


def findings(state: PipelineState, now: float) -> list[Finding]:
    """A finding for each of PARTS; `now` in epoch seconds."""
    if not state.is_kafka_up:
        unknown = [Finding(part, Level.WARNING, "unknown") for part in ("feed", "producer", "job")]
        return [Finding("kafka", Level.BAD, "kafka_away"), *unknown, _dead_letters(state, now)]
    return [
        Finding("kafka", Level.GOOD, "kafka_up"),
        _feed(state, now),
        _producer(state, now),
        _job(state, now),
        _dead_letters(state, now),
    ]


def worst(found: list[Finding]) -> Finding:
    """The first of the worst findings: it names the cause, the later parts only the effects."""
    return max(found, key=lambda finding: finding.level)


def age_level(state: PipelineState, age: float) -> Level:
    """How bad it is that a snapshot of this age (seconds) is the newest."""
    if age < max(OVERDUE, 3 * state.interval()):
        return Level.GOOD
    return Level.WARNING if age < max(3 * OVERDUE, 10 * state.interval()) else Level.BAD


def sentence(finding: Finding, words: Words, now: float) -> str:
    """A finding in words; `now` in epoch seconds."""
    values: dict[str, str] = {}
    for name, value in finding.values.items():
        if isinstance(value, str):
            values[name] = readable(value)
        elif isinstance(value, Time):
            values[name] = words.time(value.time, now)
        elif isinstance(value, Age):
            values[name] = words.age(now - value.time)
        else:
            values[name] = words.number(value)
    return words(finding.text, **values)


def _feed(state: PipelineState, now: float) -> Finding:
    if not state.raw_snapshot:
        return Finding("feed", Level.WARNING, "feed_empty")
    level = age_level(state, now - state.raw_snapshot)
    if level is Level.GOOD:
        return Finding("feed", level, "feed_moves", {"seconds": state.interval()})
    if state.producers == 0:
        level = Level.WARNING  # nothing polls the feed, so it may well have a new one
    return Finding("feed", level, "feed_old", {"since": Time(state.raw_snapshot)})


def _producer(state: PipelineState, now: float) -> Finding:
    level = age_level(state, now - state.raw_snapshot)
    values: Values = {"number": state.producers or 0, "published": Age(state.raw_published_at)}
    if state.producers == 0:
        # `kafka_project.py --once`, run repeatedly, is not a member between two runs.
        is_overdue = state.raw_snapshot and level is not Level.GOOD
        return Finding("producer", Level.BAD if is_overdue else Level.WARNING, "producer_none")
    if not state.raw_published_at:
        return Finding("producer", Level.WARNING, "producer_unseen")
    if state.producers is None:
        return Finding("producer", level, "producer_unknown", values)
    text = "producer_one" if state.producers == 1 else "producer_several"
    return Finding("producer", Level.GOOD, text, values)


def _job(state: PipelineState, now: float) -> Finding:
    """The job itself is not asked: it has stalled if raw records have waited for a total too long.

    So a job that stops while there is nothing to read is noticed after the next snapshot.
    """
    waiting = state.waiting()
    pause = now - state.waiting_since if waiting and state.waiting_since else 0.0
    # A snapshot without a selected station has no totals.
    if pause > JOB_PAUSE and state.selected_stations():
        values: Values = {"records": waiting, "since": Time(state.waiting_since)}
        return Finding("job", Level.BAD, "job_stalled", values)
    if not state.newest_snapshot:
        return Finding("job", Level.WARNING, "job_unseen")
    values = {"records": waiting, "written": Age(state.total_written_at)}
    is_behind = waiting > 2 * max(len(state.stations), 1)
    return Finding("job", Level.WARNING if is_behind else Level.GOOD, "job_runs", values)


def _dead_letters(state: PipelineState, now: float) -> Finding:
    letters = state.dead_letters_since(now - DAY)
    if not letters:
        return Finding("dead_letters", Level.GOOD, "dead_letters_none")
    values: Values = {"number": len(letters), "reason": commonest_reason(letters)}
    return Finding("dead_letters", Level.WARNING, "dead_letters_some", values)


class HealthCard:
    """A line for each part, and the latest dead letters below."""

    def __init__(self, state: PipelineState, words: Words) -> None:
        self.state, self.words = state, words
        self.shown: list[DeadLetter] = []
        with ui.element("section").classes("health").props("id=health"):
            ui.label(words("health")).props("role=heading aria-level=2").classes("name")
            with ui.element("div").classes("findings"):
                self.lines = {part: Line(words(part), part) for part in PARTS}
            label = words("last_dead_letters")
            self.dead_letters = ui.element("ul").props(f'aria-label="{label}"')

    def show(self, found: list[Finding]) -> None:
        now = time.time()
        for finding in found:
            level_name = self.words(finding.level.name.lower())
            text = sentence(finding, self.words, now)
            self.lines[finding.part].show(finding.level, level_name, text)
        letters = self.state.last_dead_letters(LAST_DEAD_LETTERS, now - DAY)
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
    """An icon, the name of a part of the pipeline, and what it does."""

    def __init__(self, name: str, part: str) -> None:
        with ui.element("div").classes("finding").props(f"data-part={part}"):
            self.icon = ui.icon("hourglass_empty").props("role=img aria-hidden=false")
            ui.label(name)
            self.text = ui.label().classes("soft")

    def show(self, level: Level, level_name: str, text: str) -> None:
        self.icon.set_name(ICONS[level])
        self.icon.props(f'aria-label="{level_name}"')
        self.icon.classes(replace=level.name.lower())
        self.text.set_text(text)
