"""Keeps the processes of a Kafka or Spark on this machine running, and stops them."""

import subprocess
import time
from collections.abc import Callable, Collection
from typing import Any, NoReturn, TypeVar

from velib.errors import Failure
from velib.runtime import log

K = TypeVar("K")

STOP_TIMEOUT = 30  # seconds
WATCH_INTERVAL = 1.0  # seconds between two checks of the processes
MIN_LIFE = 10.0  # seconds: a process that ends sooner would end again


def watch(
    processes: dict[K, subprocess.Popen[bytes]],
    restart: Callable[[K], subprocess.Popen[bytes]],
    describe_end: Callable[[K, int], str],
    essential: Collection[K],
) -> NoReturn:
    """Restart each process that ends.

    Raises Failure with what `describe_end` returns for its key and exit status if it is essential,
    or ends within MIN_LIFE seconds of this call or its restart.
    """
    started = dict.fromkeys(processes, time.monotonic())
    while True:
        for key, process in processes.items():
            status = process.poll()
            if status is None:
                continue
            end = describe_end(key, status)
            if key in essential or time.monotonic() - started[key] < MIN_LIFE:
                raise Failure(end)
            log.warning("Restarting %s. %s", key, end)
            processes[key], started[key] = restart(key), time.monotonic()
        time.sleep(WATCH_INTERVAL)


def stop(name: str, processes: Collection[subprocess.Popen[Any]]) -> None:
    """End all processes with SIGTERM, then those that have not ended after STOP_TIMEOUT by force.

    `name` is for the log.
    """
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %d s and is killed", name, STOP_TIMEOUT)
            process.kill()
            process.wait()
