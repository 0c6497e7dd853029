"""The Java on which Spark and Kafka run.

Uses the standard library alone: `local/setup.py` imports it before anything is installed.
"""

import os
import re
import shutil
import subprocess
from functools import cache

from velib.errors import JavaMissing

OLDEST = 17

APT_PACKAGES = ("openjdk-21-jre-headless", "openjdk-17-jre-headless")
"""In order of preference. A release of Debian or Ubuntu may have only one of them."""

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
    needed = f"Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}"
    try:
        banner = _banner(command)
    except (OSError, subprocess.CalledProcessError):
        raise JavaMissing(f"There is no Java {where}. {needed}") from None
    version = re.search(r'version "(?:1\.)?(\d+)', banner)  # Java 8 calls itself 1.8
    if version is None or int(version[1]) < OLDEST:
        found = version[1] if version else "of an unknown version"
        raise JavaMissing(f"Java {found} {where} is too old. {needed}")
    return command


def build() -> str:
    """The exact build of the Java that `find` finds, such as `OpenJDK Runtime Environment (build
    17.0.15+6-Debian-1deb12u1)`; raises JavaMissing.
    """
    return "".join(re.findall(r".*Runtime Environment.*", _banner(find())))


@cache
def _banner(command: str) -> str:
    """The lines of `java -version`."""
    done = subprocess.run([command, "-version"], capture_output=True, text=True, check=True)
    return done.stderr
