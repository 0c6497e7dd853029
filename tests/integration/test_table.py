"""The live table of the consumer, as a user sees it in a terminal."""

import re
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests import PROJECT
from tests.expected import total
from tests.pipeline import Pipeline, wait_until
from tests.terminal import Terminal
from velib.totals.areas import areas

NOW = int(time.time()) - 5
CONSUMER = f"{sys.executable} {PROJECT}/consumer.py --table"

Start = Callable[[], Terminal]


@pytest.fixture
def start(pipeline: Pipeline) -> Iterator[Start]:
    """Starts a shell in a terminal, with the settings of the consumer."""
    terminals: list[Terminal] = []

    def start() -> Terminal:
        environment = pipeline.environment | pipeline.user("consumer.py")
        terminals.append(Terminal("exec bash --norc -i", pipeline.folder, environment))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.kill()


def postal_codes(terminal: Terminal) -> list[str]:
    """The postal codes of the rows that the terminal shows."""
    return [line[:5] for line in terminal.lines() if re.match(r"\d{5}  \S", line)]


def assert_is_given_back(terminal: Terminal, *lines: str) -> None:
    """The terminal shows the shell again, with these lines."""
    for line in lines:
        terminal.wait_for(line)
    assert not terminal.screen.is_alternate()
    assert terminal.screen.has_cursor()
    assert "Snapshot of" not in terminal.text()


def test_the_table_changes_in_place_fits_the_window_and_gives_the_terminal_back(
    pipeline: Pipeline, start: Start
) -> None:
    everywhere = [total(postal_code, NOW - 60, 90, 50, 10) for postal_code in sorted(areas())]
    pipeline.write_totals(*everywhere)
    pipeline.write(pipeline.settings.final_topic, (b"75016", b"\x1b[2J"))
    terminal = start()
    # The size of the window counts, not what a shell has exported.
    terminal.type(f"export COLUMNS=300 LINES=200; {CONSUMER}\n")
    terminal.wait_for("89 stations in 89 postal codes")
    assert terminal.screen.is_alternate()
    assert not terminal.screen.has_cursor()
    assert re.match(r"Snapshot of .*, \d+:\d\d:\d\d old: ", terminal.lines()[0])
    assert terminal.row("all").startswith("all 8,010 3,560 4,450 890 90% █")
    assert terminal.row("75016").startswith("75016 Paris 16e 90 40 50 10 90% █")
    assert postal_codes(terminal) == sorted(areas())[:25]
    assert terminal.lines()[-2] == "64 rows hidden: enlarge the window"
    assert terminal.lines()[-1].endswith("Not a total, so ignored: b'\\x1b[2J'")

    pipeline.write_totals(total("75016", NOW, 92, 51, 8), total("75011", NOW, 89, 50, 11))
    terminal.wait_for("2 stations in 2 postal codes; 87 older, dimmed")
    assert terminal.row("all").startswith("all 181 +1 80 101 19 90% █")
    assert terminal.row("75016").startswith("75016 Paris 16e 92 +2 41 51 8 92% █")
    assert terminal.row("75011").startswith("75011 Paris 11e 89 -1 39 50 11 89% █")
    assert postal_codes(terminal) == sorted(areas())[:25]
    age = terminal.lines()[0][34:40]
    wait_until(lambda: terminal.lines()[0][34:40] != age, "the age ticks")

    terminal.resize(40, 20)
    wait_until(lambda: terminal.row("75001") == "75001 90 90%", "a narrow table")
    terminal.resize(200, 100)
    wait_until(lambda: len(postal_codes(terminal)) == 89, "all rows")
    assert "rows hidden" not in terminal.text()

    terminal.type("\x1a")
    assert_is_given_back(terminal, "Stopped")
    (process,) = psutil.Process(terminal.shell.pid).children()
    assert process.status() == psutil.STATUS_STOPPED
    terminal.type("fg; echo status $?\n")
    terminal.wait_for("87 older, dimmed")
    pipeline.write_totals(total("75012", NOW, 1))
    terminal.wait_for("86 older, dimmed")
    terminal.type("\x03")
    assert_is_given_back(terminal, "status 130", "Not a total, so ignored: b'\\x1b[2J'")
    assert "Traceback" not in terminal.text()


def test_a_crash_gives_the_terminal_back(start: Start) -> None:
    terminal = start()
    program = (
        "from threading import Event; from config import load; from velib.kafka.reader import"
        " Reader; from velib.totals.table import LiveTable\n"
        "with LiveTable().shown(Reader(load(), 'a', Event())): 1 / 0\n"
    )
    terminal.type(f'{sys.executable} -c "{program}"; echo status $?\n')
    terminal.wait_for("status 1")
    assert_is_given_back(terminal, "ZeroDivisionError")


def test_the_table_stays_when_the_consumer_ends_by_itself(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(*[total(f"7500{n}", NOW, 10 * n, docks=30) for n in range(1, 5)])
    terminal = start()
    chosen = " ".join(f"--postal-code 7500{n}" for n in (1, 2, 3))
    terminal.type(f"{CONSUMER} --sort fill {chosen} --max-messages 3; echo status $?\n")
    terminal.wait_for("status 0")
    assert not terminal.screen.is_alternate()
    assert postal_codes(terminal) == ["75003", "75002", "75001"]


def test_without_a_terminal_there_are_plain_lines(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(total("75016", NOW), total("75011", NOW))
    terminal = start()
    terminal.type(f"{CONSUMER} --max-messages 2 | cat; echo status $?\n")
    terminal.wait_for("status 0")
    assert terminal.text().count("5 bikes (   5 mechanical +    0 electric)") == 2
    assert not terminal.screen.is_alternate()
