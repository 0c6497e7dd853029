"""The machine and the versions with which the figures were measured."""

import os
import platform
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.contenders import PYTHON, REQUIREMENTS
from local.jars import KAFKA_VERSION
from velib import java

PACKAGES = ("pyspark", "kafka-python", "confluent-kafka", "orjson")


@cache
def machine() -> dict[str, str]:
    """The processor, its cores, the memory, and the versions of what was measured."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": platform.platform(),
        "Java": _java(),
        "Python": platform.python_version(),
        "Kafka": KAFKA_VERSION,
        **{name: version(name) for name in PACKAGES},
        **_peers(),
    }


def _java() -> str:
    """The build of the Java: `OpenJDK Runtime Environment (build 17.0.15+6-…)`."""
    return "".join(re.findall(r".*Runtime Environment.*", java.version_output(java.find())))


def _processor() -> str:
    """The processor's name; the virtual machine may hide it."""
    with Path("/proc/cpuinfo").open() as lines:
        found = (re.match(r"model name\s*: (.*)", line) for line in lines)
        return next((match[1] for match in found if match), platform.processor() or "unknown")


def _peers() -> dict[str, str]:
    """The versions in the environment of the peers, none if there is none."""
    pinned = re.findall(r"^(quixstreams|apache-flink)==(\S+)", REQUIREMENTS.read_text(), re.M)
    return dict(pinned) if PYTHON.exists() else {}
