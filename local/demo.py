"""The whole pipeline in one terminal: the real scripts, and stand-ins for the outside world.

    python -m local.demo           a Kafka of its own, a simulated feed, every station
    python -m local.demo --live    the live feed and the settings of the environment; a Kafka of its
                                   own unless KAFKA_BOOTSTRAP_SERVERS is set

The totals go to stdout. The log of each part is shown on stderr and kept in `.velib/logs`.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import config
from local.broker import free_port
from velib import cli
from velib.cli import log
from velib.errors import Failure

LOGS = Path(".velib/logs")
DEMO = Path(".velib/demo")
PERIOD = 10  # seconds between two simulated snapshots
STOP_TIMEOUT = 40  # seconds
LAST_LINES = 15  # of the log of a part that has died


@dataclass
class Part:
    """A process of the pipeline, and the thread that copies its log to stderr and into a file."""

    name: str
    process: subprocess.Popen[str]
    log_copier: threading.Thread
    log_file: Path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.demo", description="The whole pipeline in one terminal."
    )
    parser.add_argument(
        "--live", action="store_true", help="the live feed and the settings of the environment"
    )
    arguments = parser.parse_args()
    settings = config.load()
    with _locked_folder():
        if arguments.live:
            run(live_commands(settings), {})
        else:
            shutil.rmtree(DEMO, ignore_errors=True)  # the topics of each demo begin empty
            broker_port, feed_port = free_port(), free_port()
            run(demo_commands(broker_port, feed_port), demo_environment(broker_port, feed_port))


def live_commands(settings: config.Settings) -> dict[str, list[str]]:
    """The arguments with which Python runs each part, by its name."""
    commands = {
        "broker": ["-m", "local.broker"],
        "producer": ["kafka_project.py"],
        "spark": ["spark.py"],
        "consumer": ["consumer.py"],
    }
    if "bootstrap_servers" in settings.model_fields_set:
        del commands["broker"]
    return commands


def demo_commands(broker_port: int, feed_port: int) -> dict[str, list[str]]:
    """The same for the demo."""
    kafka = ["--port", str(broker_port), "--data-dir", str(DEMO / "kafka")]
    feed = ["--port", str(feed_port), "--period", str(PERIOD)]
    return {
        "broker": ["-m", "local.broker", *kafka],
        "feed": ["-m", "local.simulator", *feed],
        "producer": ["kafka_project.py"],
        "spark": ["spark.py"],
        "consumer": ["consumer.py"],
    }


def demo_environment(broker_port: int, feed_port: int) -> dict[str, str]:
    """The settings of the demo: the defaults, whatever the user's own are, and its addresses."""
    defaults = {
        str(field.validation_alias): "" if field.default is None else str(field.default)
        for field in config.Settings.model_fields.values()
    }
    return defaults | {
        "KAFKA_BOOTSTRAP_SERVERS": f"localhost:{broker_port}",
        "VELIB_API_URL": f"http://localhost:{feed_port}",
        "VELIB_POLL_SECONDS": str(PERIOD),
        "VELIB_STATIONS": config.ALL,
        "VELIB_CHECKPOINT_DIR": str(DEMO / "checkpoint"),
        # Java's thorough compiler takes longer than it saves in the first minutes: half of a start.
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
    }


@contextmanager
def _locked_folder() -> Iterator[None]:
    """Let one demo at a time run in a folder: two would mix their logs and records."""
    LOGS.mkdir(parents=True, exist_ok=True)
    lock = os.open(LOGS, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Failure("A demo runs in this folder already: stop that one first") from None
    finally:
        os.close(lock)


def run(commands: dict[str, list[str]], environment: dict[str, str]) -> None:
    """Run the parts until Ctrl-C; raises Failure when one of them ends.

    They may start in any order, as they wait for each other.
    """
    log.info("Starting %s; Ctrl-C stops everything, the logs are in %s", ", ".join(commands), LOGS)
    parts: list[Part] = []
    try:
        for name, arguments in commands.items():
            parts.append(_start(name, arguments, environment))
        while not (ended := [part for part in parts if part.process.poll() is not None]):
            time.sleep(0.2)
    finally:
        _stop(parts)
    part = ended[0]
    part.log_copier.join()
    status = part.process.returncode
    log.error("The %s ended (status %d). The end of %s:", part.name, status, part.log_file)
    lines = part.log_file.read_text(errors="replace").splitlines()
    print("\n".join(lines[-LAST_LINES:]), file=sys.stderr)
    raise Failure(f"Everything is stopped, as nothing works without the {part.name}")


def _start(name: str, arguments: list[str], environment: dict[str, str]) -> Part:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | environment,
        stdout=None if name == "consumer" else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches the demo alone, which stops the parts in order
    )
    log_file = LOGS / f"{name}.log"
    copy = threading.Thread(target=_copy_log, args=(name, process.stderr, log_file), daemon=True)
    copy.start()
    return Part(name, process, copy, log_file)


def _copy_log(name: str, lines: IO[str], log_file: Path) -> None:
    """Write the log of a part to its file, and to stderr with its name before each line."""
    with log_file.open("w", buffering=1) as file:
        for line in lines:
            file.write(line)
            print(f"{name:>8} | {line}", end="", file=sys.stderr, flush=True)


def _stop(parts: list[Part]) -> None:
    """Stop the parts and the processes that they have started, and Kafka last: the others end
    their work with it.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
    broker = [part for part in parts if part.name == "broker"]
    for group in ([part for part in parts if part not in broker], broker):
        for part in group:
            part.process.terminate()
        for part in group:
            _wait(part)


def _wait(part: Part) -> None:
    """Wait until a part has ended, then kill what is left of it."""
    try:
        part.process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        log.warning("The %s does not stop and is killed", part.name)
    with suppress(ProcessLookupError, PermissionError):  # nothing is left of it
        os.killpg(part.process.pid, signal.SIGKILL)
    part.process.wait()


if __name__ == "__main__":
    cli.run(main)
