"""A recording: one file per snapshot, gzipped but otherwise unchanged, in a folder per day.

    2024-11-19/20241119T082218Z.json.gz

Days and times are in UTC, so sorting the names sorts the snapshots, even when the clocks change.
"""

import gzip
import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

from velib.errors import Failure
from velib.feed.snapshot import Snapshot
from velib.runtime import log

NAME_FORMAT = "%Y%m%dT%H%M%SZ.json.gz"


def file_name(last_updated: int) -> str:
    """The path of a snapshot's file below the recording's folder: day and name."""
    moment = datetime.fromtimestamp(last_updated, timezone.utc)
    return f"{moment:%Y-%m-%d}/{moment:{NAME_FORMAT}}"


def time_of(name: str) -> int | None:
    """The snapshot (epoch seconds) whose file has this name, None if it is another file's name."""
    try:
        moment = datetime.strptime(name, NAME_FORMAT).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int(moment.timestamp()) if f"{moment:{NAME_FORMAT}}" == name else None


class Recording:
    """Writes snapshots to a folder. If that fails it warns once, and raises nothing."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it is missing; raises Failure if it cannot be written to."""
        self.folder = folder
        self.day: Path | None = None  # the folder of the newest snapshot
        self.is_failing = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise Failure(f"Nothing can be recorded in {folder}: {error.strerror}") from None

    def keep(self, snapshot: Snapshot) -> None:
        """Write the snapshot, unless its file exists."""
        path = self.folder / file_name(snapshot.last_updated)
        try:
            if path.exists():
                return
            _write(path, gzip.compress(snapshot.body, mtime=snapshot.last_updated))
            self._log_previous_day(path.parent)
        except OSError as error:
            if not self.is_failing:
                message = "Snapshots are published, but not recorded in %s: %s"
                log.warning(message, self.folder, error.strerror)
            self.is_failing = True
            return
        if self.is_failing:
            log.info("Snapshots are recorded in %s again", self.folder)
        self.is_failing = False

    def _log_previous_day(self, day: Path) -> None:
        """At the first snapshot of a day, log the size of the previous day."""
        if self.day is not None and day > self.day:
            sizes = [path.stat().st_size for path in self.day.glob("*.json.gz")]
            megabytes = sum(sizes) / 1e6
            log.info("Recorded %d snapshots of %s: %.1f MB", len(sizes), self.day.name, megabytes)
        self.day = max(day, self.day or day)


def _write(path: Path, content: bytes) -> None:
    """Create a file, complete or not at all, even if the machine crashes; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")  # each producer has its own
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
