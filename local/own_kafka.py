"""A Kafka for a while, as a process of its own: for the exercises and the tests."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.broker import free_port
from local.processes import stop
from velib.errors import Failure


@contextmanager
def own_kafka(folder: Path) -> Iterator[str]:
    """A Kafka while the block runs, with its data in a folder; its address. Raises Failure."""
    port = free_port()
    command = [sys.executable, "-m", "local.broker", "--port", str(port), "--data-dir", str(folder)]
    broker = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert broker.stdout is not None and broker.stderr is not None
        if broker.stdout.readline() != "ready\n":
            raise Failure(broker.stderr.read().strip())
        yield f"localhost:{port}"
    finally:
        stop("Kafka", [broker])
