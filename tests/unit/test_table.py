"""What the live table shows, without Kafka and without a terminal."""

import io
import logging
import re
import time
from threading import Event
from typing import Any

import pytest
from rich.console import Console

from config import Settings
from tests import PROJECT
from tests.expected import total
from velib.kafka.reader import Reader
from velib.runtime import local_time
from velib.totals import table
from velib.totals.areas import areas

NOW = int(time.time())


def live_table(*totals: dict[str, Any], sort: str = "postal_code") -> table.LiveTable:
    live = table.LiveTable(sort)
    for each in totals:
        live.add(each)
    return live


def shown(live: table.LiveTable, width: int = 100, height: int = 30) -> list[str]:
    """The lines in a window of this size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    console.set_alt_screen()
    lines = console.render_lines(live, pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def rows(lines: list[str]) -> dict[str, list[str]]:
    """The words of each row, by postal code; `all` is the sum."""
    found = (line.split() for line in lines if re.match(r"(\d{5}|all  ) ", line))
    return {words[0]: words for words in found}


def log_line(live: table.LiveTable, text: str, level: int = logging.WARNING) -> None:
    name = logging.getLevelName(level)
    live.log.emit(logging.makeLogRecord({"levelno": level, "levelname": name, "msg": text}))


@pytest.mark.parametrize("width", [40, 80, 300])
@pytest.mark.parametrize("height", [10, 24, 200])
def test_the_table_is_never_larger_than_the_window(width: int, height: int) -> None:
    live = live_table(*[total(code, NOW - age, 10**30) for age in (60, 0) for code in areas()])
    log_line(live, "x" * 500)
    lines = shown(live, width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= height


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (98, "code name bikes change mech. elec. docks full"),
        (80, "code name bikes change mech. elec. docks full"),
        (75, "code name bikes change mech. docks full"),
        (60, "code name bikes change docks full"),
        (30, "code bikes change full"),
        (10, "code"),
    ],
)
def test_a_narrow_window_has_the_most_important_columns(width: int, headings: str) -> None:
    columns = table.fitting_columns(width)
    assert " ".join(column.heading for column in columns).strip() == headings
    assert ("█" in shown(live_table(total("75016", NOW)), width)[2]) == (width == 98)


def test_rows_that_do_not_fit_are_counted() -> None:
    lines = shown(live_table(*[total(code, NOW) for code in sorted(areas())]), height=12)
    assert list(rows(lines)) == ["all", *sorted(areas())[:8]]
    assert lines[-1] == "81 rows hidden: enlarge the window"


def test_the_change_is_since_the_previous_snapshot() -> None:
    live = live_table(total("75016", NOW - 60, 10), total("75011", NOW - 60, 10))
    assert rows(shown(live))["75016"][3:5] == ["10", "10"]  # bikes, mechanical ones
    live.add(total("75016", NOW, 7))
    live.add(total("75016", NOW, 12))  # replaces the previous total
    live.add(total("75016", NOW - 60, 99))  # the job counted an older snapshot again
    live.add(total("75011", NOW, 10))
    assert rows(shown(live))["75016"][3:5] == ["12", "+2"]
    assert rows(shown(live))["75011"][3:5] == ["10", "0"]
    assert rows(shown(live))["all"][1:3] == ["22", "+2"]


def test_a_total_of_an_older_snapshot_is_dimmed_and_not_in_the_sum() -> None:
    live = live_table(total("75016", NOW, 7, 2), total("75011", NOW - 60, 10))
    lines = shown(live)
    assert re.sub(r"0:\d\d:\d\d old", "0:00:00 old", lines[0]) == (
        f"Snapshot of {local_time(NOW)}, 0:00:00 old: 1 stations in 1 postal codes; 1 older, dimmed"
    )
    assert rows(lines)["all"][:6] == ["all", "7", "5", "2", "9", "43%"]
    console = Console(file=io.StringIO(), width=100, height=10, force_terminal=True)
    console.set_alt_screen()
    dim = {
        segment.text.strip()
        for line in console.render_lines(live)
        for segment in line
        if segment.style and segment.style.dim
    }
    assert "75011" in dim
    assert "75016" not in dim


@pytest.mark.parametrize(
    ("bikes", "docks", "fill"), [(0, 0, "0%"), (0, 5, "0%"), (5, 0, "100%"), (1, 2, "33%")]
)
def test_the_fill_is_a_percentage(bikes: int, docks: int, fill: str) -> None:
    live = live_table(total("75016", NOW, bikes, docks=docks))
    assert rows(shown(live))["75016"][7] == fill


def test_rows_are_sorted_by_each_key() -> None:
    totals = [
        total("75001", NOW, 10, docks=0),
        total("75002", NOW, 30, docks=70),
        total("75003", NOW, 20, docks=20),
        total("75004", NOW, 0, docks=0),
    ]
    orders = {
        sort: list(rows(shown(live_table(*totals, sort=sort))))[1:] for sort in table.SORT_KEYS
    }
    assert orders == {
        "postal_code": ["75001", "75002", "75003", "75004"],
        "bikes": ["75002", "75003", "75001", "75004"],
        "fill": ["75001", "75003", "75002", "75004"],
    }


def test_before_the_first_total_the_whole_log_is_shown_then_the_last_warnings() -> None:
    live = live_table()
    for number in range(5):
        log_line(live, f"warning {number}")
        log_line(live, f"note {number}", logging.INFO)
    assert shown(live)[0] == "No totals yet"
    assert [line.split(maxsplit=1)[1] for line in shown(live, height=4)[1:]] == [
        "INFO    note 3",
        "WARNING warning 4",
        "INFO    note 4",
    ]
    live.add(total("75016", NOW))
    assert [line.split(maxsplit=1)[1] for line in shown(live)[-3:]] == [
        "WARNING warning 2",
        "WARNING warning 3",
        "WARNING warning 4",
    ]


def test_a_log_line_is_shown_as_it_is_and_cannot_move_the_terminal() -> None:
    live = live_table(total("75016", NOW))
    log_line(live, "[red]x[/red] :smile: \x1b[2J\n")
    assert shown(live)[-1].endswith("WARNING [red]x[/red] :smile: \\u001b[2J\\n")


def test_the_table_says_that_kafka_does_not_answer() -> None:
    live = live_table()
    live.reader = Reader(Settings(), "velib-projet-final-data", Event())
    assert shown(live) == ["No totals yet"]
    live.reader.is_away = True
    assert shown(live) == ["No totals yet  Kafka does not answer"]


@pytest.mark.parametrize("name", ["README.md", "README.fr.md"])
def test_the_readme_shows_the_table_as_it_is(name: str) -> None:
    readme = (PROJECT / name).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    row = r"^(\d{5})  .*? +([\d,]+) +([+-]?\d+) +[\d,]+ +([\d,]+) +([\d,]+) +\d+%"
    live = live_table()
    for postal_code, *numbers in re.findall(row, block, re.MULTILINE):
        bikes, change, ebikes, docks = (int(number.replace(",", "")) for number in numbers)
        live.add(total(postal_code, NOW - 10, bikes - change))
        live.add(total(postal_code, NOW, bikes, ebikes, docks))
    lines = block.splitlines()
    assert lines[3] == shown(live)[1]  # the headings, below the day and the snapshot
    assert len(lines[5:-1]) == 2
    assert lines[5:-1] == shown(live)[3:]
