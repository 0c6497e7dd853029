"""Why Spark did not start, from what its Java has written before it ended."""

from pathlib import Path

import pytest
from pyspark.errors import PySparkRuntimeError

from velib.job.start_failure import message


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (
            "Picked up JAVA_TOOL_OPTIONS: -Xmx1z\nInvalid maximum heap size: -Xmx1z\n"
            "Error: Could not create the Java Virtual Machine.\n",
            "Spark did not start (Invalid maximum heap size: -Xmx1z): see spark-jvm.log",
        ),
        (
            "WARNING: Using incubator modules: jdk.incubator.vector\n"
            'Exception in thread "main" java.io.IOException: Invalid UID, could not determine\n'
            "\tat org.apache.hadoop.security.UserGroupInformation.doSubjectLogin\n",
            "Spark did not start (java.io.IOException: Invalid UID, could not determine): this user"
            " has a number but no name: give it an entry in /etc/passwd",
        ),
        (
            "26/11/26 20:38:58 ERROR JavaUtils: Failed to create directory /proc/x/blockmgr\n",
            "Spark did not start (Failed to create directory /proc/x/blockmgr): see spark-jvm.log",
        ),
        ("", "Spark did not start (Java wrote nothing): see spark-jvm.log"),
    ],
)
def test_the_line_has_what_java_has_written_last(written: str, line: str) -> None:
    Path("spark-jvm.log").write_text(written)
    assert message(PySparkRuntimeError("Java has ended"), Path("spark-jvm.log")) == line


def test_of_a_long_cause_the_line_has_the_beginning_and_the_end() -> None:
    cause = f"java.nio.file.FileSystemException: /{'x' * 500}: No space left on device"
    Path("spark-jvm.log").write_text(f'Exception in thread "main" {cause}\n')
    line = message(PySparkRuntimeError("Java has ended"), Path("spark-jvm.log"))
    assert line.startswith("Spark did not start (java.nio.file.FileSystemException: /xxx")
    assert line.endswith(
        "x: No space left on device): make room in /tmp, or in the folder of SPARK_LOCAL_DIRS"
    )
    assert len(line) < 320
