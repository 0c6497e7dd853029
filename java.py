"""Finds the Java that Spark and Kafka run on. Only the standard library is used: `local/setup.py` needs it before anything is installed."""

import os
import re
import shutil
import subprocess

OLDEST = 17

HOW_TO_INSTALL = (
    "Debian/Ubuntu: sudo apt install openjdk-17-jre-headless; Fedora: sudo dnf install java-21-openjdk-headless;"
    " macOS: brew install openjdk@21"
)


class JavaMissing(Exception):
    """No Java that will do. The text says what was found and how to install one."""


def find() -> str:
    """The `java` command, from JAVA_HOME or PATH, version 17 or newer; raises JavaMissing."""
    home = os.environ.get("JAVA_HOME")
    command = os.path.join(home, "bin", "java") if home else shutil.which("java")
    where = f"JAVA_HOME={home}" if home else "PATH"
    try:
        banner = subprocess.run([command or "java", "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        raise JavaMissing(f"No working Java in {where}. Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}") from None
    version = re.search(r'version "(?:1\.)?(\d+)', banner)  # Java 8 calls itself 1.8
    if not command or not version or int(version[1]) < OLDEST:
        found = version[1] if version else "of an unknown version"
        raise JavaMissing(f"Java {found} in {where} is too old: Java {OLDEST} or 21 is needed. {HOW_TO_INSTALL}")
    return command
