"""The cluster demo in a small form."""

import subprocess
import sys

from tests import PROJECT


def test_totals_are_right_on_clusters_whose_parts_are_killed() -> None:
    options = ["--stations", "1500", "--snapshots", "2"]
    command = [sys.executable, "-m", "tests.chaos.cluster", *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "totals compared" in done.stdout
