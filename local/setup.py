"""Makes what the scripts need: Java, `.venv` with the pinned packages, Kafka and Spark's connector.

    python -m local.setup [--dev]

Uses the standard library alone, as it runs before anything is installed. What is there already is
left as it is.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from velib import java
from velib.errors import Failure, JavaMissing

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
PROMTOOL = VENV / "bin" / "promtool"  # Prometheus' own checks, for the tests of the metrics


def main() -> None:
    requirements = Path("requirements-dev.txt" if "--dev" in sys.argv[1:] else "requirements.txt")
    need_java()
    need_venv()
    install(requirements)
    if "--dev" in sys.argv[1:]:
        want("chromium", "the page is tested in it")
        offer_promtool()
    fetch_jars()


def need_java() -> None:
    """Install Java if it is missing; where that takes a password, end with the command to type."""
    try:
        java.find()
    except JavaMissing as missing:
        can_install = "JAVA_HOME" not in os.environ
        if not (can_install and any(apt_install(p, str(missing)) for p in java.APT_PACKAGES)):
            sys.exit(str(missing))
    except Failure as failure:
        sys.exit(str(failure))


def need_venv() -> None:
    """Make `.venv` if it is missing. Debian and Ubuntu have a package of its own for that."""
    if PYTHON.exists():
        return
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python3.{sys.version_info.minor}-venv"
        missing = (
            f"Python's venv is missing. Debian/Ubuntu: sudo apt install {package};"
            " Fedora: sudo dnf install python3; macOS: brew install python@3.13"
        )
        if not apt_install(package, missing):
            sys.exit(missing)
    log(f"Making {VENV} with Python {sys.version.split()[0]}")
    if not succeeds(sys.executable, "-m", "venv", "--clear", str(VENV)):
        sys.exit(f"{VENV} could not be made in {Path.cwd()}: see the lines above")


def want(command: str, purpose: str) -> None:
    """Install the Debian package of a command that some tests need; without it they are skipped."""
    if shutil.which(command) is None:
        apt_install(command, f"{command} is missing: {purpose}")


def apt_install(package: str, reason: str) -> bool:
    """Install a Debian package where that needs no password; returns whether it is installed."""
    if not (apt_get := apt_get_without_password()):
        return False
    log(f"{reason.partition('. ')[0]}: installing {package} with apt")
    return succeeds(*apt_get, "update", "-qq") and succeeds(
        *apt_get, "install", "-y", "-qq", "--no-install-recommends", package
    )


def apt_get_without_password() -> list[str]:
    """The command `apt-get` as root, empty where that takes a password or where there is no apt."""
    if shutil.which("apt-get") is None:
        return []
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (
        shutil.which("sudo") is None
        or subprocess.run([*sudo, "true"], capture_output=True).returncode
    ):
        return []
    return [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]


def offer_promtool() -> None:
    """Put promtool into `.venv` if it is missing; without it the tests that use it are skipped.

    It is taken out of Debian's package, which would start a Prometheus server if it was installed.
    """
    if PROMTOOL.exists() or shutil.which("promtool"):
        return
    if not (apt_get := apt_get_without_password()):
        log("There is no promtool: tests of the metrics will be skipped")
        return
    log("Taking promtool out of the package prometheus with apt, 20 MB")
    with tempfile.TemporaryDirectory() as folder:
        download = [*apt_get, "-o", "APT::Sandbox::User=root", "download", "-qq", "prometheus"]
        if succeeds(*apt_get, "update", "-qq") and succeeds(*download, folder=folder):
            (package,) = Path(folder).glob("prometheus_*.deb")
            if succeeds("dpkg-deb", "--extract", str(package), folder):
                shutil.move(Path(folder) / "usr" / "bin" / "promtool", PROMTOOL)


def install(requirements: Path) -> None:
    """Install the pinned packages, unless the same ones are installed already."""
    digest = digest_of("requirements.txt", requirements)
    installed = VENV / f"{requirements.stem}.installed"
    if installed.exists() and installed.read_text() == digest:
        return
    log(f"Installing the packages of {requirements} into {VENV}; Spark is the large one, 450 MB")
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    if not succeeds(*pip, "-r", str(requirements)):
        sys.exit("pip could not install the packages: see its last lines, then type the same again")
    installed.write_text(digest)


def fetch_jars() -> None:
    """Fetch Kafka and Spark's Kafka connector, unless these versions are in the cache."""
    if subprocess.run([PYTHON, "-m", "local.jars"]).returncode != 0:
        sys.exit(1)


def digest_of(*files: str | Path) -> str:
    """A digest of what is in these files."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


def succeeds(*command: str, folder: str = ".") -> bool:
    """Run a command, whose output goes to stderr; returns whether its exit status is 0."""
    return subprocess.run(command, stdout=sys.stderr, cwd=folder).returncode == 0


def log(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
