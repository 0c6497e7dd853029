"""Who is measured: this pipeline's job and the peers, each a command of its own."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from velib import jars
from velib.errors import Failure
from velib.runtime import log

PROJECT = Path(__file__).parent.parent
FOLDER = PROJECT / ".velib" / "bench"
PEERS_VENV = FOLDER / "venv"
REQUIREMENTS = PROJECT / "bench" / "requirements.txt"
CONNECTOR_VERSION = "5.0.0-2.2"
FLINK_JARS = FOLDER / f"flink-kafka-{CONNECTOR_VERSION}"
CONNECTOR = FLINK_JARS / f"flink-sql-connector-kafka-{CONNECTOR_VERSION}.jar"
PYTHONS = (11, 12)  # minor versions for which both Quix Streams and PyFlink have packages


@dataclass(frozen=True)
class Contender:
    """A program that is measured."""

    name: str
    arguments: tuple[str, ...]
    """The arguments of Python."""
    start: float
    """About how many seconds it takes until it reads: for the estimate of the time that is left."""
    speed: float = 0
    """About how many records a second it catches up with, for the same estimate."""
    packages: Path | None = None
    """The Python that has its packages, None if it is this one."""
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *options: str) -> list[str]:
        return [str(self.packages or sys.executable), *self.arguments, *options]


def peer(name: str, module: str, start: float, speed: float, *options: str) -> Contender:
    return Contender(name, ("-m", f"bench.peers.{module}", *options), start, speed)


JOB = Contender("this pipeline's job", ("spark.py",), 8, 110_000)
COPY = peer("Spark, only copying", "spark_copy", 8, 0)
DEFAULT_COPY = peer("Spark, only copying, with its defaults", "spark_copy", 8, 0, "--defaults")
COUNT = peer("Spark, only counting", "spark_count", 8, 200_000)
CLASSROOM = peer("Spark, foreachBatch and collect", "spark_classroom", 8, 25_000)
KAFKA_PYTHON = peer("kafka-python and json", "kafka_python_loop", 1, 60_000)
CONFLUENT = peer("confluent-kafka and orjson", "confluent_loop", 1, 120_000)
PYTHON = PEERS_VENV / "bin" / "python"
QUIX = Contender("Quix Streams", ("-m", "bench.peers.quix_streams"), 3, 8_000, PYTHON)
FLINK = Contender(
    "PyFlink, SQL",
    ("-m", "bench.peers.flink_sql"),
    10,
    100_000,
    PYTHON,
    {"FLINK_CONNECTOR": str(CONNECTOR)},
)

LIVE = [JOB, COPY, DEFAULT_COPY, CLASSROOM, KAFKA_PYTHON, CONFLUENT, QUIX, FLINK]
CATCH_UP = [JOB, COUNT, CLASSROOM, KAFKA_PYTHON, CONFLUENT, QUIX, FLINK]


def prepare_peers() -> str:
    """Create the environment of the peers that need their own packages, unless it exists.

    Returns why that failed, else "".
    """
    installed = PEERS_VENV / "installed"
    if installed.exists() and installed.read_text() == REQUIREMENTS.read_text():
        return ""
    python = _python()
    if python is None:
        return "they need Python 3.11 or 3.12, and there is none on the PATH"
    log.info("Installing Quix Streams and PyFlink into %s, 700 MB, once", PEERS_VENV)
    FOLDER.mkdir(parents=True, exist_ok=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [python, "-m", "venv", "--clear", str(PEERS_VENV)],
        [*pip, "-r", str(REQUIREMENTS)],
    ):
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            return f"{' '.join(command)} failed"
    try:
        artifact = f"org.apache.flink:flink-sql-connector-kafka:{CONNECTOR_VERSION}"
        jars.fetch(FLINK_JARS, "Flink's Kafka connector", [artifact])
    except Failure as failure:
        return str(failure)
    installed.write_text(REQUIREMENTS.read_text())
    return ""


def _python() -> str | None:
    """A Python for which the peers have packages: this one, or one that is on the PATH."""
    if sys.version_info.minor in PYTHONS:
        return sys.executable
    return next(filter(None, (shutil.which(f"python3.{minor}") for minor in PYTHONS)), None)
