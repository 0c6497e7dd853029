"""Which Spark is chosen, whatever other tools have left in the environment."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

from config import BadSetting
from tests import PROJECT
from velib.job import spark_home

OURS = pyspark.__version__


@pytest.fixture(autouse=True)
def environment_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `check` takes out of the environment is there again after the test."""
    for variable in spark_home.SET_ASIDE:
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


def _install(folder: Path, version: str) -> str:
    """A folder that looks like that of a Spark of this version."""
    for name in ("bin/spark-submit", f"jars/spark-core_2.13-{version}.jar"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return str(folder)


def test_help_works_whatever_spark_is_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").write_text("raise ImportError('another pyspark')")
    left_behind = {
        "SPARK_HOME": str(tmp_path / "gone"),
        "PYTHONPATH": str(tmp_path),
        "PYSPARK_SUBMIT_ARGS": "--master nowhere",
        "JAVA_HOME": str(tmp_path / "gone"),
        "HOME": "/dev/null",
    }
    done = subprocess.run(
        [sys.executable, str(PROJECT / "spark.py"), "--help"],
        env=os.environ | left_behind,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--available-now" in done.stdout


def test_a_spark_home_of_the_same_version_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_HOME", _install(tmp_path / "spark", OURS))
    spark_home.choose()
    spark_home.check()
    assert os.environ["SPARK_HOME"] == str(tmp_path / "spark")


@pytest.mark.parametrize(("version", "found"), [("3.5.1", "3.5.1"), (None, "no Spark")])
def test_another_spark_home_gives_one_line_with_what_it_has_and_must_have(
    version: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _install(tmp_path / "spark", version) if version else str(tmp_path / "gone")
    monkeypatch.setenv("SPARK_HOME", home)
    spark_home.choose()
    with pytest.raises(BadSetting) as error:
        spark_home.check()
    assert str(error.value) == (
        f"SPARK_HOME is '{home}', which has {found}: it must be the folder of a Spark {OURS},"
        " or not be set: the project has its own"
    )


def test_an_empty_spark_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", "")
    spark_home.choose()
    spark_home.check()
    assert os.environ["SPARK_HOME"] == str(Path(pyspark.__file__).parent)


def test_what_is_set_aside_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").touch()
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[2]")
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost:15002")
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{tmp_path}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with caplog.at_level(logging.WARNING, "velib"):
        spark_home.choose()
        spark_home.check()
    submit_args, remote, python_path = caplog.messages
    assert submit_args.startswith("PYSPARK_SUBMIT_ARGS is set aside")
    assert remote.startswith("SPARK_REMOTE is set aside")
    assert python_path == f"{tmp_path} of PYTHONPATH is set aside: it has another pyspark"
    assert str(tmp_path) not in sys.path
    assert "PYSPARK_SUBMIT_ARGS" not in os.environ
