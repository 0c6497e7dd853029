"""The whole pipeline in one terminal: the real scripts and, where the outside world is missing, the stand-ins of `local/`.

    python -m local.demo           all parts on this machine, a simulated feed, every station
    python -m local.demo --live    the live feed, the settings of the environment; our own Kafka unless one is set

The totals go to stdout. What the parts log is shown on stderr, and kept in `.velib/logs`.
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

HOME = Path(".velib")
LOGS = HOME / "logs"
DEMO = HOME / "demo"
PERIOD = 10  # seconds between two simulated snapshots
STOP_SECONDS = 40
TAIL = 15  # lines of a log that say how a part died


@dataclass
class Part:
    """A process of the pipeline, and the file and the thread that take what it says."""

    name: str
    process: subprocess.Popen[str]
    listener: threading.Thread
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
    with _alone():
        if arguments.live:
            run(_live_parts(settings), {})
        else:
            shutil.rmtree(
                DEMO, ignore_errors=True
            )  # each demo starts with an empty topic: what you see is from this run
            broker_port, feed_port = free_port(), free_port()
            run(_demo_parts(broker_port, feed_port), _demo_environment(broker_port, feed_port))


def _live_parts(settings: config.Settings) -> dict[str, list[str]]:
    parts = {
        "broker": ["-m", "local.broker"],
        "producer": ["kafka_project.py"],
        "spark": ["spark.py"],
        "consumer": ["consumer.py"],
    }
    if "bootstrap_servers" in settings.model_fields_set:
        del parts["broker"]
    return parts


def _demo_parts(broker_port: int, feed_port: int) -> dict[str, list[str]]:
    return {
        "broker": [
            "-m",
            "local.broker",
            "--port",
            str(broker_port),
            "--data-dir",
            str(DEMO / "kafka"),
        ],
        "feed": ["-m", "local.simulator", "--port", str(feed_port), "--period", str(PERIOD)],
        "producer": ["kafka_project.py"],
        "spark": ["spark.py"],
        "consumer": ["consumer.py"],
    }


def _demo_environment(broker_port: int, feed_port: int) -> dict[str, str]:
    """The settings of the demo's parts: the defaults, whatever the user's own are, and the addresses of this demo."""
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
    }


@contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time in a folder: two would mix their logs and their records."""
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
    """Start the parts, in any order as they wait for each other, and stay until Ctrl-C or until one of them dies."""
    log.info("Starting %s; Ctrl-C stops everything, the logs are in %s", ", ".join(commands), LOGS)
    parts: list[Part] = []
    try:
        for name, arguments in commands.items():
            parts.append(_start(name, arguments, environment))
        while all(part.process.poll() is None for part in parts):
            time.sleep(0.2)
        dead = next(part for part in parts if part.process.poll() is not None)
    finally:
        _stop(parts)
    dead.listener.join()
    log.error(
        "The %s ended (status %d). The end of %s:",
        dead.name,
        dead.process.returncode,
        dead.log_file,
    )
    print(
        "\n".join(dead.log_file.read_text(errors="replace").splitlines()[-TAIL:]), file=sys.stderr
    )
    raise Failure(f"Everything is stopped, as nothing works without the {dead.name}")


def _start(name: str, arguments: list[str], environment: dict[str, str]) -> Part:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | environment,
        stdout=None if name == "consumer" else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us: the parts are stopped in order
    )
    log_file = LOGS / f"{name}.log"
    listener = threading.Thread(target=_listen, args=(name, process.stderr, log_file), daemon=True)
    listener.start()
    return Part(name, process, listener, log_file)


def _listen(name: str, lines: IO[str], log_file: Path) -> None:
    """Keep what a part says in its log, and show it with the part's name before it."""
    with log_file.open("w", buffering=1) as file:
        for line in lines:
            file.write(line)
            print(f"{name:>8} | {line}", end="", file=sys.stderr, flush=True)


def _stop(parts: list[Part]) -> None:
    """Stop the parts and whatever they started, Kafka last: the others say goodbye to it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
    broker = [part for part in parts if part.name == "broker"]
    for group in ([part for part in parts if part not in broker], broker):
        for part in group:
            part.process.terminate()
        for part in group:
            _wait(part)


def _wait(part: Part) -> None:
    try:
        part.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("The %s does not stop and is killed", part.name)
    with suppress(ProcessLookupError, PermissionError):  # nothing is left of it
        os.killpg(part.process.pid, signal.SIGKILL)
    part.process.wait()


if __name__ == "__main__":
    cli.run(main)
