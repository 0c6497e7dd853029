"""Downloads jars from Maven Central with Ivy, which comes with pyspark.

Each set of jars has a folder of its own, which is complete or missing.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console

from velib import java
from velib.errors import Failure, cause
from velib.locks import locked

PROVIDED_BY_SPARK = (
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.spark:spark-tags_2.13",
    "org.scala-lang:scala-library",
)
"""Dependencies of the Kafka connector that need not be downloaded."""

IVY_FILE = """\
<ivy-module version="2.0">
  <info organisation="velib-projet" module="jars"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
    {dependencies}
  </dependencies>
</ivy-module>
"""


def connector(cache_dir: Path) -> Path:
    """The folder with the Kafka connector of this Spark, downloaded if missing; raises Failure."""
    version = metadata.version("pyspark")
    artifact = f"org.apache.spark:spark-sql-kafka-0-10_2.13:{version}"
    folder = cache_dir / f"spark-kafka-{version}"
    return fetch(folder, "Spark's Kafka connector", [artifact], PROVIDED_BY_SPARK)


def fetch(folder: Path, name: str, artifacts: Sequence[str], excluded: Sequence[str] = ()) -> Path:
    """Download artifacts (`group:module:version`) and their dependencies into a folder.

    Does nothing if the folder is there. Leaves out excluded modules (`group:module`). Returns the
    folder; raises Failure.
    """
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    try:
        if not folder.is_absolute():
            raise OSError(None, "this user has no home")
        with locked(folder.parent):
            if not folder.is_dir():
                unfinished.mkdir(exist_ok=True)
                _run_ivy(unfinished, name, _ivy_file(artifacts, excluded))
                (unfinished / "jars").rename(folder)
                shutil.rmtree(unfinished)
    except OSError as error:
        raise Failure(
            f"The cache folder {folder.parent} cannot be used ({error.strerror}):"
            " set VELIB_CACHE_DIR to a folder in which this user may write"
        ) from None
    return folder


def _ivy_file(artifacts: Sequence[str], excluded: Sequence[str]) -> str:
    dependency = '<dependency org="{}" name="{}" rev="{}" conf="default->default"/>'
    exclude = '<exclude org="{}" module="{}"/>'
    dependencies = [dependency.format(*artifact.split(":")) for artifact in artifacts]
    dependencies += [exclude.format(*module.split(":")) for module in excluded]
    return IVY_FILE.format(dependencies="\n    ".join(dependencies))


def _run_ivy(folder: Path, name: str, ivy_file: str) -> None:
    """Download into `jars` in a folder; raises Failure.

    Ivy keeps its downloads in the same folder, so that an interrupted download resumes.
    """
    (folder / "ivy.xml").write_text(ivy_file)
    proxy = java.proxy()
    options = folder / "java.options"  # every user could read a password on the command line
    options.touch(mode=0o600)
    options.write_text("\n".join(map(java.quoted, proxy.options() if proxy else [])))
    pyspark = Path(str(metadata.distribution("pyspark").locate_file("pyspark")))
    (ivy_jar,) = pyspark.glob("jars/ivy-*.jar")
    command = [java.find(), f"@{options.name}", f"-Divy.home={folder}", "-jar", str(ivy_jar)]
    command += ["-ivy", "ivy.xml", "-confs", "default"]
    command += ["-overwriteMode", "always"]  # a download that was interrupted may have left half
    command += ["-types", "jar", "bundle"]  # scala-logging, among others, is a bundle
    # A relative path: Ivy would treat brackets in an absolute one as part of the pattern.
    command += ["-retrieve", "jars/[artifact]-[revision](-[classifier]).[ext]"]
    console = Console(stderr=True)
    console.print(f"Downloading {name} from Maven Central (only this once) …", highlight=False)
    with console.status("a minute or two"):
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | java.LOCALE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    if done.returncode == 0:
        return
    reason = f"({cause(done.stdout)})"
    if proxy:
        raise Failure(
            f"{name} cannot be downloaded through the proxy {proxy.host}:{proxy.port} {reason}:"
            " correct HTTPS_PROXY, or add the host to NO_PROXY"
        )
    raise Failure(
        f"{name} cannot be downloaded {reason}: check the internet connection and try again;"
        " behind a proxy set HTTPS_PROXY"
    )
