"""A folder that one process holds, until the process and its heirs have ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import PROJECT
from velib.errors import Failure
from velib.locks import locked

HOLDER = """
import subprocess, sys
from pathlib import Path
from velib.locks import locked
with locked(Path("held")) as descriptor:
    heir = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor], stdout=subprocess.DEVNULL)
    print(heir.pid, flush=True)
    sys.stdin.read()
"""


def test_the_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env={"PYTHONPATH": str(PROJECT)}
    ) as holder:
        assert holder.stdout is not None
        heir = int(holder.stdout.readline())
        with pytest.raises(Failure, match="in use"), locked(tmp_path / "held", "in use"):
            pass
        holder.kill()
    with pytest.raises(Failure, match="in use"), locked(tmp_path / "held", "in use"):
        pass
    subprocess.run(["kill", "-9", str(heir)], check=True)
    with locked(tmp_path / "held"):  # waits until the kernel has ended it
        pass
