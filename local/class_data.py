"""Makes the archives of class data with which Kafka and Spark start faster (velib/class_data.py).

    python -m local.class_data

Fetches the jars first, if they are missing. Then it runs Kafka and the job over one snapshot of the
simulated feed: when they end, Java writes the classes that they have used into the archives. That
is done once for each build of Java and each version of Kafka and Spark. Prints the archives' paths.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import config
from local import jars
from local.broker import free_port
from local.demo import demo_environment
from velib import class_data, cli, engine, spark_home
from velib.cli import log

PROJECT = Path(__file__).parent.parent
TIMEOUT = 180  # seconds for a script
KEPT = 2  # archives of a program: two folders of this project may have a Spark each


def main() -> None:
    """Make the archives if one is missing. If that fails, everything works without them."""
    spark_home.check()
    settings = config.load()
    kafka = class_data.archive(settings.cache_dir, "kafka", jars.kafka(settings.cache_dir))
    jars.connector(settings.cache_dir)
    spark = class_data.archive(settings.cache_dir, "spark", engine.SPARK_JARS)
    if not (kafka.exists() and spark.exists()):
        make_and_install(kafka, spark, settings)
    print(*(archive for archive in (kafka, spark) if archive.exists()), sep="\n")


def make_and_install(kafka: Path, spark: Path, settings: config.Settings) -> None:
    """Make both archives; logs a warning if that fails."""
    for archive in (kafka, spark):  # Java cannot use an archive and write one at the same time
        archive.unlink(missing_ok=True)
    log.info("Preparing Java's class data, once: half a minute")
    try:
        with tempfile.TemporaryDirectory(dir=settings.cache_dir) as folder:
            make(Path(folder), settings)
            install(Path(folder) / "kafka" / "kafka.jsa", kafka)
            install(Path(folder) / "spark.jsa", spark)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("Kafka and Spark start more slowly, as there is no class data: %s", error)


def make(folder: Path, settings: config.Settings) -> None:
    """Run the pipeline in a folder, where Java leaves `kafka/kafka.jsa` and `spark.jsa`.

    Raises SubprocessError.
    """
    broker_port, feed_port = free_port(), free_port()
    environment = os.environ | demo_environment(settings, broker_port, feed_port)
    environment["PYTHONPATH"] = str(PROJECT)
    broker = ["-m", "local.broker", "--port", str(broker_port), "--data-dir", "kafka"]
    feed = ["-m", "local.simulator", "--port", str(feed_port)]
    producer = [str(PROJECT / "kafka_project.py"), "--once"]
    job = [str(PROJECT / "spark.py"), "--available-now"]
    with (
        _running(broker, folder, environment | {"JAVA_TOOL_OPTIONS": _archive_into("kafka.jsa")}),
        _running(feed, folder, environment),
    ):
        _run(producer, folder, environment)
        _run(job, folder, environment | {"SPARK_SUBMIT_OPTS": _archive_into("spark.jsa")})


def _archive_into(name: str) -> str:
    """The options with which Java, when it ends, archives its classes in its working directory."""
    return f"-XX:ArchiveClassesAtExit={name} {class_data.QUIET}"


@contextmanager
def _running(script: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a script meanwhile, and stop it at the end."""
    with _start(script, folder, environment) as process:
        try:
            yield
        finally:
            process.terminate()


def _run(script: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a script to its end; raises SubprocessError if it fails or takes longer than TIMEOUT."""
    with _start(script, folder, environment) as process:
        try:
            status = process.wait(TIMEOUT)
        finally:
            process.kill()
    if status != 0:
        raise subprocess.CalledProcessError(status, script)


def _start(script: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, *script], cwd=folder, env=environment, stdout=nowhere, stderr=nowhere
    )


def install(made: Path, archive: Path) -> None:
    """Move a complete archive to its place, as Java crashes on a part of one, and delete old ones.

    Raises OSError.
    """
    archive.parent.mkdir(exist_ok=True)
    made.replace(archive)
    program, _, _ = archive.name.partition("-")
    archives = sorted(archive.parent.glob(f"{program}-*.jsa"), key=lambda a: a.stat().st_mtime)
    for old in archives[:-KEPT]:
        old.unlink(missing_ok=True)


if __name__ == "__main__":
    cli.run(main)
