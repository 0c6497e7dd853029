"""Finds the Java that Spark and Kafka run on. Uses the standard library alone: `local/setup.py` needs it first of all."""

import os
import re
import shutil
import subprocess

OLDEST = 17
APT_PACKAGES = ("openjdk-21-jre-headless", "openjdk-17-jre-headless")  # a release of Debian or Ubuntu may have only one

HOW_TO_INSTALL = (
    "Debian/Ubuntu: sudo apt install openjdk-21-jre-headless (Debian 12: openjdk-17-jre-headless);"
    " Fedora: sudo dnf install java-21-openjdk-headless;"
    " macOS: brew install openjdk@21 && export JAVA_HOME=$(brew --prefix openjdk@21)"
)


class JavaMissing(Exception):
    """No Java that will do. The text says what was found and how to install one."""


def find() -> str:
    """The `java` command, from JAVA_HOME or PATH, version 17 or newer; raises JavaMissing."""
    home = os.environ.get("JAVA_HOME")
    where = f"in JAVA_HOME={home}" if home else "on the PATH"
    command = f"{home}/bin/java" if home else shutil.which("java") or "java"
    try:
        banner = subprocess.run([command, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        raise JavaMissing(f"There is no Java {where}. Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}") from None
    version = re.search(r'version "(?:1\.)?(\d+)', banner)  # Java 8 calls itself 1.8
    if version is None or int(version[1]) < OLDEST:
        found = version[1] if version else "of an unknown version"
        raise JavaMissing(f"Java {found} {where} is too old. Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}")
    return command
