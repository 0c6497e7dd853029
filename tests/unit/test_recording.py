"""A recording's files, in a folder of the test's own."""

import gzip
import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.expected import feed, station
from velib.errors import Failure
from velib.feed.snapshot import Snapshot, parse
from velib.producer import recording
from velib.producer.recording import Recording

MORNING = 1732004538  # 2024-11-19 08:22:18 UTC


def snapshot(last_updated: int) -> Snapshot:
    """A snapshot as the feed gives it, with the white space of its answer."""
    return parse(json.dumps(feed(last_updated, station()), indent=4).encode())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_snapshot_is_kept_as_it_came_in_a_folder_of_its_day(tmp_path: Path) -> None:
    one = snapshot(MORNING)
    Recording(tmp_path / "new" / "folder").keep(one)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path == tmp_path / "new/folder/2024-11-19/20241119T082218Z.json.gz"
    assert (
        gzip.decompress(path.read_bytes())
        == one.body
        == json.dumps(feed(MORNING, station()), indent=4).encode()
    )


def test_a_snapshot_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    kept = Recording(tmp_path)
    kept.keep(snapshot(MORNING))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    inode = path.stat().st_ino
    kept.keep(snapshot(MORNING))
    Recording(tmp_path).keep(snapshot(MORNING))
    assert path.stat().st_ino == inode


def test_the_name_tells_the_time_whatever_the_local_clock_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for summer_or_winter in (1729990800, 1729994400):  # 01:00 and 02:00 UTC: both 02:00 in Paris
        name = Path(recording.file_name(summer_or_winter)).name
        assert recording.time_of(name) == summer_or_winter
    assert recording.time_of("20241131T000000Z.json.gz") is None
    assert recording.time_of("station_status.json") is None


def test_what_a_killed_producer_left_half_written_is_removed_at_the_next_start(
    tmp_path: Path,
) -> None:
    Recording(tmp_path).keep(snapshot(MORNING))
    left_over = tmp_path / "2024-11-19" / ".20241119T082318Z.json.gz.tmp"
    another_producers = tmp_path / "2024-11-19" / ".20241119T082418Z.json.gz.tmp"
    for hidden_file, minutes in ((left_over, 61), (another_producers, 59)):
        hidden_file.write_bytes(b"\x1f\x8b")
        os.utime(hidden_file, (time.time() - 60 * minutes,) * 2)
    mine = tmp_path / "2024-11-19" / "notes.txt"
    mine.write_text("mine")
    Recording(tmp_path)
    assert files(tmp_path) == [
        "2024-11-19/.20241119T082418Z.json.gz.tmp",
        "2024-11-19/20241119T082218Z.json.gz",
        "2024-11-19/notes.txt",
    ]


def test_the_test_whether_a_folder_can_be_written_leaves_its_files_alone(tmp_path: Path) -> None:
    (tmp_path / "test").write_text("mine")
    Recording(tmp_path)
    assert files(tmp_path) == ["test"]
    assert (tmp_path / "test").read_text() == "mine"


def test_a_folder_that_has_gone_is_made_again(tmp_path: Path) -> None:
    kept = Recording(tmp_path / "history")
    (tmp_path / "history").rmdir()
    kept.keep(snapshot(MORNING))
    assert files(tmp_path) == ["history/2024-11-19/20241119T082218Z.json.gz"]


def test_a_folder_that_cannot_be_written_is_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"^Nothing can be recorded in .*folder: Not a directory"):
        Recording(tmp_path / "file" / "folder")
    with pytest.raises(Failure, match=r"^Nothing can be recorded in .*file: File exists"):
        Recording(tmp_path / "file")


def test_a_failure_is_warned_of_once_and_recording_goes_on_when_it_has_passed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="velib")
    kept = Recording(tmp_path)
    day = tmp_path / "2024-11-19"
    day.write_text("in the way of the folder")
    for last_updated in (MORNING, MORNING + 60, MORNING + 60):
        kept.keep(snapshot(last_updated))
    day.unlink()
    kept.keep(snapshot(MORNING + 60))
    kept.keep(snapshot(MORNING + 120))
    warning, resumed = caplog.messages
    assert warning == (
        f"Snapshots are not recorded in {tmp_path}, only published: File exists."
        " Each poll tries to record the newest one; those before it stay missing"
    )
    assert resumed == "Snapshots are recorded again after 0 s: 1 are missing"
    assert files(tmp_path) == [
        "2024-11-19/20241119T082318Z.json.gz",
        "2024-11-19/20241119T082418Z.json.gz",
    ]


def test_the_log_says_what_a_day_takes_after_some_snapshots_and_at_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="velib")
    kept = Recording(tmp_path)
    noise = random.Random(1).randbytes(50_000).hex()  # half a megabyte in ten snapshots
    for number in range(10):
        body = json.dumps(feed(MORNING + 60 * number, station(name=noise))).encode()
        kept.keep(parse(body))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.gz"))
    assert caplog.messages == [f"The recording takes about {size * 144 / 1e6:.0f} MB a day"]
    kept.keep(snapshot(MORNING + 24 * 3600))
    assert caplog.messages[1:] == [
        f"The recording of 2024-11-19: 10 snapshots, {size / 1e6:.1f} MB"
    ]
