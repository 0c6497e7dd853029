"""A short run of `make chaos`."""

import subprocess
import sys

from tests import PROJECT

SEED = 2435  # its first half minute has most faults of the network, and kills a producer and a node


def test_every_total_is_right_whatever_breaks() -> None:
    options = ["--minutes", "0.5", "--seed", str(SEED), "--nodes", "3"]
    command = [sys.executable, "-m", "tests.chaos.run", *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
