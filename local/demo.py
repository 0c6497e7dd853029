"""The whole pipeline in one terminal: the real scripts, and stand-ins for the outside world.

    python -m local.demo           a Kafka of its own, the feed of a real day, every station
    python -m local.demo --live    the live feed and the settings of the environment; every station
                                   unless VELIB_STATIONS is set, and a Kafka of its own unless
                                   KAFKA_BOOTSTRAP_SERVERS is set

In a terminal it shows the live table of the totals, and below it what needs attention. Elsewhere
the totals go to stdout and the log of each part to stderr. The logs are also kept in `.velib/logs`.
"""

import argparse
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event, Thread
from typing import IO

import config
import consumer
from local.broker import free_port
from local.day import Day
from local.processes import stop
from local.simulator import newest
from velib import runtime
from velib.errors import Failure
from velib.locks import locked
from velib.runtime import in_thread, log, printable
from velib.totals import table
from velib.totals.table import LiveTable

LOGS = Path(".velib/logs")
DEMO = Path(".velib/demo")
SCRIPTS = {"producer": ["kafka_project.py"], "spark": ["spark.py"]}
DASHBOARD_PORT = 8080  # if it is free
FIRST_BATCH_TIMEOUT = 30.0  # seconds
PERIOD = 10  # seconds between two snapshots of the day
CONSUMER_TIMEOUT = 5.0  # seconds the consumer is given to stop


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.demo", description="The whole pipeline in one terminal."
    )
    parser.add_argument(
        "--live", action="store_true", help="the live feed and the settings of the environment"
    )
    arguments = parser.parse_args()
    settings = config.load()
    in_use = "A demo runs in this folder already: stop that one first"
    # Two demos in one folder would mix their logs and records. Ctrl-C is the usual end: if the
    # status were 130, make would print an error.
    with locked(LOGS, in_use), suppress(KeyboardInterrupt):
        if arguments.live:
            if "stations" not in settings.model_fields_set:
                os.environ["VELIB_STATIONS"] = config.ALL  # else most of the map would be empty
            run(live_commands(settings))
        else:
            shutil.rmtree(DEMO, ignore_errors=True)  # the topics of each demo begin empty
            broker_port, feed_port = free_port(), free_port()
            os.environ |= demo_environment(settings, broker_port, feed_port)
            day = Day(period=PERIOD, start=newest(PERIOD))
            run(demo_commands(day, broker_port, feed_port), day.describe)


def live_commands(settings: config.Settings) -> dict[str, list[str]]:
    """Python's arguments for each part that starts before the consumer, by its name."""
    uses_own_kafka = "bootstrap_servers" not in settings.kafka.model_fields_set
    return ({"broker": ["-m", "local.broker"]} if uses_own_kafka else {}) | SCRIPTS


def demo_commands(day: Day, broker_port: int, feed_port: int) -> dict[str, list[str]]:
    """The same for the demo."""
    kafka = ["--port", str(broker_port), "--data-dir", str(DEMO / "kafka")]
    feed = ["--port", str(feed_port), "--period", str(day.period), "--start", str(day.start)]
    return {
        "broker": ["-m", "local.broker", *kafka],
        "feed": ["-m", "local.simulator", *feed],
    } | SCRIPTS


def demo_environment(settings: config.Settings, broker_port: int, feed_port: int) -> dict[str, str]:
    """The settings of the demo: the defaults in place of the user's, except for the cache."""
    defaults = {
        variable: "" if field.default is None else str(field.default)
        for variable, field in config.variables().items()
    }
    return defaults | {
        "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{broker_port}",
        "VELIB_API_URL": f"http://localhost:{feed_port}",
        "VELIB_POLL_SECONDS": str(PERIOD),
        "VELIB_STATIONS": config.ALL,
        "VELIB_CACHE_DIR": str(settings.cache_dir),
        "VELIB_CHECKPOINT_DIR": str(DEMO / "checkpoint"),
        # In its first minutes Java's optimizing compiler costs more than it saves: half of the
        # start-up time.
        "JAVA_TOOL_OPTIONS": f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} -XX:TieredStopAtLevel=1",
    }


def run(commands: dict[str, list[str]], describe: Callable[[int], str] | None = None) -> None:
    """Run these parts, the consumer and the dashboard until Ctrl-C; raises Failure when one ends.

    They may start in any order, because they wait for each other. `describe`: see LiveTable.
    """
    port = free_port(DASHBOARD_PORT)
    where = f"The map is at http://localhost:{port}, the logs are in {LOGS}"
    log.info("Starting %s, consumer, dashboard; Ctrl-C stops everything", ", ".join(commands))
    log.info("%s", where)
    is_terminal = table.can_be_shown() and sys.stderr is not None and sys.stderr.isatty()
    parts = Parts(LiveTable(title=where, describe=describe) if is_terminal else None)
    try:
        for name, arguments in commands.items():
            parts.start(name, arguments)
        deadline = time.monotonic() + FIRST_BATCH_TIMEOUT
        while not (ended := parts.ended()):
            # Until its first batch is done the job needs the whole processor.
            if "dashboard" not in parts.processes and (
                "records in" in _log_file("spark").read_text() or time.monotonic() > deadline
            ):
                parts.start("dashboard", ["dashboard.py", "--port", str(port)])
            time.sleep(0.2)
    finally:
        parts.stop()
        log.info("Everything is stopped, the logs are in %s", LOGS)
    raise Failure(f"Stopped, because a part ended by itself: {ended}. See {_log_file(ended)}")


class Parts:
    """The processes of the pipeline, and the consumer, which runs in this one.

    The log lines of the processes are copied to files, and shown on stderr or in the table.
    """

    def __init__(self, live_table: LiveTable | None) -> None:
        self.live_table = live_table
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.log_copiers: dict[str, Thread] = {}
        self.stopping = Event()
        options = consumer.parse_options([])
        self.consumer = in_thread(lambda: consumer.main(options, live_table, self.stopping))
        runtime.suspend_within(self._suspended)

    def start(self, name: str, arguments: list[str]) -> None:
        """Start a process with the name of its part."""
        log_file = _log_file(name).open("w", buffering=1, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # signals of the terminal reach the demo, which passes them on
        )
        copier = Thread(target=self._copy_log, args=(name, process.stderr, log_file), daemon=True)
        copier.start()
        self.processes[name], self.log_copiers[name] = process, copier

    def _copy_log(self, name: str, lines: IO[str], log_file: IO[str]) -> None:
        """Write the log of a part to its file, and show it with its name before each line."""
        with log_file:
            for line in lines:
                log_file.write(line)
                shown = f"{name:>9} | {printable(line.rstrip())}"
                if self.live_table:
                    # A line without a level, such as one of a traceback, is an error.
                    is_info = re.match(r"[\d:]{8} INFO ", line)
                    self.live_table.log.add(logging.INFO if is_info else logging.ERROR, shown)
                else:
                    with suppress(OSError):  # the terminal is gone
                        print(shown, file=sys.stderr)

    def ended(self) -> str:
        """The name of a part that has ended, "" if all run. Raises the exception with which the
        consumer has ended.
        """
        if self.consumer.done():
            self.consumer.result()
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.log_copiers[name].join(1)
                return name
        return ""

    @contextmanager
    def _suspended(self) -> Iterator[None]:
        """Give the terminal back and suspend the processes while the block runs."""
        with self.live_table.hidden() if self.live_table else nullcontext():
            self._send(signal.SIGSTOP)
            try:
                yield
            finally:
                self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        """Send a signal to the processes and to those that they have started."""
        for process in self.processes.values():
            with suppress(ProcessLookupError, PermissionError):  # it has ended
                os.killpg(process.pid, number)

    def stop(self) -> None:
        """Stop the consumer, which gives the terminal back, then the processes: Kafka last, because
        the others need it to finish.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
        self.stopping.set()
        futures.wait([self.consumer], CONSUMER_TIMEOUT)
        others = [process for name, process in self.processes.items() if name != "broker"]
        stop("A part of the pipeline", others)
        stop("Kafka", self.processes.values())
        self._send(signal.SIGKILL)  # what they have left behind


def _log_file(name: str) -> Path:
    return LOGS / f"{name}.log"


if __name__ == "__main__":
    runtime.run_tool(main)
