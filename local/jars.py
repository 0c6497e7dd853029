"""Downloads the Java programs that PyPI does not have: Kafka, and Spark's Kafka connector.

    python -m local.jars

They come from Maven Central into the user's cache. Afterwards nothing needs the internet.
"""

from pathlib import Path

import config
from velib import jars, runtime

KAFKA_VERSION = "4.4.0"
KAFKA = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka writes its log through it, but does not name it as a dependency.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
)


def main() -> None:
    cache_dir = config.load().cache_dir
    kafka(cache_dir)
    jars.connector(cache_dir)


def kafka(cache_dir: Path) -> Path:
    """The folder of Kafka's jars, downloaded if missing; raises Failure."""
    folder = cache_dir / f"kafka-{KAFKA_VERSION}"
    return jars.fetch(folder, f"Apache Kafka {KAFKA_VERSION}", KAFKA)


if __name__ == "__main__":
    runtime.run_tool(main)
