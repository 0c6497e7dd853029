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

from tests.pipeline import QUICK_START, Script, checkout, wait_until
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


def test_the_demo_shows_totals_and_stops_without_leaving_anything(tmp_path: Path) -> None:
    demo = Script("-m", "local.demo", folder=checkout(tmp_path), environment={})
    try:
        wait_until(lambda: len(demo.printed()) >= 89, "totals of the whole network")
        address = re.search(r"The map is at (http://localhost:\d+), ", demo.log())
        assert address
        wait_until(lambda: serves(address[1]), "the page")
        assert demo.stop(signal.SIGINT) in (0, 130)
    finally:
        demo.kill()
    assert "Traceback" not in demo.log()
    assert demo.log().endswith("INFO    Everything is stopped, the logs are in .velib/logs\n")
    assert {path.name for path in (tmp_path / ".velib" / "logs").iterdir()} >= {
        "broker.log",
        "consumer.log",
        "dashboard.log",
        "feed.log",
        "producer.log",
        "spark.log",
    }
    assert _processes_in(tmp_path) == []


def test_the_demo_stops_and_logs_which_part_died(tmp_path: Path) -> None:
    demo = Script("-m", "local.demo", folder=checkout(tmp_path), environment={})
    try:
        demo.wait_for("producer | ")
        (producer,) = [p for p in _processes_in(tmp_path) if "kafka_project.py" in p.cmdline()]
        producer.kill()
        assert demo.end() == 1
    finally:
        demo.kill()
    assert "The producer ended (status -9). The end of .velib/logs/producer.log:" in demo.log()
    assert _processes_in(tmp_path) == []


def test_in_a_terminal_the_demo_shows_a_table_and_what_needs_attention(tmp_path: Path) -> None:
    command = f"echo before; {sys.executable} -m local.demo; echo status $?"
    terminal = Terminal(command, checkout(tmp_path), QUICK_START)
    try:
        terminal.wait_for("No totals yet")
        terminal.wait_for("broker: Kafka serves on localhost:")
        kafka = re.search(r"Kafka serves on (localhost:\d+)", terminal.text())
        assert kafka
        terminal.wait_for("spark: Spark 4")
        terminal.wait_for("89 postal codes")
        first, second, *_ = terminal.lines()
        assert re.match(r"The map is at http://localhost:\d+, the logs are in .velib/logs", first)
        assert second.startswith("Snapshot of ")
        assert terminal.row("75001")
        assert "Spark 4" not in terminal.text()
        terminal.wait_for(" +")  # the next snapshot

        with KafkaProducer(bootstrap_servers=kafka[1]) as producer:
            producer.send("velib-projet", value=b"not JSON")
        terminal.wait_for("1 dead letters, most of them:")
        terminal.type("\x03")
        terminal.wait_for("Everything is stopped, the logs are in .velib/logs")
        terminal.wait_for("status 130")
    finally:
        for process in _processes_in(tmp_path):
            process.kill()
        terminal.kill()
    assert terminal.lines()[0] == "before"
    assert "1 dead letters, most of them:" in terminal.text()
    assert "75001" not in terminal.text()
    assert "Traceback" not in terminal.text()
    assert terminal.screen.has_cursor()
    assert not terminal.screen.is_alternate()
    assert _processes_in(tmp_path) == []
