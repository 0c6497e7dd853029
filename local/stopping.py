"""How the stand-ins stop the processes of their Kafka or Spark."""

import subprocess
from collections.abc import Collection
from typing import Any

from velib.runtime import log

STOP_TIMEOUT = 30  # seconds


def stop(name: str, processes: Collection[subprocess.Popen[Any]]) -> None:
    """End all processes, with SIGTERM or, if one does not end in time, by force."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %d s and is killed", name, STOP_TIMEOUT)
            process.kill()
            process.wait()
