"""What the live table shows, without Kafka and without a terminal."""

import io
import logging
import re
import time
from typing import Any

import pytest
from rich.console import Console

from tests import PROJECT
from tests.expected import total
from velib.totals import table
from velib.totals.areas import areas

NOW = int(time.time())


def live_table(*totals: dict[str, Any], sort: str = "postal_code") -> table.LiveTable:
    one = table.LiveTable(sort, lambda: False)
    for each in totals:
        one.add(each)
    return one


def shown(one: table.LiveTable, width: int = 100, height: int = 30) -> list[str]:
    """The lines in a window of this size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    console.set_alt_screen()
    lines = console.render_lines(one, pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def rows(lines: list[str]) -> dict[str, list[str]]:
    """The words of each row, by postal code."""
    return {line[:5]: line.split() for line in lines if line[:5].isdecimal()}


@pytest.mark.parametrize("width", [1, 10, 20, 40, 61, 79, 80, 100, 300])
@pytest.mark.parametrize("height", [10, 24, 92, 200])
def test_the_table_is_never_larger_than_the_window(width: int, height: int) -> None:
    one = live_table(*[total(code, NOW - age, 10**30) for age in (60, 0) for code in areas()])
    log_line(one, "x" * 500)
    lines = shown(one, width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= height


def log_line(one: table.LiveTable, text: str, level: int = logging.WARNING) -> None:
    name = logging.getLevelName(level)
    one.log.emit(logging.makeLogRecord({"levelno": level, "levelname": name, "msg": text}))


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (100, "code name bikes change mech. elec. docks full"),
        (80, "code name bikes change mech. elec. docks full"),
        (70, "code name bikes change docks full"),
        (40, "code name bikes change full"),
        (30, "code bikes change full"),
        (10, "code"),
    ],
)
def test_a_narrow_window_has_fewer_columns(width: int, headings: str) -> None:
    columns = table.fitting_columns(width)
    assert " ".join(column.heading for column in columns).strip() == headings
    assert sum(columns.values()) + table.GAP * (len(columns) - 1) <= width


def test_what_does_not_fit_is_counted() -> None:
    lines = shown(live_table(*[total(code, NOW) for code in sorted(areas())]), height=12)
    assert list(rows(lines)) == sorted(areas())[:8]
    assert lines[-1] == "81 more do not fit into the window"


def test_the_change_is_since_the_snapshot_before() -> None:
    one = live_table(total("75016", NOW - 60, 10), total("75011", NOW - 60, 10))
    assert one.rows["75016"].change is None
    one.add(total("75016", NOW, 7))
    one.add(total("75016", NOW, 12))  # replaces the total before
    one.add(total("75016", NOW - 60, 99))  # the job counted an older snapshot again
    one.add(total("75011", NOW, 10))
    assert rows(shown(one))["75016"][3:5] == ["12", "+2"]
    assert rows(shown(one))["75011"][3:5] == ["10", "0"]


def test_a_total_of_an_older_snapshot_is_dimmed_and_not_in_the_sums() -> None:
    one = live_table(total("75016", NOW, 7, 2), total("75011", NOW - 60, 10))
    lines = shown(one)
    assert lines[1] == (
        "7 bikes (5 mechanical, 2 electric), 9 docks, 1 stations, 1 postal codes; 1 older, dimmed"
    )
    console = Console(file=io.StringIO(), width=100, height=10, force_terminal=True)
    console.set_alt_screen()
    dim = {
        segment.text.strip()
        for line in console.render_lines(one)
        for segment in line
        if segment.style and segment.style.dim
    }
    assert "75011" in dim
    assert "75016" not in dim


@pytest.mark.parametrize(
    ("bikes", "docks", "fill"),
    [(0, 0, None), (0, 5, 0), (5, 0, 100), (1, 2, 33), (-5, 8, 0), (10**40, 1, 99), (9, -5, 100)],
)
def test_the_fill_is_a_percentage_whatever_the_record_says(
    bikes: int, docks: int, fill: int | None
) -> None:
    one = live_table(total("75016", NOW, bikes, docks=docks))
    assert one.rows["75016"].fill == fill
    assert shown(one)


def test_the_orders() -> None:
    totals = [
        total("75001", NOW, 10, docks=0),
        total("75002", NOW, 30, docks=70),
        total("75003", NOW, 20, docks=20),
        total("75004", NOW, 0, docks=0),
    ]
    orders = {sort: list(rows(shown(live_table(*totals, sort=sort)))) for sort in table.SORT_KEYS}
    assert orders == {
        "postal_code": ["75001", "75002", "75003", "75004"],
        "bikes": ["75002", "75003", "75001", "75004"],
        "fill": ["75001", "75003", "75002", "75004"],
    }


def test_before_the_first_total_the_whole_log_is_shown_then_the_last_warnings() -> None:
    one = live_table()
    for number in range(5):
        log_line(one, f"warning {number}")
        log_line(one, f"note {number}", logging.INFO)
    assert shown(one)[0] == "No totals yet"
    assert [line.split(maxsplit=1)[1] for line in shown(one, height=4)[1:]] == [
        "INFO    note 3",
        "WARNING warning 4",
        "INFO    note 4",
    ]
    one.add(total("75016", NOW))
    assert [line.split(maxsplit=1)[1] for line in shown(one)[-3:]] == [
        "WARNING warning 2",
        "WARNING warning 3",
        "WARNING warning 4",
    ]


def test_a_log_line_is_shown_as_it_is_and_cannot_move_the_terminal() -> None:
    one = live_table(total("75016", NOW))
    log_line(one, "[red]x[/red] :smile: \x1b[2J\n")
    assert shown(one)[-1].endswith("WARNING [red]x[/red] :smile: \\u001b[2J\\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert table.duration(seconds) == text


@pytest.mark.parametrize("name", ["README.md", "README.fr.md"])
def test_the_readme_shows_the_table_as_it_is(name: str) -> None:
    readme = (PROJECT / name).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    row = r"^(\d{5})  .*? +(\d+) +([+-]?\d+) +\d+ +(\d+) +(\d+) +\d+%"
    one = live_table()
    for postal_code, *numbers in re.findall(row, block, re.MULTILINE):
        bikes, change, ebikes, docks = map(int, numbers)
        one.add(total(postal_code, NOW - 10, bikes - change))
        one.add(total(postal_code, NOW, bikes, ebikes, docks))
    heading_and_rows = block.splitlines()[3:-1]
    assert len(heading_and_rows) == 8
    assert shown(one)[2:] == heading_and_rows
