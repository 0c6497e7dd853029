"""Why Spark did not start, in one line: from its exception, or from what its Java has written."""

import re
from pathlib import Path

from py4j.protocol import Py4JJavaError

from velib import maven

MAX_CAUSE = 200  # characters; of a longer one the line has the beginning and the end

CAUSES = (
    r"^Exception in thread \"\S+\" (.+)",
    r" ERROR \S+: (.+)",  # a line of Spark's log
    r"^(?!Picked up|WARNING|NOTE)(.+)",
)
"""Where the log of a Java that has ended says why; the first pattern that is found counts."""

REMEDIES = {
    "Cannot assign requested address": "set SPARK_LOCAL_IP to an address of this machine",
    "Invalid UID": "this user has a number but no name: give it an entry in /etc/passwd",
    "No space left on device": "make room in /tmp, or in the folder of SPARK_LOCAL_DIRS",
    "Error loading java.security": "let more files be open: type `ulimit -n 4096`",
    "UnknownHostException": "correct spark-defaults.conf or core-site.xml",
}
"""What to do about a cause that contains a text."""


def message(error: Exception, jvm_log: Path) -> str:
    """The line for an error with which Spark did not start; `jvm_log` is the log of its Java."""
    output = jvm_log.read_text(errors="replace")
    if "unresolved dependency" in output:
        return maven.failure("Spark's Kafka connector", output)
    cause = str(error.java_exception) if isinstance(error, Py4JJavaError) else _last_words(output)
    remedies = (remedy for sign, remedy in REMEDIES.items() if sign in cause)
    return f"Spark did not start ({_short(cause)}): {next(remedies, f'see {jvm_log}')}"


def _last_words(output: str) -> str:
    matches = (re.search(pattern, output, re.MULTILINE) for pattern in CAUSES)
    return next((match[1] for match in matches if match), "Java wrote nothing")


def _short(cause: str) -> str:
    half = MAX_CAUSE // 2
    return cause if len(cause) <= MAX_CAUSE else f"{cause[:half]} … {cause[-half:]}"
