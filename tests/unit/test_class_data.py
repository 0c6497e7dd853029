"""Java's class data: an archive is used where it fits, and does no harm where it does not."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pyspark
import pytest

from velib import class_data, java

BUILD = "OpenJDK Runtime Environment (build 17.0.9+9)"


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    """The folder of a program of one jar; its parent is the cache, which has no archive yet."""
    (ivy,) = (Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar")
    (tmp_path / "jars").mkdir()
    shutil.copy(ivy, tmp_path / "jars" / "ivy.jar")
    return tmp_path / "jars"


def _run(jars: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = ["-cp", str(jars / "ivy.jar"), "org.apache.ivy.Main", "-version"]
    command = [java.find(), *options, *program]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def _make_archive(jars: Path) -> None:
    archive = class_data.archive(jars.parent, "ivy", jars)
    archive.parent.mkdir()
    _run(jars, f"-XX:ArchiveClassesAtExit={archive}", class_data.QUIET)


def _use_java(folder: Path, banner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on there is a Java that has this banner."""
    command = folder / "bin" / "java"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\necho '{banner}' >&2\n")
    command.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(folder))


def test_java_loads_classes_from_the_archive(jars: Path) -> None:
    _make_archive(jars)
    loaded = _run(jars, *class_data.options(jars.parent, "ivy", jars), "-Xlog:class+load").stdout
    assert re.search(r"org\.apache\.ivy\.Main source: shared objects file", loaded)


def test_without_an_archive_java_has_no_options(jars: Path) -> None:
    assert class_data.options(jars.parent, "ivy", jars) == []


def test_a_jar_that_has_changed_has_no_archive(jars: Path) -> None:
    _make_archive(jars)
    os.utime(jars / "ivy.jar", (0, 0))
    assert class_data.options(jars.parent, "ivy", jars) == []


def test_java_prints_nothing_about_an_archive_that_does_not_fit(jars: Path) -> None:
    _make_archive(jars)
    options = class_data.options(jars.parent, "ivy", jars)
    os.utime(jars / "ivy.jar", (0, 0))
    without, with_archive = _run(jars), _run(jars, *options)
    assert (with_archive.stdout, with_archive.stderr) == (without.stdout, without.stderr)


def test_another_build_of_java_has_another_archive(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = 'openjdk version "17.0.9" 2023-10-17'
    _use_java(tmp_path / "first", f"{version}\n{BUILD}", monkeypatch)
    first = class_data.archive(jars.parent, "ivy", jars)
    _use_java(tmp_path / "other", f"{version}\n{BUILD.replace('+9', '+10')}", monkeypatch)
    assert class_data.archive(jars.parent, "ivy", jars) != first


def test_the_options_of_the_environment_do_not_change_the_archive(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = 'openjdk version "17.0.9" 2023-10-17'
    _use_java(tmp_path / "first", f"{version}\n{BUILD}\nmixed mode, sharing", monkeypatch)
    first = class_data.archive(jars.parent, "ivy", jars)
    note = "Picked up JAVA_TOOL_OPTIONS: -XX:TieredStopAtLevel=1"
    banner = f"{note}\n{version}\n{BUILD}\nmixed mode, emulated-client, sharing"
    _use_java(tmp_path / "other", banner, monkeypatch)
    assert class_data.archive(jars.parent, "ivy", jars) == first
