"""The job's checkpoint: a folder, or an object store that Hadoop knows, with Spark's progress.

Beside Spark's files it holds two of the job's own, for changes that Spark would not notice:
`topic-id` reveals a topic that was deleted and created again, `counts` a job that now counts
something else. (To Spark, the sets of stations in the state are just bytes.)
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

import config
from config import Settings
from velib.errors import Failure, cause, mismatch
from velib.job.session import is_local
from velib.kafka import raw_topic
from velib.locks import locked
from velib.runtime import log
from velib.totals.records import COUNTS

SPARK_FILES = ("commits", "metadata", "offsets", "sources", "state")
TOPIC_ID_FILE, COUNTS_FILE = "topic-id", "counts"


@contextmanager
def locked_checkpoint(settings: Settings) -> Iterator[None]:
    """Lock the checkpoint against a second job while the block runs, if it is a folder: an object
    store has no locks. Raises Failure if another job uses it, or if it cannot be created or read.

    After a `kill -9` of the job, Java may run for a few more seconds without the lock. That does no
    harm: of two queries, Spark lets only one commit a batch.
    """
    folder = config.checkpoint_folder(settings)
    name = f"The checkpoint {settings.checkpoint_dir}"
    refusal = f"{name} is in use by another job: stop that one, or set VELIB_CHECKPOINT_DIR"
    with ExitStack() as stack:
        try:
            if folder is not None:
                stack.enter_context(locked(folder, refusal))
        except OSError as error:
            if not config.under_spark_submit() and settings.spark_master.startswith("local"):
                raise Failure(f"{name} cannot be written: {error.strerror}") from None
            # On a cluster the path may be one of HDFS.
        yield


class Checkpoint:
    """The folder VELIB_CHECKPOINT_DIR, and whether it fits the raw topic."""

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        """Raises Failure if Hadoop does not know the file system of the folder."""
        assert spark._jvm is not None
        self.settings = settings
        self.path = spark._jvm.org.apache.hadoop.fs.Path
        self.folder = self.path(settings.checkpoint_dir)
        try:
            self.files = self.folder.getFileSystem(spark._jsc.hadoopConfiguration())
        except Py4JJavaError as error:
            raise Failure(
                f"The checkpoint {settings.checkpoint_dir} cannot be used ({cause(error)}):"
                " correct VELIB_CHECKPOINT_DIR"
            ) from None
        if not is_local(spark) and self.files.getScheme() == "file":
            log.warning(
                "The checkpoint %s is a local folder: every machine of the cluster must have the"
                " same folder there, or VELIB_CHECKPOINT_DIR must name an object store",
                settings.checkpoint_dir,
            )

    def starting_offsets(self) -> str:
        """The option `startingOffsets` of a new query; raises KafkaError.

        Spark ignores it once the checkpoint has offsets.
        """
        if len(self.files.globStatus(self.path(self.folder, "offsets/[0-9]*")) or ()):
            return "earliest"
        return json.dumps({self.settings.raw_topic: raw_topic.first_offsets(self.settings)})

    def check(self) -> None:
        """Check that the raw topic is not compacted, and is the one that the checkpoint belongs to,
        and that the job counts what it did. Raises Failure if a check fails, or KafkaError.
        """
        raw_topic.refuse_compaction(self.settings)
        counted = json.dumps({name: (count.field, count.kind) for name, count in COUNTS.items()})
        self._remember_or_compare(
            TOPIC_ID_FILE, raw_topic.identity(self.settings), "the topic was recreated"
        )
        self._remember_or_compare(COUNTS_FILE, counted, "the job has changed what it counts")

    def _remember_or_compare(self, name: str, content: str | None, reason: str) -> None:
        """Write a file of the checkpoint if it is missing, else compare its content.

        Raises Failure with the reason if it differs; does nothing if the content is not known.
        An empty file is a missing one: a crash, or a full disk, came before its content.
        """
        file = self.path(self.folder, name)
        if not content:
            return
        known = ""
        if self.files.exists(file):
            reader: Any = self.files.open(file)
            known = bytes(reader.readAllBytes()).decode()
            reader.close()
        if not known:
            writer: Any = self.files.create(file, True)
            writer.write(bytearray(content.encode()))
            writer.close()
        elif known != content:
            raise Failure(mismatch(self.settings, reason))

    def reset(self) -> None:
        """Delete only Spark's and the job's own files: the setting may name the wrong folder."""
        for name in (*SPARK_FILES, TOPIC_ID_FILE, COUNTS_FILE):
            self.files.delete(self.path(self.folder, name), True)
        log.info("Checkpoint %s deleted", self.settings.checkpoint_dir)


def confirm_reset(settings: Settings) -> None:
    """Ask before the checkpoint is deleted; raises Failure unless the answer is yes."""
    if not sys.stdin.isatty():
        raise Failure(
            "--reset-checkpoint needs a confirmation, but stdin is not a terminal: add --yes"
        )
    print(
        f"Delete the progress in {settings.checkpoint_dir}"
        f" and count {settings.raw_topic} from its earliest record? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("The checkpoint is left as it is")
