"""Makes what the scripts need, once: Java, `.venv` with the pinned packages, Spark's Kafka connector and Kafka.

    python -m local.setup [--dev]

Runs before anything is installed, so it uses the standard library alone. What is there already is left as it is.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from velib import java
from velib.errors import JavaMissing

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"


def main() -> None:
    requirements = Path("requirements-dev.txt" if "--dev" in sys.argv[1:] else "requirements.txt")
    need_java()
    need_venv()
    install(requirements)
    subprocess.run([PYTHON, "-m", "local.jars"], check=True)


def need_java() -> None:
    try:
        java.find()
    except JavaMissing as missing:
        if "JAVA_HOME" in os.environ or not any(
            apt_install(package, str(missing)) for package in java.APT_PACKAGES
        ):
            sys.exit(str(missing))


def need_venv() -> None:
    """Make `.venv`. Debian and Ubuntu keep what that needs in a package of its own."""
    if PYTHON.exists():
        return
    if importlib.util.find_spec("ensurepip") is None:
        package = f"python3.{sys.version_info.minor}-venv"
        missing = (
            f"Python's venv is missing. Debian/Ubuntu: sudo apt install {package}; Fedora: sudo dnf install python3;"
            " macOS: brew install python@3.13"
        )
        if not apt_install(package, missing):
            sys.exit(missing)
    say(f"Making {VENV} with Python {sys.version.split()[0]}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)


def apt_install(package: str, why: str) -> bool:
    """Install a Debian package where that needs no password; returns whether it could."""
    if shutil.which("apt-get") is None:
        return False
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (
        shutil.which("sudo") is None
        or subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode
    ):
        return False
    say(f"{why.partition('. ')[0]}: installing {package} with apt")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", package],
    ):
        if subprocess.run([*sudo, "apt-get", *command], env=env, stdout=sys.stderr).returncode:
            return False
    return True


def install(requirements: Path) -> None:
    """Install the pinned packages, unless these very ones are installed."""
    wanted = hashlib.sha256(
        b"".join(Path(name).read_bytes() for name in ("requirements.txt", requirements))
    ).hexdigest()
    installed = VENV / f"{requirements.stem}.installed"
    if installed.exists() and installed.read_text() == wanted:
        return
    say(f"Installing the packages of {requirements} into {VENV}; Spark is the large one, 450 MB")
    pip = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "-r",
        str(requirements),
    ]
    if subprocess.run(pip, stdout=sys.stderr).returncode:
        sys.exit("pip could not install the packages: see its last lines, then type the same again")
    installed.write_text(wanted)


def say(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
