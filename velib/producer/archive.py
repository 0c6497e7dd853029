"""Finds recorded snapshots below a path, whether this producer or others recorded them.

They are read one at a time: only their times and places are kept in memory, about two hundred bytes
each.
"""

import os
import re
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

from config import CLOCK_TOLERANCE
from velib.errors import Failure
from velib.feed.api import FeedError
from velib.feed.snapshot import Snapshot, parse
from velib.producer.documents import Unusable, documents, without_rest
from velib.producer.recording import time_of
from velib.runtime import local_time, log

LOG_INTERVAL = 10.0  # seconds between two lines while many files are searched
TIME = re.compile(rb'"lastUpdatedOther"\s*:\s*([0-9]{1,20})[^0-9]')


class Recorded(NamedTuple):
    """The time of a snapshot, and where it is read from: its file if it is the first one there,
    else the spool (`Archive._spool`).
    """

    last_updated: int
    path: str
    offset: int = 0  # in the spool
    size: int = 0  # in the spool, 0 if it is not there


class Archive:
    """The recorded snapshots of a span, ordered by time."""

    def __init__(self, path: Path, start: int, end: float) -> None:
        """Find the snapshots below a path, from `start` until before `end` (epoch seconds).

        Logs what is skipped. Raises Failure if there is no snapshot, or if a file cannot be read.
        """
        if not path.exists():
            raise Failure(f"Nothing to replay: there is no {path}")
        self.start, self.end = start, end
        self.skipped = Skipped()
        self.recorded: list[Recorded] = []
        self.file_count = self.snapshot_count = 0
        next_line = time.monotonic() + LOG_INTERVAL
        for recorded in self._find(path):
            self.recorded.append(recorded)
            if time.monotonic() > next_line:
                found, files = len(self.recorded), self.file_count
                log.info("Looking for recorded snapshots: %d in %d files so far", found, files)
                next_line = time.monotonic() + LOG_INTERVAL
        self.recorded.sort()
        self.skipped.log()
        if not self.recorded:
            of_span = ", none of them from the chosen span" if self.snapshot_count else ""
            raise Failure(
                f"Nothing to replay: {path} has {self.snapshot_count or 'no'} snapshots"
                f" (files: {self.file_count}){of_span}"
            )

    def read(self, recorded: Recorded) -> Snapshot | None:
        """The snapshot, None if it cannot be used; raises Failure if its file cannot be read."""
        try:
            return _parse(self._document(recorded), recorded)
        except (Unusable, FeedError) as error:
            self.skipped.add(recorded.path, str(error))
            self.skipped.log(only_new=True)
            return None

    def _find(self, path: Path) -> Iterator[Recorded]:
        for file in self._files(path):
            self.file_count += 1
            try:
                yield from self._snapshots_in(file)
            except Unusable as error:
                self.skipped.add(file, str(error))

    def _files(self, path: Path) -> Iterator[str]:
        if path.is_file():
            yield str(path)
            return
        for folder, folders, files in os.walk(path, onerror=self._skip_folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in folders:
                if Path(folder, name).is_symlink():
                    self.skipped.add(str(Path(folder, name)), "it is a link to a folder")
            for name in sorted(files):
                file = Path(folder, name)
                if name.startswith(".") or "station_information" in name:
                    continue
                if file.is_file():
                    yield str(file)
                else:  # such as a pipe, from which reading would wait forever
                    self.skipped.add(str(file), "it is not a regular file")

    def _skip_folder(self, error: OSError) -> None:
        self.skipped.add(str(error.filename), f"the folder cannot be read ({error.strerror})")

    def _snapshots_in(self, file: str) -> Iterator[Recorded]:
        """The snapshots of the span in a file; raises Unusable if it has none or is damaged.

        The name of a recording's file contains its time, so it is not opened.
        """
        time_in_name = time_of(Path(file).name)
        is_first = True
        for document in documents(Path(file)) if time_in_name is None else [b""]:
            last_updated = time_in_name or _time_in(document)
            if last_updated is None:
                start = document[:40].decode(errors="replace")
                reason = f"it has no timestamp, lastUpdatedOther (it starts with {start!r})"
                self.skipped.add(file, reason)
            elif not 0 < last_updated < time.time() + CLOCK_TOLERANCE:
                self.skipped.add(file, "its timestamp is 0 or in the future")
            else:
                self.snapshot_count += 1
                if self.start <= last_updated < self.end:
                    place = (0, 0) if is_first else self._put_into_spool(document)
                    yield Recorded(last_updated, file, *place)
                    is_first = False

    @cached_property
    def _spool(self) -> IO[bytes]:
        """A temporary file from which each snapshot can be read without unpacking the others."""
        return tempfile.TemporaryFile()

    def _put_into_spool(self, document: bytes) -> tuple[int, int]:
        packed = zlib.compress(document, level=1)
        try:
            offset = self._spool.seek(0, os.SEEK_END)
            self._spool.write(packed)
        except OSError as error:
            raise Failure(
                f"A file with several snapshots needs room in {tempfile.gettempdir()} (TMPDIR):"
                f" {error.strerror}"
            ) from None
        return offset, len(packed)

    def _document(self, recorded: Recorded) -> bytes:
        if recorded.size:
            self._spool.seek(recorded.offset)
            return zlib.decompress(self._spool.read(recorded.size))
        for document in documents(Path(recorded.path)):
            if _time_in(document) == recorded.last_updated:
                return document
        raise Unusable("it has no snapshot of the time in its name")


class Skipped:
    """Counts what is skipped, and logs one line for each reason."""

    def __init__(self) -> None:
        self.examples: dict[str, tuple[str, str]] = {}
        self.counts: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()

    def add(self, name: str, reason: str) -> None:
        """Count a skipped file; reasons that differ only after a colon or bracket are the same."""
        kind = re.split(r": | \(", reason)[0]
        self.examples.setdefault(kind, (name, reason))
        self.counts[kind] += 1

    def log(self, only_new: bool = False) -> None:
        """Log each reason whose count has grown, or only the reasons not logged yet."""
        for kind, count in self.counts.items():
            if count > self.logged[kind] and not (only_new and self.logged[kind]):
                name, reason = self.examples[kind]
                many = f"{count} files or parts are skipped, such as {name}"
                log.warning("%s: %s", f"{name} is skipped" if count == 1 else many, reason)
                self.logged[kind] = count


def _time_in(document: bytes) -> int | None:
    found = TIME.search(document)
    return None if found is None else int(found[1])


def _parse(document: bytes, recorded: Recorded) -> Snapshot:
    """The snapshot in a document; raises Unusable, FeedError."""
    try:
        snapshot = parse(document)
    except FeedError:
        snapshot = parse(without_rest(document))
    if snapshot.last_updated != recorded.last_updated:
        raise Unusable(
            f"it has two timestamps: {local_time(snapshot.last_updated)} and"
            f" {local_time(recorded.last_updated)}"
        )
    stations = (station for station in snapshot.stations if isinstance(station, dict))
    if not any("num_bikes_available" in station for station in stations):
        raise Unusable("its stations have no num_bikes_available")
    return snapshot
