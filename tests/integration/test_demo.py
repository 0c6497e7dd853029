"""The whole pipeline in one terminal, as `make demo` starts it."""

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import requests
from kafka import KafkaProducer

from local.demo import LOGS
from tests.pipeline import Script, checkout, wait_until
from tests.terminal import Terminal


def serves(address: str) -> bool:
    """Whether a page is there."""
    with suppress(requests.RequestException):
        return requests.get(address, timeout=5).ok
    return False


def _processes_in(folder: Path) -> list[psutil.Process]:
    """The processes that run in a folder, without the demo itself and the tests."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_ours = process.pid == os.getpid() or "local.demo" in process.cmdline()
            if Path(process.cwd()).is_relative_to(folder) and not is_ours:
                found.append(process)
    return found


def test_the_demo_prints_totals_and_stops_without_leaving_anything(tmp_path: Path) -> None:
    demo = Script("-m", "local.demo", folder=checkout(tmp_path), environment={})
    try:
        wait_until(lambda: len(demo.printed()) >= 87, "totals of the whole network")
        address = re.search(r"The map is at (http://localhost:\d+), ", demo.log())
        assert address
        wait_until(lambda: serves(address[1]), "the page")
        assert demo.stop(signal.SIGINT) == 0
    finally:
        demo.kill()
    assert "Traceback" not in demo.log()
    assert re.search(r"feed \| [\d:]{8} INFO    Thursday 7 November 2024, 0[89]:\d\d\n", demo.log())
    assert demo.log().endswith("INFO    Everything is stopped, the logs are in .velib/logs\n")
    assert {path.name for path in (tmp_path / ".velib" / "logs").iterdir()} >= {
        "broker.log",
        "dashboard.log",
        "feed.log",
        "producer.log",
        "spark.log",
    }
    assert _processes_in(tmp_path) == []


def test_in_a_terminal_the_demo_shows_a_table_stops_on_ctrl_z_and_ends_when_a_part_dies(
    tmp_path: Path,
) -> None:
    terminal = Terminal("exec bash --norc -i", checkout(tmp_path))
    try:
        terminal.type(f"clear; {sys.executable} -m local.demo\n")
        terminal.wait_for("No totals yet")
        terminal.wait_for("broker | ")
        terminal.wait_for("INFO    Spark 4")
        terminal.wait_for("87 postal codes")
        first, day, second, *_ = terminal.lines()
        assert re.match(r"The map is at http://localhost:\d+, the logs are in .velib/logs", first)
        assert re.fullmatch(r"Thursday 7 November 2024, \d\d:\d\d", day)
        assert f"INFO    {day}\n" in (tmp_path / LOGS / "feed.log").read_text()
        assert second.startswith("Snapshot of ")
        assert terminal.row("75001")
        assert "Spark 4" not in terminal.text()

        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        assert not terminal.screen.is_alternate()
        assert terminal.screen.has_cursor()
        parts = [p for p in _processes_in(tmp_path) if p.pid != terminal.shell.pid]
        assert parts
        wait_until(
            lambda: {part.status() for part in parts} == {psutil.STATUS_STOPPED},
            "every part is suspended",
        )
        terminal.type("fg; echo status $?\n")
        terminal.wait_for("87 postal codes")
        wait_until(lambda: terminal.lines()[1] > day, "the next snapshot")

        kafka = re.search(
            r"Kafka listens on (localhost:\d+)", (tmp_path / LOGS / "broker.log").read_text()
        )
        assert kafka
        with KafkaProducer(bootstrap_servers=kafka[1]) as producer:
            producer.send("velib-projet", value=b"not JSON")
        terminal.wait_for("1 dead letter: ")
        (producer_part,) = [p for p in _processes_in(tmp_path) if "kafka_project.py" in p.cmdline()]
        producer_part.kill()
        terminal.wait_for("status 1")
    finally:
        terminal.kill()
    reason = "Stopped, because a part ended by itself: producer. See .velib/logs/producer.log"
    assert reason in terminal.text()
    assert "1 dead letter: " in terminal.text()
    assert "75001" not in terminal.text()
    assert "Traceback" not in terminal.text()
    assert terminal.screen.has_cursor()
    assert not terminal.screen.is_alternate()
    assert _processes_in(tmp_path) == []
