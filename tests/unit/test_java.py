"""Which Java is found, the message for one that is missing or too old, and the proxy for Java."""

import os
import subprocess
from pathlib import Path

import pyspark
import pytest

from velib import java
from velib.errors import Failure, JavaMissing
from velib.java import Proxy

JAVA_8 = 'java version "1.8.0_392"'
JAVA_11 = 'openjdk version "11.0.21" 2023-10-17'
JAVA_17 = 'openjdk version "17.0.9" 2023-10-17'
JAVA_21 = 'openjdk version "21.0.1" 2023-10-17'
JAVA_25 = 'openjdk version "25.0.1" 2025-10-21'


def _install(folder: Path, banner: str) -> Path:
    """A command `java` in a folder `bin` that prints the banner as Java does; returns `folder`."""
    command = folder / "bin" / "java"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\necho '{banner}' >&2\n")
    command.chmod(0o755)
    return folder


@pytest.mark.parametrize("banner", [JAVA_17, JAVA_21, JAVA_25])
def test_java_17_and_newer_are_accepted(
    banner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_install(tmp_path, banner)))
    assert java.find() == f"{tmp_path}/bin/java"


@pytest.mark.parametrize(
    ("banner", "found"),
    [
        (JAVA_8, "Java 8 in JAVA_HOME="),
        (JAVA_11, "Java 11 in JAVA_HOME="),
        ("what?", "Java of an unknown version in JAVA_HOME="),
    ],
)
def test_an_older_java_is_refused_with_the_command_that_installs_a_newer_one(
    banner: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_install(tmp_path, banner)))
    with pytest.raises(JavaMissing, match="too old") as error:
        java.find()
    assert str(error.value).startswith(f"{found}{tmp_path}")
    assert "sudo apt install openjdk-21-jre-headless" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_java_of_a_mac_without_java_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _install(
        tmp_path, "The operation could not be completed. Unable to locate a Java Runtime."
    )
    command = folder / "bin" / "java"
    command.write_text(f"{command.read_text()}exit 1\n")
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(JavaMissing, match=r"There is no Java on the PATH\. Java 17"):
        java.find()


def test_the_java_of_java_home_precedes_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path, home = _install(tmp_path / "path", JAVA_8), _install(tmp_path / "home", JAVA_21)
    monkeypatch.setenv("PATH", f"{on_path}/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.find() == f"{home}/bin/java"
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(JavaMissing, match="Java 8 on the PATH is too old"):
        java.find()


def test_without_java_the_line_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaMissing, match=f"There is no Java in JAVA_HOME={tmp_path}.*unset JAVA_"):
        java.find()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match="There is no Java on the PATH"):
        java.find()


def test_for_a_java_that_does_not_start_the_reason_and_the_variable_with_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(java.find())
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xnonsense")
    with pytest.raises(Failure) as error:
        java.find()
    assert str(error.value) == (
        f"The Java in JAVA_HOME={tmp_path} does not start (Unrecognized option: -Xnonsense):"
        " correct or unset JAVA_TOOL_OPTIONS"
    )


@pytest.mark.parametrize("argument", ["-Dfolder=Vélib' é", '-Dfolder=a "quoted" \\ “name”'])
def test_a_quoted_argument_reaches_java_as_it_is(argument: str, tmp_path: Path) -> None:
    """Through the launcher of spark-submit, and from an argument file, in a locale without é."""
    spark = Path(pyspark.__file__).parent
    environment = {"SPARK_HOME": str(spark), "SPARK_SCALA_VERSION": "2.13", "LC_ALL": "POSIX"}
    submit = ["org.apache.spark.launcher.Main", "org.apache.spark.deploy.SparkSubmit"]
    submit += ["--conf", f"spark.driver.extraJavaOptions={java.quoted(argument)}", "pyspark-shell"]
    (tmp_path / "arguments").write_text(java.quoted(argument))
    show_properties = [f"@{tmp_path}/arguments", "-XshowSettings:properties", "-version"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [java.find(), *arguments],
            env=os.environ | environment | java.LOCALE,
            capture_output=True,
            text=True,
            check=True,
        )

    assert argument in run("-cp", f"{spark}/jars/*", *submit).stdout.split("\0")
    assert f"folder = {argument.partition('=')[2]}\n" in run(*show_properties).stderr


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy."""
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        ("http://proxy.corp:3128", Proxy("proxy.corp", 3128)),
        ("proxy.corp:3128", Proxy("proxy.corp", 3128)),
        ("http://proxy.corp/", Proxy("proxy.corp", 80)),
        ("http://[fd00::1]:3128/", Proxy("fd00::1", 3128)),
        ("http://me:p%40ss@proxy.corp:3128", Proxy("proxy.corp", 3128, "me", "p@ss")),
        ("http://me:a/b#c@d:e?@proxy.corp:3128/", Proxy("proxy.corp", 3128, "me", "a/b#c@d:e?")),
    ],
)
def test_a_proxy_is_read_whatever_its_password_contains(
    environment: pytest.MonkeyPatch, variable: str, address: str, proxy: Proxy
) -> None:
    assert java.proxy() is None
    environment.setenv(variable, address)
    assert java.proxy() == proxy


def test_a_proxy_that_is_not_an_address_is_one_line_without_the_password(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("HTTPS_PROXY", "http://me:secret@")
    with pytest.raises(
        Failure, match=r"HTTPS_PROXY \(or ALL_PROXY\) must be the address of a proxy"
    ) as error:
        java.proxy()
    assert "secret" not in str(error.value)


def test_java_gets_the_proxy_with_its_user_and_the_hosts_of_no_proxy() -> None:
    options = Proxy("proxy.corp", 3128, "me", "p@ss", "localhost, .corp,example.org:443").options()
    assert options[:3] == [
        "-Dhttps.proxyHost=proxy.corp",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|*.localhost|corp|*.corp|example.org|*.example.org",
    ]
    assert "-Dhttp.proxyPassword=p@ss" in options
