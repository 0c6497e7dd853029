"""A short run of `make chaos` on each kind of Kafka."""

import subprocess
import sys

import pytest

from tests import PROJECT


@pytest.mark.parametrize("nodes", ["1", "3"])
def test_every_total_is_right_whatever_breaks(nodes: str) -> None:
    options = ["--minutes", "1", "--seed", "1", "--nodes", nodes]
    command = [sys.executable, "-m", "tests.chaos.run", *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
