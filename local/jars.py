"""Fetches what runs on Java and does not come from PyPI: Kafka itself and Spark's Kafka connector, once for each user.

    python -m local.jars

Ivy, which pyspark ships, gets them from Maven Central into the user's cache. Afterwards nothing needs the network.
"""

import fcntl
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from config import CACHE_DIR
from velib import cli, java
from velib.errors import Failure

KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
KAFKA_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"  # Kafka's own list leaves it out: no log without it

IVY_FILE = """\
<ivy-module version="2.0">
  <info organisation="velib-projet" module="jars"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
    {dependencies}
  </dependencies>
</ivy-module>
"""


def main() -> None:
    kafka()
    connector()


def kafka() -> Path:
    """The folder of Kafka's jars, fetched if missing."""
    folder = CACHE_DIR / "kafka-4.4.0"
    with _alone():
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE_DIR) as unfinished:
                _fetch("Apache Kafka 4.4.0", [KAFKA, KAFKA_LOGGING], [], Path(unfinished))
                (Path(unfinished) / "jars").rename(folder)
    return folder


def connector() -> None:
    """Put Spark's Kafka connector where `spark.py` has Spark look for it, if it is missing there."""
    from velib import engine  # takes a second, and Kafka alone does without

    fetched = engine.IVY_DIR / f"{engine.CONNECTOR}.fetched"
    with _alone():
        if not fetched.exists():
            with tempfile.TemporaryDirectory(dir=CACHE_DIR) as unfinished:
                _fetch(
                    "Spark's Kafka connector",
                    [engine.CONNECTOR],
                    engine.PROVIDED_BY_PYSPARK,
                    Path(unfinished),
                )
            fetched.touch()


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time fetch."""
    try:
        CACHE_DIR.mkdir(parents=True, exist_ok=True)
        lock = os.open(CACHE_DIR, os.O_RDONLY)
    except OSError as error:
        raise Failure(f"The cache {CACHE_DIR} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _fetch(name: str, artifacts: list[str], without: list[str], folder: Path) -> None:
    """Fetch each `group:module:version` and what it needs into Ivy's cache and `folder`/jars, showing progress."""
    dependency = '<dependency org="{}" name="{}" rev="{}" conf="default->default"/>'
    dependencies = [dependency.format(*artifact.split(":")) for artifact in artifacts]
    dependencies += [
        '<exclude org="{}" module="{}"/>'.format(*excluded.split(":")) for excluded in without
    ]
    ivy_file = folder / "ivy.xml"
    ivy_file.write_text(IVY_FILE.format(dependencies="\n    ".join(dependencies)))
    arguments = [
        "-cache",
        str(CACHE_DIR / "ivy" / "cache"),
        "-ivy",
        str(ivy_file),
        "-confs",
        "default",
    ]
    # Some jars, scala-logging among them, call themselves bundles.
    arguments += [
        "-types",
        "jar",
        "bundle",
        "-retrieve",
        f"{folder}/jars/[artifact]-[revision](-[classifier]).[ext]",
    ]
    command = java.find()
    console = Console(stderr=True)
    console.print(f"Fetching {name} from Maven Central, once …", highlight=False)
    with (
        subprocess.Popen(
            [command, "-jar", str(_ivy()), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as ivy,
        _progress(console) as progress,
    ):
        assert ivy.stdout is not None
        said = _show(ivy.stdout, progress)
    if ivy.returncode != 0:
        problem = next(
            (
                line
                for line in said
                if "UNRESOLVED" in line or "not found" in line or "FAILED" in line
            ),
            said[-1],
        )
        raise Failure(
            f"{name} cannot be fetched ({problem.strip(' :')}): check the network and type the same again"
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    )


def _show(lines: Iterator[str], progress: Progress) -> list[str]:
    """Turn what Ivy prints into a bar; returns its lines."""
    task = progress.add_task("looking up what it needs", total=None)
    said: list[str] = []
    found = fetched = 0
    for line in lines:
        said.append(line)
        if "\tfound " in line:
            found += 1
            progress.update(task, description=f"looking up what it needs: {found} modules")
        elif "[SUCCESSFUL ]" in line:
            fetched += 1
            progress.update(
                task, description=f"{fetched} of {found} jars", total=found, completed=fetched
            )
    progress.update(task, description="done", total=1, completed=1)
    return said


def _ivy() -> Path:
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise Failure("pyspark is not installed: type `make setup`")
    return next(Path(spec.origin).parent.glob("jars/ivy-*.jar"))


if __name__ == "__main__":
    cli.run(main)
