"""Class data: what set-up prepares is what Kafka and the job load their classes from."""

from pathlib import Path

import config
from local.broker import free_port
from tests.pipeline import Pipeline, wait_until

BROKER = ("-m", "local.broker")
ARCHIVE = "shared objects file (top)"  # Java's own classes are in an archive below
LOADED_CLASSES = "-Xlog:class+load:file=classes-%p.log"


def _sources(folder: Path, java_class: str) -> list[str]:
    """Where the Java processes of a folder have loaded a class from."""
    sources = []
    for log in folder.rglob("classes-*.log"):
        for line in log.read_text().splitlines():
            if f" {java_class} source: " in line:
                sources.append(line.partition(" source: ")[2])
    return sources


def test_kafka_and_the_job_load_their_classes_from_the_archives(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for fetched in ("ivy", "kafka-4.4.0"):
        (cache / fetched).symlink_to(config.load().cache_dir / fetched)
    environment = {"VELIB_CACHE_DIR": str(cache), "JAVA_TOOL_OPTIONS": LOADED_CLASSES}

    set_up = pipeline.start("-m", "local.class_data", **environment)
    wait_until(set_up.has_ended, "the archives are made", 300)
    assert set_up.end() == 0
    assert set_up.log().count("\n") == 1

    broker = pipeline.start(*BROKER, "--port", str(free_port()), "--data-dir", "own", **environment)
    wait_until(broker.printed, "Kafka is ready")
    assert broker.stop() == 0
    assert _sources(pipeline.folder, "kafka.Kafka") == [ARCHIVE]

    assert pipeline.start("spark.py", "--available-now", **environment).end() == 0
    assert _sources(pipeline.folder, "org.apache.spark.SparkContext") == [ARCHIVE]
