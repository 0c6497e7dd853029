"""Finds the snapshots that were recorded below a path, by this producer or by anybody else.

They are files, plain or gzipped, or in a git repository the versions of `station_status.json`. Only
their times and places are kept in memory, two hundred bytes each; the answers are read one by one.
"""

import gzip
import os
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from velib.errors import Failure
from velib.feed.api import MAX_ANSWER_BYTES, FeedError
from velib.feed.snapshot import Snapshot, parse
from velib.git_history import GitHistory
from velib.kafka.topics import CLOCK_TOLERANCE
from velib.producer.recording import time_of, unpacked
from velib.runtime import local_time, log

HEAD = 4096  # bytes of a file in which its time is looked for first: it is mostly the first field
LOG_INTERVAL = 10.0  # seconds between two lines while many files are looked at
TIME = re.compile(rb'"lastUpdatedOther"\s*:\s*([0-9]{1,20})[^0-9]')
BAD_CONTENT = (EOFError, zlib.error, gzip.BadGzipFile, FeedError)


class Source(Protocol):
    """Where answers of the API are kept, each under a name."""

    def names(self) -> Iterator[str]:
        """The names of what is there; not all of it need be answers."""
        ...

    def read(self, name: str, size: int) -> bytes:
        """The first bytes of an answer; raises OSError if it cannot be read, or else one of
        BAD_CONTENT.
        """
        ...


class Recorded(NamedTuple):
    """A snapshot that was recorded, and where."""

    last_updated: int
    name: str
    source: Source


class Files:
    """The files below a folder, without hidden ones, or a single file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> Iterator[str]:
        if self.path.is_file():
            yield str(self.path)
            return
        for folder, folders, files in os.walk(self.path, onerror=_warn_of_folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in folders:
                if Path(folder, name).is_symlink():
                    log.warning("%s is skipped: it is a link to a folder", Path(folder, name))
            for name in sorted(files):
                path = Path(folder, name)
                if name.startswith(".") or "station_information" in name:
                    continue
                if path.is_file():
                    yield str(path)
                else:  # such as a pipe, from which reading would wait for ever
                    log.warning("%s is skipped: it is no regular file", path)

    def read(self, name: str, size: int) -> bytes:
        path = Path(name)
        if path.parent.is_dir() and not path.exists():
            raise FeedError("it has been removed", "malformed")
        with path.open("rb") as file:
            return unpacked(file, size)


def _warn_of_folder(error: OSError) -> None:
    log.warning("%s is skipped: %s", error.filename, error.strerror)


def find(path: Path, start: int, end: float) -> list[Recorded]:
    """The snapshots below a path from the time `start` up to, but without, `end`, by their time.

    What has no time is named in a warning. Raises Failure if there is nothing, or if something
    cannot be read.
    """
    if not path.exists():
        raise Failure(f"Nothing to replay: there is no {path}")
    sources: list[Source] = [] if GitHistory.is_bare(path) else [Files(path)]
    if GitHistory.is_at(path):
        sources.append(GitHistory(path))
    found = [one for source in sources for one in _look_through(source)]
    chosen = sorted(
        (one for one in found if start <= one.last_updated < end), key=lambda one: one[:2]
    )
    if not chosen:
        raise Failure(
            f"Nothing to replay: none of the {len(found)} snapshots below {path} is in that span"
            if found
            else f"Nothing to replay: there is no snapshot below {path}"
        )
    return chosen


def _look_through(source: Source) -> Iterator[Recorded]:
    next_line = time.monotonic() + LOG_INTERVAL
    for number, name in enumerate(source.names(), start=1):
        try:
            yield Recorded(_find_time(source, name), name, source)
        except BAD_CONTENT as error:
            log.warning("%s is skipped: %s", name, error)
        if time.monotonic() > next_line:
            log.info("Looking for recorded snapshots: %d files so far", number)
            next_line = time.monotonic() + LOG_INTERVAL


def _find_time(source: Source, name: str) -> int:
    """The time of an answer, of its name or else of its content; raises FeedError if none."""
    last_updated = time_of(Path(name).name)
    if last_updated is None:
        last_updated = _time_in(_read(source, name, HEAD))  # most often its first bytes tell
    if last_updated is None:
        last_updated = _time_in(_read(source, name, MAX_ANSWER_BYTES))
    if last_updated is None:
        raise FeedError("it has no time stamp (lastUpdatedOther)", "malformed")
    if not 0 < last_updated < time.time() + CLOCK_TOLERANCE:
        raise FeedError("its time stamp is in the future, or 0", "malformed")
    return last_updated


def _time_in(content: bytes) -> int | None:
    found = TIME.search(content)
    return None if found is None else int(found[1])


def read(recorded: Recorded) -> Snapshot | None:
    """The snapshot; None, with a warning that names it, if it cannot be used.

    Raises Failure if it cannot be read: it may be a good one.
    """
    try:
        snapshot = parse(_read(recorded.source, recorded.name, MAX_ANSWER_BYTES))
        _check(snapshot, recorded)
    except BAD_CONTENT as error:
        log.warning("%s is skipped: %s", recorded.name, error)
        return None
    return snapshot


def _read(source: Source, name: str, size: int) -> bytes:
    try:
        return source.read(name, size)
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise Failure(
            f"{name} cannot be read: {error.strerror or error}. The replay stops here, so that it"
            " leaves nothing out: start it again when the cause is mended"
        ) from None


def _check(snapshot: Snapshot, recorded: Recorded) -> None:
    if snapshot.last_updated != recorded.last_updated:
        raise FeedError(
            f"its lastUpdatedOther is {local_time(snapshot.last_updated)}, but its name or another"
            f" lastUpdatedOther in it says {local_time(recorded.last_updated)}",
            "malformed",
        )
    stations = (station for station in snapshot.stations if isinstance(station, dict))
    if not any("num_bikes_available" in station for station in stations):
        raise FeedError("its stations have no num_bikes_available", "malformed")
