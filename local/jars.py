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

import config
from velib import cache, java, maven, runtime
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
    cache_dir = config.load().cache_dir
    kafka(cache_dir)
    connector(cache_dir)


def kafka(cache_dir: Path) -> Path:
    """The folder of Kafka's jars, fetched if missing; raises Failure."""
    folder = cache_dir / f"kafka-{KAFKA_VERSION}"
    with _locked(cache_dir):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache_dir) as unfinished:
                _fetch(f"Apache Kafka {KAFKA_VERSION}", KAFKA, (), Path(unfinished))
                (Path(unfinished) / "jars").rename(folder)
    return folder


def connector(cache_dir: Path) -> None:
    """Fetch Spark's Kafka connector, if missing, into the cache in which the job has Spark look for
    it; raises Failure.
    """
    from velib.job import session  # here, as it imports pyspark: the broker does without

    fetched = cache.ivy_dir(cache_dir) / f"{session.CONNECTOR}.fetched"
    with _locked(cache_dir):
        if not fetched.exists():
            with tempfile.TemporaryDirectory(dir=cache_dir) as unfinished:
                _fetch(
                    "Spark's Kafka connector",
                    [session.CONNECTOR],
                    session.PROVIDED_BY_PYSPARK,
                    Path(unfinished),
                )
            fetched.touch()


@contextmanager
def _locked(cache_dir: Path) -> Iterator[None]:
    """Let one process at a time change the cache; raises Failure."""
    cache.ensure(cache_dir)
    lock = os.open(cache_dir, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _fetch(name: str, artifacts: Iterable[str], excluded: Iterable[str], folder: Path) -> None:
    """Fetch artifacts (`group:module:version`) and their dependencies, with a progress bar.

    They go into Ivy's part of the cache and into `jars` in an empty folder of the cache. The
    excluded modules (`group:module`) are not fetched. Raises Failure.
    """
    dependency = '<dependency org="{}" name="{}" rev="{}" conf="default->default"/>'
    exclude = '<exclude org="{}" module="{}"/>'
    dependencies = [dependency.format(*artifact.split(":")) for artifact in artifacts]
    dependencies += [exclude.format(*module.split(":")) for module in excluded]
    (folder / "ivy.xml").write_text(IVY_FILE.format(dependencies="\n    ".join(dependencies)))
    command = [java.find(), *_proxy_options(folder), "-jar", str(_ivy())]
    command += ["-cache", str(cache.ivy_dir(folder.parent) / "cache")]
    command += ["-ivy", "ivy.xml", "-confs", "default"]
    command += ["-types", "jar", "bundle"]  # scala-logging, among others, is a bundle
    # Within its folder: brackets in a path would be part of the pattern.
    command += ["-retrieve", "jars/[artifact]-[revision](-[classifier]).[ext]"]
    console = Console(stderr=True)
    console.print(f"Fetching {name} from Maven Central, once …", highlight=False)
    output, both = subprocess.PIPE, subprocess.STDOUT
    with (
        subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | java.LOCALE,
            stdout=output,
            stderr=both,
            text=True,
            errors="replace",
        ) as ivy,
        _progress(console) as progress,
    ):
        assert ivy.stdout is not None
        lines = _show(ivy.stdout, progress)
    if ivy.returncode != 0:
        raise Failure(maven.failure(name, "".join(lines)))


def _proxy_options(folder: Path) -> list[str]:
    """The options with which Java reaches Maven Central. A password goes into a file: on a command
    line everybody could read it.
    """
    through = maven.proxy()
    if through is None:
        return []
    options = folder / "proxy.options"
    options.touch(mode=0o600)
    options.write_text("\n".join(map(java.quoted, through.user_options())))
    return [*through.options(), f"@{options}"]


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
    runtime.run_tool(main)
