"""The job's checkpoint: a folder, or an object store that Hadoop knows, with the progress of Spark.

Each of the two queries has a folder of its own in it. Beside them a file names the topic that they
read: Spark does not notice that a topic was deleted and made anew if the new one has more records.
"""

import json
import sys
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from config import Settings
from velib.errors import Failure
from velib.job.session import is_local
from velib.kafka import topics
from velib.runtime import log

QUERIES = ("totals", "dead-letters")
TOPIC_ID = "topic-id"
EARLIER_FORM = ("commits", "metadata", "offsets", "sources", "state")
"""What stood at the top of a checkpoint when the job had one query only."""


class Checkpoint:
    """The folder VELIB_CHECKPOINT_DIR, and whether it fits the raw topic."""

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        """Raises Failure if Hadoop knows no way to the folder."""
        assert spark._jvm is not None
        self.settings = settings
        self.folder = spark._jvm.org.apache.hadoop.fs.Path(settings.checkpoint_dir)
        try:
            self.files = self.folder.getFileSystem(spark._jsc.hadoopConfiguration())
        except Py4JJavaError as error:
            raise Failure(
                f"The checkpoint {settings.checkpoint_dir} cannot be used ({error.java_exception}):"
                " correct VELIB_CHECKPOINT_DIR"
            ) from None
        self._path = spark._jvm.org.apache.hadoop.fs.Path
        if not is_local(spark) and self.files.getScheme() == "file":
            log.warning(
                "The checkpoint %s is a local folder: every machine of the cluster must have the"
                " same folder there, or VELIB_CHECKPOINT_DIR must name an object store",
                settings.checkpoint_dir,
            )

    def starting_offsets(self) -> str:
        """Where a query begins to read the raw topic, as Spark takes it; raises KafkaError.

        Spark asks for it always, and goes by its checkpoint if there is one.
        """
        if self._exists("totals/offsets"):
            return "earliest"
        offsets = topics.first_whole_snapshot(self.settings)
        return json.dumps({self.settings.raw_topic: offsets})

    def check(self) -> None:
        """Note in a new checkpoint which topic it belongs to; raises Failure if that is another."""
        if self._exists("offsets"):
            raise Failure(mismatch(self.settings, "the job has another form now"))
        topic_id, noted_id = topics.identity(self.settings), self._read(TOPIC_ID)
        if noted_id is None and topic_id:
            self._write(TOPIC_ID, topic_id)
        elif noted_id and topic_id and noted_id != topic_id:
            raise Failure(mismatch(self.settings, "the topic was made anew"))

    def shuffle_partitions(self) -> int | None:
        """The number of shuffle partitions that it began with; None if it is new or damaged.

        Spark repeats the options that a state depends on in the second line of each offsets file.
        """
        if not self._exists("totals/offsets"):
            return None
        files = self.files.listStatus(self._path(self.folder, "totals/offsets"))
        names = [file.getPath().getName() for file in files]
        batches = [int(name) for name in names if name.isdecimal()]
        if not batches:
            return None
        text = self._read(f"totals/offsets/{max(batches)}") or ""
        try:
            options = json.loads(text.splitlines()[1])["conf"]
            return int(options["spark.sql.shuffle.partitions"])
        except (IndexError, KeyError, ValueError):  # cut off by a power failure: Spark will say it
            return None

    def reset(self) -> None:
        """Remove what Spark and the job keep there, and nothing else: it may be a wrong folder."""
        for name in (*QUERIES, TOPIC_ID, *EARLIER_FORM):
            self.files.delete(self._path(self.folder, name), True)
        log.info("The progress in %s is forgotten", self.settings.checkpoint_dir)

    def _exists(self, name: str) -> bool:
        return bool(self.files.exists(self._path(self.folder, name)))

    def _read(self, name: str) -> str | None:
        """The text of a file, None if it is not there."""
        if not self._exists(name):
            return None
        stream = self.files.open(self._path(self.folder, name))
        text = bytes(stream.readAllBytes()).decode()
        stream.close()
        return text

    def _write(self, name: str, text: str) -> None:
        stream: Any = self.files.create(self._path(self.folder, name), True)
        stream.write(bytearray(text.encode()))
        stream.close()


def mismatch(settings: Settings, cause: str) -> str:
    """The line for a checkpoint with which the job cannot go on."""
    return (
        f"The checkpoint {settings.checkpoint_dir} does not fit the topic {settings.raw_topic}:"
        f" {cause}."
        " To start over from the topic's earliest record type:"
        " python spark.py --reset-checkpoint"
    )


def confirm_reset(settings: Settings) -> None:
    """Ask before the checkpoint is removed; raises Failure unless the answer is yes."""
    if not sys.stdin.isatty():
        raise Failure(
            "--reset-checkpoint asks before it forgets the progress,"
            " and nobody can answer here: add --yes"
        )
    print(
        f"Forget the progress in {settings.checkpoint_dir}"
        f" and count {settings.raw_topic} from its earliest record? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("The checkpoint is left as it is")
