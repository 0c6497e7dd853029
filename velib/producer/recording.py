"""A recording: every snapshot as it came, one gzipped file each, in a folder for each day (UTC).

    2024-11-19/20241119T082218Z.json.gz

The name has the snapshot's time in UTC, so the order of the names is that of the snapshots, also
when the clocks change. A file appears whole: it is written under another name and then renamed.
"""

import gzip
import os
import re
import tempfile
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast
from uuid import uuid4

from velib.errors import Failure
from velib.feed.snapshot import Snapshot
from velib.runtime import log

NAME_FORMAT = "%Y%m%dT%H%M%SZ.json.gz"
GZIP = b"\x1f\x8b"  # how a gzipped file begins
NAME = re.compile(r"\d{8}T\d{6}Z\.json\.gz")
ESTIMATE_AFTER = 10  # snapshots after which a log line says what a day takes
DAY = 24 * 3600  # seconds
LEFT_OVER_AFTER = 3600  # seconds: a younger hidden file may be one that another producer writes


def file_name(last_updated: int) -> str:
    """The place of a snapshot in a recording's folder: day and name."""
    moment = datetime.fromtimestamp(last_updated, timezone.utc)
    return f"{moment:%Y-%m-%d}/{moment:{NAME_FORMAT}}"


def time_of(name: str) -> int | None:
    """The snapshot (epoch seconds) that a file's name tells, None if it is not a recording's."""
    if not NAME.fullmatch(name):
        return None
    try:
        moment = datetime.strptime(name, NAME_FORMAT)
    except ValueError:  # such as the 31st of November
        return None
    return int(moment.replace(tzinfo=timezone.utc).timestamp())


def unpacked(file: BinaryIO, size: int) -> bytes:
    """The first bytes of a file or, if it is gzipped, of what is in it; raises what gzip raises."""
    is_gzipped = file.read(len(GZIP)) == GZIP
    file.seek(0)
    content = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzipped else file
    return content.read(size)


class Recording:
    """Keeps snapshots in a folder. While that fails it warns once, and does not stop the caller.

    It may be used by several threads.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is missing; raises Failure if nothing can be written there."""
        self.folder = folder
        self.lock = Lock()
        self.missing: set[int] = set()  # the snapshots that could not be written
        self.failing_since: float | None = None
        self.kept: list[tuple[int, int]] = []  # snapshot and bytes of the first ones
        self.newest = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for hidden_file in self.folder.glob("*/.*.json.gz.tmp"):
                _remove_if_left_over(hidden_file)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"can this folder be written?")
        except OSError as error:
            raise Failure(f"Nothing can be recorded in {folder}: {error.strerror}") from None

    def keep(self, snapshot: Snapshot) -> None:
        """Write the snapshot unless it is there already."""
        with self.lock:
            path = self.folder / file_name(snapshot.last_updated)
            try:
                if path.exists():
                    return
                path.parent.mkdir(parents=True, exist_ok=True)
                body = gzip.compress(snapshot.body, mtime=snapshot.last_updated)
                _write_in_one_step(path, body)
                self._succeeded(snapshot, len(body))
            except OSError as error:
                self._failed(snapshot, error)

    def _failed(self, snapshot: Snapshot, error: OSError) -> None:
        self.missing.add(snapshot.last_updated)
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.warning(
                "Snapshots are not recorded in %s, only published: %s."
                " Each poll tries to record the newest one; those before it stay missing",
                self.folder,
                error.strerror,
            )

    def _succeeded(self, snapshot: Snapshot, size: int) -> None:
        self.missing.discard(snapshot.last_updated)
        if self.failing_since is not None:
            log.info(
                "Snapshots are recorded again after %.0f s: %d are missing",
                time.monotonic() - self.failing_since,
                len(self.missing),
            )
            self.failing_since = None
            self.missing.clear()
        self._log_size(snapshot.last_updated, size)

    def _log_size(self, last_updated: int, size: int) -> None:
        """Log what a day takes: an estimate after the first snapshots, then each day's end."""
        if len(self.kept) < ESTIMATE_AFTER:
            self.kept.append((last_updated, size))
            if len(self.kept) == ESTIMATE_AFTER:
                log.info("The recording takes about %.0f MB a day", _megabytes_a_day(self.kept))
        if 0 < self.newest // DAY < last_updated // DAY:
            day = (self.folder / file_name(self.newest)).parent
            sizes = [path.stat().st_size for path in day.glob("*.json.gz")]
            log.info(
                "The recording of %s: %d snapshots, %.1f MB", day.name, len(sizes), sum(sizes) / 1e6
            )
        self.newest = max(self.newest, last_updated)


def _megabytes_a_day(kept: list[tuple[int, int]]) -> float:
    """What a day takes at the size and the pace of these snapshots."""
    times = [last_updated for last_updated, _ in kept]
    period = (max(times) - min(times)) / (len(kept) - 1)
    return sum(size for _, size in kept) / len(kept) * DAY / period / 1e6


def _remove_if_left_over(hidden_file: Path) -> None:
    with suppress(FileNotFoundError):  # another producer has just renamed it
        if time.time() - hidden_file.stat().st_mtime > LEFT_OVER_AFTER:
            hidden_file.unlink()


def _write_in_one_step(path: Path, content: bytes) -> None:
    """Make a file that is whole even if the machine stops now; raises OSError."""
    temporary = path.with_name(f".{uuid4().hex}.{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name is on disk, too
    finally:
        os.close(folder)
