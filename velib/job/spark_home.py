"""Which Spark the job runs on: that of SPARK_HOME if it is set, else the one of this project.

Import this module before pyspark: it sets aside what other tools have left in the environment. That
never fails, so that `spark.py --help` works always; `check` says what is wrong.
"""

import os
import re
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

import findspark

import config
from config import BadSetting
from velib.runtime import log

SET_ASIDE = ("PYSPARK_SUBMIT_ARGS", "SPARK_REMOTE")
"""What other tools set for the Spark that they start: with it ours would not start."""


def choose() -> None:
    """Have `import pyspark` find this project's, and set what pyspark takes from the environment.

    `spark-submit` has done that already.
    """
    if not config.under_spark_submit():
        sys.path[:] = [entry for entry in sys.path if not _has_another_pyspark(entry)]
        import pyspark  # noqa: F401  (without it findspark prefers any Spark that it finds)

        if _is_wrong(os.environ.get("SPARK_HOME", "")):
            return
    findspark.init()


def check() -> None:
    """Log what is set aside; raises BadSetting if SPARK_HOME does not have this project's Spark."""
    if config.under_spark_submit():
        return
    home = os.environ["SPARK_HOME"]
    if _is_wrong(home):
        raise BadSetting(
            f"SPARK_HOME is {home!r}, which has {_version(home) or 'no Spark'}: it must be the"
            f" folder of a Spark {_installed().version}, or not be set: the project has its own"
        )
    for variable in SET_ASIDE:
        if os.environ.pop(variable, None) is not None:
            log.warning(
                "%s is set aside: python spark.py starts Spark with its own options."
                " To choose them, use spark-submit",
                variable,
            )
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if _has_another_pyspark(entry):
            log.warning("%s of PYTHONPATH is set aside: it has another pyspark", entry)


def _installed() -> metadata.Distribution:
    """The pyspark that is installed with the project."""
    return metadata.distribution("pyspark")


def _has_another_pyspark(entry: str) -> bool:
    """Whether an entry of Python's path, a folder or a zip file, has a pyspark or its py4j."""
    if Path(entry).resolve() == Path(str(_installed().locate_file(""))).resolve():
        return False
    specs = (PathFinder.find_spec(name, [entry]) for name in ("pyspark", "py4j"))
    return any(spec is not None and spec.origin is not None for spec in specs)


def _is_wrong(home: str) -> bool:
    """Whether SPARK_HOME is set, and has no Spark that fits the installed pyspark."""
    has_submit = Path(home, "bin", "spark-submit").is_file()
    return bool(home) and not (has_submit and _version(home) == _installed().version)


def _version(home: str) -> str | None:
    """The version of the Spark in a folder, None if there is none."""
    for jar in Path(home, "jars").glob("spark-core_*.jar"):
        if match := re.fullmatch(r"spark-core_[\d.]+-(.+)\.jar", jar.name):
            return match[1]
    return None


choose()
