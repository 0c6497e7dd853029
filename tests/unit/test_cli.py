"""How a script ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

SCRIPT = """
import gc, time
import cli

class Slow:
    def __init__(self):
        self.itself = self  # so that Python collects it at any moment

    def __del__(self):
        print("collected", flush=True)
        time.sleep(30)

def main():
    Slow()
    gc.collect()
    time.sleep(30)

cli.run(main)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_that_comes_while_python_collects_an_object_is_not_lost(number: int, status: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(command, env={"PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "collected\n"
        process.send_signal(number)
        assert process.wait(20) == status
