"""Installs what the scripts need: Java, the pinned packages, Kafka and Spark's Kafka connector.

    python -m local.setup [--dev]

Imports only the standard library, because it runs before anything is installed. Anything that is
installed already is left alone.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from velib import java
from velib.errors import Failure, JavaMissing
from velib.locks import locked

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
PROMTOOL = VENV / "bin" / "promtool"  # Prometheus' own checks, for the tests of the metrics


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this and what it runs at once
    is_for_development = "--dev" in sys.argv[1:]
    with locked(Path.cwd()):  # by `make` in another terminal
        install_java()
        make_venv()
        install_packages("requirements-dev.txt" if is_for_development else "requirements.txt")
        if is_for_development:
            install_optional("chromium", "the page is tested in it")
            install_promtool()
        if not succeeds(str(PYTHON), "-m", "local.jars"):
            sys.exit(1)


def install_java() -> None:
    """Install Java if it is missing; where that needs a password, exit with the command to type."""
    try:
        java.find()
    except JavaMissing as missing:
        if "JAVA_HOME" in os.environ or not apt_install(str(missing), *java.APT_PACKAGES):
            sys.exit(str(missing))
    except Failure as failure:
        sys.exit(str(failure))


def make_venv() -> None:
    """Create `.venv` if it is missing or does not work: its commands contain the folder's path, and
    its packages are of one version of Python.
    """
    pip = VENV / "bin" / "pip"
    if PYTHON.exists() and pip.exists():
        if str(VENV.absolute()) not in pip.read_text(errors="surrogateescape"):
            log(f"This folder was moved, and {VENV} contains its old path")
        elif subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True).returncode == 0:
            return  # it fails after an upgrade of the system's Python
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu have a package for it
        apt_install("Python's venv is missing", f"python3.{sys.version_info.minor}-venv")
    log(f"Creating {VENV} with Python {sys.version.split()[0]}")
    if not succeeds(sys.executable, "-m", "venv", "--clear", str(VENV)):
        sys.exit(f"{VENV} could not be created in {Path.cwd()}: see the lines above")


def install_packages(requirements: str) -> None:
    """Install the pinned packages, unless the same ones are installed already."""
    pins = b"".join(Path(name).read_bytes() for name in ("requirements.txt", requirements))
    digest = hashlib.sha256(pins).hexdigest()
    installed = VENV / Path(requirements).with_suffix(".installed")
    if installed.exists() and installed.read_text() == digest:
        return
    log(f"Installing the packages of {requirements} into {VENV}; Spark is the large one, 450 MB")
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    if not succeeds(*pip, "-r", requirements):
        sys.exit("pip could not install the packages: see its last lines, then run this again")
    installed.write_text(digest)


def install_optional(command: str, purpose: str) -> None:
    """Install the Debian package of a command that some tests need; without it they are skipped."""
    if shutil.which(command) is None:
        apt_install(f"{command} is missing: {purpose}", command)


def install_promtool() -> None:
    """Put promtool into `.venv` if it is missing; without it the tests that use it are skipped.

    It is extracted from the package `prometheus`: to install that would start a server.
    """
    if PROMTOOL.exists() or shutil.which("promtool"):
        return
    if not (apt_get := apt_get_without_password()):
        log("There is no promtool: tests of the metrics will be skipped")
        return
    log("Extracting promtool from the package prometheus, 20 MB")
    with tempfile.TemporaryDirectory() as folder:
        download = [*apt_get, "-o", "APT::Sandbox::User=root", "download", "-qq", "prometheus"]
        if succeeds(*apt_get, "update", "-qq") and succeeds(*download, folder=folder):
            (package,) = Path(folder).glob("prometheus_*.deb")
            if succeeds("dpkg-deb", "--extract", str(package), folder):
                shutil.move(Path(folder) / "usr" / "bin" / "promtool", PROMTOOL)


def apt_install(reason: str, *packages: str) -> bool:
    """Install the first of these Debian packages that this release has, where that needs no
    password; returns whether it is installed.
    """
    if not (apt_get := apt_get_without_password()) or not succeeds(*apt_get, "update", "-qq"):
        return False
    install = [*apt_get, "install", "-y", "-qq", "--no-install-recommends"]
    for package in packages:
        if subprocess.run([*install, "--simulate", package], capture_output=True).returncode == 0:
            log(f"{reason.partition('. ')[0]}: installing {package} with apt")
            return succeeds(*install, package)
    return False


def apt_get_without_password() -> list[str]:
    """The command `apt-get` as root, empty if that needs a password or there is no apt."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    apt_get = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    try:
        done = subprocess.run([*apt_get, "--version"], capture_output=True)
    except OSError:  # there is no sudo
        return []
    return apt_get if done.returncode == 0 else []


def succeeds(*command: str, folder: str = ".") -> bool:
    """Run a command, whose output goes to stderr; returns whether its exit status is 0."""
    return subprocess.run(command, stdout=sys.stderr, cwd=folder).returncode == 0


def log(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
