"""Finds the Java that Spark and Kafka run on, and knows what it has to be told about this machine.

Uses the standard library alone, as `local/setup.py` needs it before anything is installed.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from velib.errors import Failure, JavaMissing

OLDEST = 17
APT_PACKAGES = ("openjdk-21-jre-headless", "openjdk-17-jre-headless")
"""Debian's and Ubuntu's packages, the preferred one first: a release may have only one of them."""

HOW_TO_INSTALL = (
    "Debian/Ubuntu: sudo apt install openjdk-21-jre-headless (Debian 12: openjdk-17-jre-headless);"
    " Fedora: sudo dnf install java-21-openjdk-headless;"
    " macOS: brew install openjdk@21 && export JAVA_HOME=$(brew --prefix openjdk@21)"
)

OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""The variables from which every Java takes options."""

LOCALE = {"LC_ALL": "C.UTF-8"} if sys.getfilesystemencoding() == "utf-8" else {}
"""The variables for every Java process. Java cannot open a file whose name has letters that its
locale does not know, as C, or a locale that is not installed, knows none but ASCII. Python reads
the names as UTF-8 in these, too. In a Turkish locale the lower case of I is no i.
"""


def find() -> str:
    """The `java` command, from JAVA_HOME or PATH, version 17 or newer.

    Raises JavaMissing, or Failure if there is one that does not start.
    """
    home = os.environ.get("JAVA_HOME")
    where = f"in JAVA_HOME={home}" if home else "on the PATH"
    # Absolute, as Kafka does not run in the folder of this process.
    command = str(Path(home, "bin", "java").absolute()) if home else shutil.which("java") or "java"
    what_to_do = f"{'Correct or unset JAVA_HOME. ' if home else ''}{HOW_TO_INSTALL}"
    try:
        banner = _banner(command)
    except OSError:
        raise JavaMissing(
            f"There is no Java {where}. Java {OLDEST} or 21 is needed. {what_to_do}"
        ) from None
    except subprocess.CalledProcessError as error:
        raise Failure(_not_started(where, error.stderr)) from None
    version = re.search(r'version "(?:1\.)?(\d+)', banner)  # Java 8 calls itself 1.8
    if version is None or int(version[1]) < OLDEST:
        found = version[1] if version else "of an unknown version"
        raise JavaMissing(
            f"Java {found} {where} is too old. Java {OLDEST} or 21 is needed. {what_to_do}"
        )
    return command


def _not_started(where: str, output: str) -> str:
    """The line for a Java that ends at once, from what it has printed."""
    lines = [line for line in output.splitlines() if not re.match("(NOTE: )?Picked up", line)]
    cause = lines[0] if lines else "it prints nothing"
    options = [name for name in OPTION_VARIABLES if name in os.environ]
    correct = f": correct or unset {' and '.join(options)}" if options else ""
    return f"The Java {where} does not start ({cause}){correct}"


def quoted(argument: str) -> str:
    """The argument as an argument file of Java and Spark's options of Java take it."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def build() -> str:
    """The build of the Java that `find` gives: `OpenJDK Runtime Environment (build 17.0.15+6-…)`.

    It is the same whatever the options of JAVA_TOOL_OPTIONS. Raises JavaMissing and Failure.
    """
    return "".join(re.findall(r".*Runtime Environment.*", _banner(find())))


@cache
def _banner(command: str) -> str:
    """The output of `java -version`: the version, the build and, with some options, the mode."""
    done = subprocess.run(
        [command, "-version"], capture_output=True, text=True, errors="replace", check=True
    )
    return done.stderr
