"""A folder that one process locks, until it and those that inherited the lock have ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import config
from tests import PROJECT
from velib.errors import Failure
from velib.job.checkpoint import locked_checkpoint
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


def run_job(checkpoint: str, folder: Path) -> str:
    """What a job prints that ends by itself, before Spark starts."""
    command = [sys.executable, str(PROJECT / "spark.py"), "--reset-checkpoint", "--yes"]
    variables = os.environ | {"VELIB_CHECKPOINT_DIR": checkpoint}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_a_second_job_on_a_checkpoint_ends_at_once(scheme: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "checkpoint")
    with locked_checkpoint(config.load().model_copy(update={"checkpoint_dir": folder})):
        (line,) = run_job(scheme + folder, tmp_path).splitlines()
    assert f"The checkpoint {scheme}{folder} is in use by another job" in line


def test_a_checkpoint_that_cannot_be_created_is_an_error_before_anything_starts(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    (line,) = run_job("file/checkpoint", tmp_path).splitlines()
    assert line.endswith("The checkpoint file/checkpoint cannot be written: Not a directory")


def test_an_object_store_has_no_lock_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = config.load().model_copy(update={"checkpoint_dir": "s3a://bucket/folder"})
    with locked_checkpoint(settings), locked_checkpoint(settings):
        assert not list(tmp_path.iterdir())
