"""A short run of `make chaos` on each kind of Kafka."""

import subprocess
import sys

import pytest

from tests.conftest import PROJECT


@pytest.mark.parametrize("nodes", [1, 3])
def test_whatever_breaks_every_total_is_right(nodes: int) -> None:
    command = [sys.executable, "-m", "tests.chaos.run", "--minutes", "1", "--seed", "1", "--nodes", str(nodes)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
