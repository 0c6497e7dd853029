"""The live table of the consumer, as a user sees it in a terminal."""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from local.broker import free_port
from tests import PROJECT
from tests.expected import total
from tests.pipeline import Pipeline, wait_until
from tests.terminal import Terminal
from velib.totals.areas import areas

NOW = int(time.time()) - 5

Start = Callable[..., Terminal]


@pytest.fixture
def start(pipeline: Pipeline) -> Iterator[Start]:
    """Starts a Python command in a terminal, in which the word `before` stands already."""
    terminals: list[Terminal] = []

    def start(command: str = "consumer.py --table", **environment: str) -> Terminal:
        environment = pipeline.environment | pipeline.user("consumer.py") | environment
        shell_command = f"cd {PROJECT}; echo before; {sys.executable} {command}; echo status $?"
        terminals.append(Terminal(shell_command, pipeline.folder, environment))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.kill()


def postal_codes(terminal: Terminal) -> list[str]:
    """Those of the rows that the terminal shows."""
    return [line[:5] for line in terminal.lines() if line[:5].isdecimal()]


def consumer_of(terminal: Terminal) -> psutil.Process:
    """The process of the consumer that runs in a terminal."""
    (process,) = psutil.Process(terminal.shell.pid).children()
    return process


def assert_is_as_before(terminal: Terminal) -> None:
    """The terminal shows what it did, and the cursor, and that the consumer has ended."""
    terminal.wait_for("status ")
    assert terminal.lines()[0] == "before"
    assert terminal.screen.has_cursor()
    assert not terminal.screen.is_alternate()


def test_the_table_shows_the_totals_and_changes_in_place(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(
        total("75016", NOW - 60, 90, 40, 10),
        total("93200", NOW - 60, 30, 10, 90),
        total("75011", NOW - 60, 0, 0, 0),
    )
    terminal = start()
    terminal.wait_for(
        "120 bikes (70 mechanical, 50 electric), 100 docks, 3 stations, 3 postal codes"
    )
    first, *_ = terminal.lines()
    assert re.fullmatch(r"Snapshot of .*, \d+ (min|h) \d+ (s|min) old", first)
    assert terminal.row("75011") == "75011 Paris 11e 0 0 0 0"
    assert terminal.row("75016").startswith("75016 Paris 16e 90 50 40 10 90% █")
    assert terminal.row("93200").startswith("93200 Saint-Denis 30 20 10 90 25% █")
    places = [line[:5] for line in terminal.lines()[3:]]

    pipeline.write_totals(total("75016", NOW, 92, 41, 8), total("93200", NOW, 27, 10, 93))
    terminal.wait_for(
        "119 bikes -1 (68 mechanical, 51 electric), 101 docks, 2 stations, 2 postal codes; 1 older,"
    )
    assert terminal.row("75011") == "75011 Paris 11e 0 0 0 0"
    assert terminal.row("75016").startswith("75016 Paris 16e 92 +2 51 41 8 92% █")
    assert terminal.row("93200").startswith("93200 Saint-Denis 27 -3 17 10 93 22% █")
    assert [line[:5] for line in terminal.lines()[3:]] == places


def test_a_later_form_of_a_total_replaces_it_and_an_older_snapshot_does_not(
    pipeline: Pipeline, start: Start
) -> None:
    pipeline.write_totals(total("75016", NOW - 60, 10))
    terminal = start()
    terminal.wait_for("10 bikes")
    pipeline.write_totals(
        total("75016", NOW, 4), total("75016", NOW, 12), total("75016", NOW - 60, 99)
    )
    terminal.wait_for("12 bikes +2")
    pipeline.write_totals(total("75011", NOW, 5))
    terminal.wait_for("17 bikes +2")


def test_the_age_ticks(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(total("75016", int(time.time())))
    terminal = start()
    ages: set[str] = set()

    def ticks() -> bool:
        ages.update(re.findall(r", (\d s) old", terminal.text()))
        return len(ages) > 3

    wait_until(ticks, "four ages")


def test_the_table_fits_the_window_and_follows_its_size(pipeline: Pipeline, start: Start) -> None:
    everywhere = [total(postal_code, NOW, 100) for postal_code in sorted(areas())]
    pipeline.write_totals(*everywhere)
    terminal = start()
    terminal.wait_for("89 postal codes")
    terminal.wait_for("63 more do not fit into the window")
    shown = postal_codes(terminal)
    assert shown == sorted(areas())[:26]
    assert terminal.lines()[-1].startswith("63 more")

    terminal.resize(40, 20)
    wait_until(lambda: terminal.row("75001") == "75001 Paris 1er 100 91%", "a short row")
    terminal.wait_for("more do not fit")

    terminal.resize(200, 100)
    wait_until(
        lambda: len([line for line in terminal.lines() if line[:5].isdecimal()]) == 89, "all rows"
    )
    assert "do not fit" not in terminal.text()
    assert terminal.row("95100").startswith(f"95100 {areas()['95100']['name']} 100 ")

    terminal.resize(10, 3)
    terminal.resize(100, 30)
    terminal.wait_for("63 more do not fit into the window")


def test_the_rows_are_sorted_and_chosen(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(*[total(f"7500{n}", NOW, 10 * n, docks=30) for n in range(1, 5)])
    chosen = " ".join(f"--postal-code 7500{n}" for n in (1, 2, 3))
    terminal = start(f"consumer.py --table --sort fill {chosen}")
    terminal.wait_for("3 postal codes")
    assert postal_codes(terminal) == ["75003", "75002", "75001"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(pipeline: Pipeline, start: Start, number: int) -> None:
    pipeline.write_totals(total("75016", NOW))
    pipeline.write(pipeline.settings.final_topic, (b"75016", b"\x1b[2J"))
    terminal = start()
    terminal.wait_for("75016")
    terminal.wait_for("Not a total, so ignored: b'\\x1b[2J'")
    assert terminal.screen.is_alternate()
    assert not terminal.screen.has_cursor()
    if number == signal.SIGINT:
        terminal.type("\x03")
    else:
        consumer_of(terminal).send_signal(number)
    assert_is_as_before(terminal)
    assert f"status {130 if number == signal.SIGINT else 0}" in terminal.text()
    assert "Traceback" not in terminal.text()
    assert "75016" not in terminal.text()
    assert terminal.text().count("Not a total") == 1  # the warning is kept


def test_a_failure_and_a_crash_give_the_terminal_back(pipeline: Pipeline, start: Start) -> None:
    terminal = start(KAFKA_SASL_PASSWORD="wrong")
    assert_is_as_before(terminal)
    assert "does not know this KAFKA_SASL_USERNAME with this" in terminal.text()
    assert "status 1" in terminal.text()
    crash = "with table.LiveTable('bikes', bool).shown(): time.sleep(1); 1 / 0"
    terminal = start(f'-c "import time; from velib import table\n{crash}"')
    assert_is_as_before(terminal)
    assert "ZeroDivisionError" in terminal.text()


def test_the_table_stays_when_the_consumer_ends_by_itself(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(*[total(postal_code, NOW, 100) for postal_code in sorted(areas())])
    terminal = start("consumer.py --table --timeout-ms 5000")
    terminal.wait_for("status 0")
    assert not terminal.screen.is_alternate()
    assert "75002" not in terminal.text()  # it has more lines than the window
    assert terminal.row("95100")
    terminal = start("consumer.py --table --max-messages 2")
    terminal.wait_for("status 0")
    assert postal_codes(terminal) == sorted(areas())[:2]


def test_the_table_says_that_kafka_is_away(pipeline: Pipeline, start: Start) -> None:
    pipeline.use(f"localhost:{free_port()}")
    terminal = start()
    terminal.wait_for("Waiting for Kafka at localhost:")
    broker = pipeline.start_broker()
    pipeline.write_totals(total("75016", NOW))
    terminal.wait_for("75016")
    broker.kill()
    terminal.wait_for("old  Kafka does not answer")
    terminal.wait_for("does not answer: waiting for it")
    before = terminal.lines()[0]
    wait_until(lambda: terminal.lines()[0] != before, "the age ticks")
    assert terminal.row("75016")
    pipeline.start_broker()
    pipeline.write_totals(total("75016", NOW + 1, 6))
    terminal.wait_for("+1")
    wait_until(lambda: "old  Kafka does not answer" not in terminal.text(), "Kafka answers")


def test_without_a_terminal_there_are_plain_lines(pipeline: Pipeline, start: Start) -> None:
    pipeline.write_totals(total("75016", NOW), total("75011", NOW))
    options = ("--table", "--timeout-ms", "5000")
    script = pipeline.start("consumer.py", *options)
    assert script.end() == 0
    assert [line[:5] for line in script.printed()] == ["75011", "75016"]
    terminal = start("consumer.py --table --timeout-ms 5000 | cat")
    terminal.wait_for("status 0")
    assert terminal.text().count("5 bikes (   5 mechanical +    0 electric)") == 2
    assert terminal.output.count(b"\x1b") == 0
