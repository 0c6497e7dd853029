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
from typing import BinaryIO, NamedTuple, Protocol, cast

from velib.api import MAX_ANSWER_BYTES, FeedError
from velib.cli import log
from velib.errors import Failure
from velib.feed import Snapshot, parse
from velib.git_history import GitHistory
from velib.recording import time_of

HEAD = 4096  # bytes of a file in which its time is looked for first: it is mostly the first field
LOG_INTERVAL = 10.0  # seconds between two lines while many files are looked at
GZIP = b"\x1f\x8b"  # how a gzipped file begins
TIME = re.compile(rb'"lastUpdatedOther"\s*:\s*([0-9]{1,12})(?![0-9])')


class Source(Protocol):
    """Where answers of the API are kept, each under a name."""

    def names(self) -> Iterator[str]:
        """The names of what is there; not all of it need be answers."""
        ...

    def read(self, name: str, size: int) -> bytes:
        """The first bytes of an answer; raises OSError, EOFError or zlib.error."""
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
        for folder, folders, files in os.walk(self.path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if not (name.startswith(".") or "station_information" in name):
                    yield str(Path(folder, name))

    def read(self, name: str, size: int) -> bytes:
        with Path(name).open("rb") as file:
            is_gzipped = file.read(len(GZIP)) == GZIP
            file.seek(0)
            content = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzipped else file
            return content.read(size)


def find(path: Path, start: int, end: int) -> list[Recorded]:
    """The snapshots below a path from the time `start` up to, but without, `end`, by their time.

    What has no time is named in a warning. Raises Failure if there is nothing.
    """
    if not path.exists():
        raise Failure(f"Nothing to replay: there is no {path}")
    sources: list[Source] = [Files(path)]
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
            yield Recorded(time_of(Path(name).name) or _look_for_time(source, name), name, source)
        except (OSError, EOFError, zlib.error, FeedError) as error:
            log.warning("%s is skipped: %s", name, error)
        if time.monotonic() > next_line:
            log.info("%d files looked at for the times of their snapshots", number)
            next_line = time.monotonic() + LOG_INTERVAL


def _look_for_time(source: Source, name: str) -> int:
    """The time of an answer; most often its first bytes tell."""
    found = TIME.search(source.read(name, HEAD)) or TIME.search(source.read(name, MAX_ANSWER_BYTES))
    if found is None:
        raise FeedError("it has no time stamp (lastUpdatedOther)", "malformed")
    return int(found[1])


def read(recorded: Recorded) -> Snapshot | None:
    """The snapshot; None, with a warning that names it, if it cannot be used."""
    try:
        snapshot = parse(recorded.source.read(recorded.name, MAX_ANSWER_BYTES))
        _check(snapshot, recorded)
    except (OSError, EOFError, zlib.error, FeedError) as error:
        log.warning("%s is skipped: %s", recorded.name, error)
        return None
    return snapshot


def _check(snapshot: Snapshot, recorded: Recorded) -> None:
    if snapshot.last_updated != recorded.last_updated:
        raise FeedError("its name tells another time than its lastUpdatedOther", "malformed")
    stations = (station for station in snapshot.stations if isinstance(station, dict))
    if not any("num_bikes_available" in station for station in stations):
        raise FeedError("its stations have no num_bikes_available", "malformed")
