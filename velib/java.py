"""Finds the Java that Spark and Kafka run on, and the options that it needs on this machine.

Uses only the standard library, because `local/setup.py` runs before anything is installed.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote
from urllib.request import getproxies

from velib.errors import Failure, JavaMissing

OLDEST = 17
APT_PACKAGES = tuple(f"openjdk-{version}-jre-headless" for version in (21, 17, 25))
"""Debian's and Ubuntu's packages, in order of preference: no release has all of them."""

HOW_TO_INSTALL = (
    "Debian/Ubuntu: sudo apt install openjdk-21-jre-headless python3-venv"
    " (Debian 12: openjdk-17-jre-headless python3-venv);"
    " Fedora: sudo dnf install java-21-openjdk-headless;"
    " macOS: brew install --cask temurin@21"
)

OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""The variables from which every Java takes options."""

LOCALE = {"LC_ALL": "C.UTF-8"} if sys.getfilesystemencoding() == "utf-8" else {}
"""Environment variables for every Java process.

Java cannot open a file whose name contains letters that its locale cannot encode. The locale C, or
one that is not installed, has only ASCII, while Python reads file names as UTF-8 even there. And in
a Turkish locale Java would turn I into ı, which breaks case-insensitive names.
"""

_PROXY = re.compile(
    r"(?:\w+://)?(?:(?P<user>[^:@]*)(?::(?P<password>.*))?@)?"
    r"(?P<host>[^@:/\[\]]+|\[[^@]+\])(?::(?P<port>\d+))?(?:/[^@]*)?"
)
"""The address of a proxy. `urlsplit` would end the host at a `/` or `#` in a password."""


def find() -> str:
    """The `java` command, from JAVA_HOME or PATH, version 17 or newer.

    Raises JavaMissing, or Failure if there is one that does not start.
    """
    home = os.environ.get("JAVA_HOME")
    where = f"in JAVA_HOME={home}" if home else "on the PATH"
    # Absolute, because Kafka runs in another folder.
    command = str(Path(home, "bin", "java").absolute()) if home else shutil.which("java") or "java"
    what_to_do = f"{'Correct or unset JAVA_HOME. ' if home else ''}{HOW_TO_INSTALL}"
    missing = f"There is no Java {where}. Java {OLDEST} or newer is needed. {what_to_do}"
    try:
        banner = version_output(command)
    except OSError:
        raise JavaMissing(missing) from None
    except subprocess.CalledProcessError as error:
        if "Unable to locate a Java Runtime" in error.stderr:  # macOS has a `java` without Java
            raise JavaMissing(missing) from None
        raise Failure(_not_started(where, error.stderr)) from None
    version = re.search(r'version "(?:1\.)?(\d+)', banner)  # Java 8 calls itself 1.8
    if version is None or int(version[1]) < OLDEST:
        found = version[1] if version else "of an unknown version"
        raise JavaMissing(
            f"Java {found} {where} is too old. Java {OLDEST} or newer is needed. {what_to_do}"
        )
    return command


def _not_started(where: str, output: str) -> str:
    """The error message for a Java that does not start, from its output."""
    lines = [line for line in output.splitlines() if not re.match("(NOTE: )?Picked up", line)]
    cause = lines[0] if lines else "it prints nothing"
    options = [name for name in OPTION_VARIABLES if name in os.environ]
    correct = f": correct or unset {' and '.join(options)}" if options else ""
    return f"The Java {where} does not start ({cause}){correct}"


def quoted(argument: str) -> str:
    """Quote an argument for Java's argument files and JAAS configuration, and for Spark's options
    that go to Java.
    """
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(frozen=True)
class Proxy:
    """The proxy to the internet: Java itself does not read HTTPS_PROXY."""

    host: str
    port: int = 80
    user: str | None = None
    password: str | None = None
    no_proxy: str = ""
    """NO_PROXY: hosts and domains, separated by commas."""

    def options(self) -> list[str]:
        """Options with which Java uses the proxy. They may contain a password."""
        names = [name.strip(" .").partition(":")[0] for name in self.no_proxy.split(",")]
        patterns = [pattern for name in names if name for pattern in (name, f"*.{name}")]
        options = {
            "https.proxyHost": self.host,
            "https.proxyPort": str(self.port),
            "http.nonProxyHosts": "|".join(patterns),  # for https too
        }
        if self.user is not None:
            options |= {
                "http.proxyUser": self.user,  # Ivy reads these two
                "http.proxyPassword": self.password or "",
                # By default Java refuses to send a password in clear text.
                "jdk.http.auth.tunneling.disabledSchemes": "",
            }
        return [f"-D{name}={value}" for name, value in options.items()]


def proxy() -> Proxy | None:
    """The proxy of HTTPS_PROXY or ALL_PROXY, if one is set; raises Failure if it is not a URL."""
    proxies = getproxies()
    address = proxies.get("https") or proxies.get("all")
    if not address:
        return None
    found = _PROXY.fullmatch(address)
    if found is None:
        raise Failure(
            "HTTPS_PROXY (or ALL_PROXY) must be the address of a proxy, such as http://host:3128"
            " or http://user:password@host:3128"
        )
    user, password = (text and unquote(text) for text in found.group("user", "password"))
    host, port = found["host"].strip("[]"), int(found["port"] or 80)
    return Proxy(host, port, user, password, proxies.get("no", ""))


@cache
def version_output(command: str) -> str:
    """The output of `java -version`: the version, the build and, with some options, the mode."""
    done = subprocess.run(
        [command, "-version"], capture_output=True, text=True, errors="replace", check=True
    )
    return done.stderr
