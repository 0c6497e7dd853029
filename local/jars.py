"""Fetches the Java programs that PyPI does not have: Kafka and Spark's Kafka connector.

    python -m local.jars

Ivy, which comes with pyspark, fetches them from Maven Central into the user's cache, once for each
user. Afterwards nothing needs the network.
"""

import fcntl
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from config import CACHE_DIR
from velib import cli, java
from velib.errors import Failure

KAFKA_VERSION = "4.4.0"
KAFKA = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka writes its log through it, but does not name it as a dependency.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
)

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
    """The folder of Kafka's jars, fetched if missing; raises Failure."""
    folder = CACHE_DIR / f"kafka-{KAFKA_VERSION}"
    with _locked_cache():
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE_DIR) as unfinished:
                _fetch(f"Apache Kafka {KAFKA_VERSION}", KAFKA, (), Path(unfinished))
                (Path(unfinished) / "jars").rename(folder)
    return folder


def connector() -> None:
    """Fetch Spark's Kafka connector, if missing, into the cache in which the job has Spark look for
    it; raises Failure.
    """
    from velib import engine  # here, as it imports pyspark: the broker does without

    fetched = engine.IVY_DIR / f"{engine.CONNECTOR}.fetched"
    with _locked_cache():
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
def _locked_cache() -> Iterator[None]:
    """Let one process at a time change the cache; raises Failure."""
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


def _fetch(name: str, artifacts: Iterable[str], excluded: Iterable[str], folder: Path) -> None:
    """Fetch artifacts (`group:module:version`) and their dependencies, with a progress bar.

    They go into Ivy's cache and into `folder`/jars; raises Failure. The excluded modules
    (`group:module`) are not fetched.
    """
    dependency = '<dependency org="{}" name="{}" rev="{}" conf="default->default"/>'
    exclude = '<exclude org="{}" module="{}"/>'
    dependencies = [dependency.format(*artifact.split(":")) for artifact in artifacts]
    dependencies += [exclude.format(*module.split(":")) for module in excluded]
    ivy_file = folder / "ivy.xml"
    ivy_file.write_text(IVY_FILE.format(dependencies="\n    ".join(dependencies)))
    command = [java.find(), "-jar", str(_ivy()), "-cache", str(CACHE_DIR / "ivy" / "cache")]
    command += ["-ivy", str(ivy_file), "-confs", "default"]
    command += ["-types", "jar", "bundle"]  # scala-logging, among others, is a bundle
    command += ["-retrieve", f"{folder}/jars/[artifact]-[revision](-[classifier]).[ext]"]
    console = Console(stderr=True)
    console.print(f"Fetching {name} from Maven Central, once …", highlight=False)
    output, both = subprocess.PIPE, subprocess.STDOUT
    with (
        subprocess.Popen(command, stdout=output, stderr=both, text=True) as ivy,
        _progress(console) as progress,
    ):
        assert ivy.stdout is not None
        lines = _show(ivy.stdout, progress)
    if ivy.returncode != 0:
        signs = ("UNRESOLVED", "not found", "FAILED")
        problems = [line for line in lines if any(sign in line for sign in signs)]
        cause = (problems or lines[-1:] or ["Ivy printed nothing"])[0].strip(" :\n")
        raise Failure(
            f"{name} cannot be fetched ({cause}): check the network and type the same again"
        )


def _progress(console: Console) -> Progress:
    columns = TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console)


def _show(output: Iterable[str], progress: Progress) -> list[str]:
    """Show Ivy's output as a progress bar; returns its lines."""
    task = progress.add_task("looking up what it needs", total=None)
    lines: list[str] = []
    found = fetched = 0
    for line in output:
        lines.append(line)
        if "\tfound " in line:
            found += 1
            progress.update(task, description=f"looking up what it needs: {found} modules")
        elif "[SUCCESSFUL ]" in line:
            fetched += 1
            description = f"{fetched} of {found} jars"
            progress.update(task, description=description, total=found, completed=fetched)
    progress.update(task, description="done", total=1, completed=1)
    return lines


def _ivy() -> Path:
    """The Ivy that comes with pyspark; raises Failure."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise Failure("pyspark is not installed: type `make setup`")
    return next(Path(spec.origin).parent.glob("jars/ivy-*.jar"))


if __name__ == "__main__":
    cli.run(main)
