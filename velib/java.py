"""Finds the Java that Spark and Kafka run on.

Uses the standard library alone, as `local/setup.py` needs it before anything is installed.
"""

import os
import re
import shutil
import subprocess
from functools import cache

from velib.errors import JavaMissing

OLDEST = 17
APT_PACKAGES = ("openjdk-21-jre-headless", "openjdk-17-jre-headless")
"""Debian's and Ubuntu's packages, the preferred one first: a release may have only one of them."""

HOW_TO_INSTALL = (
    "Debian/Ubuntu: sudo apt install openjdk-21-jre-headless (Debian 12: openjdk-17-jre-headless);"
    " Fedora: sudo dnf install java-21-openjdk-headless;"
    " macOS: brew install openjdk@21 && export JAVA_HOME=$(brew --prefix openjdk@21)"
)


def find() -> str:
    """The `java` command, from JAVA_HOME or PATH, version 17 or newer; raises JavaMissing."""
    home = os.environ.get("JAVA_HOME")
    where = f"in JAVA_HOME={home}" if home else "on the PATH"
    command = f"{home}/bin/java" if home else shutil.which("java") or "java"
    try:
        banner = _banner(command)
    except (OSError, subprocess.CalledProcessError):
        raise JavaMissing(
            f"There is no Java {where}. Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}"
        ) from None
    version = re.search(r'version "(?:1\.)?(\d+)', banner)  # Java 8 calls itself 1.8
    if version is None or int(version[1]) < OLDEST:
        found = version[1] if version else "of an unknown version"
        raise JavaMissing(
            f"Java {found} {where} is too old. Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}"
        )
    return command


def build() -> str:
    """The build of the Java that `find` gives: `OpenJDK Runtime Environment (build 17.0.15+6-…)`.

    It is the same whatever the options of JAVA_TOOL_OPTIONS. Raises JavaMissing.
    """
    return "".join(re.findall(r".*Runtime Environment.*", _banner(find())))


@cache
def _banner(command: str) -> str:
    """The output of `java -version`: the version, the build and, with some options, the mode."""
    done = subprocess.run([command, "-version"], capture_output=True, text=True, check=True)
    return done.stderr
