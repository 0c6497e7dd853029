"""The whole pipeline in one terminal: the real scripts, and stand-ins for the outside world.

    python -m local.demo           a Kafka of its own, a simulated feed, every station
    python -m local.demo --live    the live feed and the settings of the environment; a Kafka of its
                                   own unless KAFKA_BOOTSTRAP_SERVERS is set

In a terminal it shows the live table of the totals, and below it what needs attention. Elsewhere
the totals go to stdout and the log of each part to stderr. The logs are kept in `.velib/logs`, too.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

import config
from local.broker import free_port
from velib import runtime
from velib.errors import Failure
from velib.locks import locked
from velib.runtime import log
from velib.totals import table

LOGS = Path(".velib/logs")
DEMO = Path(".velib/demo")
SCRIPTS = {"producer": ["kafka_project.py"], "spark": ["spark.py"]}
DASHBOARD_PORT = 8080  # if it is free
FIRST_BATCH_TIMEOUT = 30  # seconds
PERIOD = 10  # seconds between two simulated snapshots
STOP_TIMEOUT = 40  # seconds
LAST_LINES = 15  # of the log of a part that has died


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.demo", description="The whole pipeline in one terminal."
    )
    parser.add_argument(
        "--live", action="store_true", help="the live feed and the settings of the environment"
    )
    arguments = parser.parse_args()
    settings = config.load()
    # Two demos in one folder would mix their logs and records.
    with locked(LOGS, "A demo runs in this folder already: stop that one first"):
        if arguments.live:
            run(live_commands(settings), {})
        else:
            shutil.rmtree(DEMO, ignore_errors=True)  # the topics of each demo begin empty
            broker_port, feed_port = free_port(), free_port()
            environment = demo_environment(settings, broker_port, feed_port)
            run(demo_commands(broker_port, feed_port), environment)


def live_commands(settings: config.Settings) -> dict[str, list[str]]:
    """The arguments with which Python runs each part before the consumer, by its name."""
    uses_own_kafka = "bootstrap_servers" not in settings.kafka.model_fields_set
    return ({"broker": ["-m", "local.broker"]} if uses_own_kafka else {}) | SCRIPTS


def demo_commands(broker_port: int, feed_port: int) -> dict[str, list[str]]:
    """The same for the demo."""
    kafka = ["--port", str(broker_port), "--data-dir", str(DEMO / "kafka")]
    feed = ["--port", str(feed_port), "--period", str(PERIOD)]
    return {
        "broker": ["-m", "local.broker", *kafka],
        "feed": ["-m", "local.simulator", *feed],
    } | SCRIPTS


def demo_environment(settings: config.Settings, broker_port: int, feed_port: int) -> dict[str, str]:
    """The settings of the demo: the defaults, whatever the user's own are, but the user's cache."""
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
        # Java's thorough compiler takes longer than it saves in the first minutes: half of a start.
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
    }


def run(commands: dict[str, list[str]], environment: dict[str, str]) -> None:
    """Run these parts, the consumer and the dashboard until Ctrl-C; raises Failure when one ends.

    They may start in any order, as they wait for each other.
    """
    port = free_port(DASHBOARD_PORT)
    where = f"The map is at http://localhost:{port}, the logs are in {LOGS}"
    log.info("Starting %s, consumer, dashboard; Ctrl-C stops everything", ", ".join(commands))
    log.info("%s", where)
    parts = Parts(environment)
    try:
        if table.can_be_shown() and sys.stderr.isatty():
            parts.start_table(where)
        else:
            parts.start("consumer", ["consumer.py"], stdout=None)
        for name, arguments in commands.items():
            parts.start(name, arguments)
        # Until its first batch is done the job needs the whole processor.
        ended = parts.wait(lambda: "records in" in parts.log_of("spark"), FIRST_BATCH_TIMEOUT)
        if not ended:
            parts.start("dashboard", ["dashboard.py", "--port", str(port)])
            ended = parts.wait()
    finally:
        parts.stop()
        log.info("Everything is stopped, the logs are in %s", LOGS)
    parts.report(ended)
    raise Failure(f"Nothing works without the {ended}")


class Parts:
    """The processes of the pipeline. Their log lines are shown on stderr, or in the table."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = os.environ | environment
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.log_copiers: dict[str, Thread] = {}
        self.shown: IO[str] = sys.stderr

    def start_table(self, title: str) -> None:
        """Start the consumer as a live table, in which the lines of the others are shown."""
        consumer = self._popen("consumer", ["-m", "local.table", title], stdin=subprocess.PIPE)
        assert consumer.stdin is not None
        self.shown = consumer.stdin

    def start(
        self, name: str, arguments: list[str], stdout: int | None = subprocess.DEVNULL
    ) -> None:
        """Start a part, whose log is shown and copied to a file."""
        part = self._popen(name, arguments, stdout=stdout, stderr=subprocess.PIPE)
        log_file = _log_file(name).open("w", buffering=1, encoding="utf-8")
        copier = Thread(target=self._copy_log, args=(name, part.stderr, log_file), daemon=True)
        copier.start()
        self.log_copiers[name] = copier

    def _popen(self, name: str, arguments: list[str], **streams: Any) -> subprocess.Popen[str]:
        self.processes[name] = subprocess.Popen(
            [sys.executable, *arguments],
            env=self.environment,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the demo alone, which stops the parts in order
            **streams,
        )
        return self.processes[name]

    def _copy_log(self, name: str, lines: IO[str], log_file: IO[str]) -> None:
        """Write the log of a part to its file, and show it with its name before each line."""
        with log_file:
            for line in lines:
                log_file.write(line)
                with suppress(BrokenPipeError):  # the table has ended
                    print(f"{name:>9} | {line}", end="", file=self.shown, flush=True)

    def log_of(self, name: str) -> str:
        """The log of a part until now."""
        return _log_file(name).read_text(encoding="utf-8")

    def wait(self, condition: Callable[[], bool] = bool, timeout: float = float("inf")) -> str:
        """Wait until a part has ended, and return its name; "" once the condition is true or
        `timeout` seconds are over.
        """
        deadline = time.monotonic() + timeout
        while not condition() and time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.2)
        return ""

    def report(self, name: str) -> None:
        """Log that a part has ended, with the end of its log."""
        status = self.processes[name].returncode
        if name not in self.log_copiers:  # the table: its log was on the terminal
            log.error("The %s ended (status %d)", name, status)
            return
        self.log_copiers[name].join()
        log.error("The %s ended (status %d). The end of %s:", name, status, _log_file(name))
        print("\n".join(self.log_of(name).splitlines()[-LAST_LINES:]), file=sys.stderr)

    def stop(self) -> None:
        """Stop the parts and the processes that they have started: the consumer first, which gives
        the terminal back, and Kafka last, as the others end their work with it.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
        others = self.processes.keys() - {"consumer", "broker"}
        for names in ({"consumer"}, others, {"broker"}):
            started = {name: self.processes[name] for name in names & self.processes.keys()}
            for process in started.values():
                process.terminate()
            for name, process in started.items():
                _wait(name, process)


def _log_file(name: str) -> Path:
    return LOGS / f"{name}.log"


def _wait(name: str, process: subprocess.Popen[str]) -> None:
    """Wait until a part has ended, then kill what is left of it."""
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        log.warning("The %s does not stop and is killed", name)
    with suppress(ProcessLookupError, PermissionError):  # nothing is left of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    runtime.run_tool(main)
