"""A recording's files, in a folder of the test's own."""

import gzip
import json
from pathlib import Path

import pytest

from tests.expected import feed, station
from velib.errors import Failure
from velib.feed.snapshot import Snapshot, parse
from velib.producer import recording
from velib.producer.recording import Recording

MORNING = 1732004538  # 2024-11-19 08:22:18 UTC
FIRST_FILE = "2024-11-19/20241119T082218Z.json.gz"


def snapshot(last_updated: int) -> Snapshot:
    """A snapshot as the feed sends it, with the white space of its answer."""
    return parse(json.dumps(feed(last_updated, station()), indent=4).encode())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_snapshot_is_kept_as_it_came_in_a_folder_of_its_day(tmp_path: Path) -> None:
    kept = Recording(tmp_path / "new" / "folder")
    kept.keep(snapshot(MORNING))
    assert files(tmp_path) == [f"new/folder/{FIRST_FILE}"]
    file = tmp_path / "new" / "folder" / FIRST_FILE
    sent = json.dumps(feed(MORNING, station()), indent=4).encode()
    assert gzip.decompress(file.read_bytes()) == snapshot(MORNING).body == sent
    inode = file.stat().st_ino
    kept.keep(snapshot(MORNING))
    Recording(tmp_path / "new" / "folder").keep(snapshot(MORNING))
    assert file.stat().st_ino == inode  # it was not written again


def test_the_name_tells_the_time_whatever_the_local_clock_is() -> None:
    for summer_or_winter in (1729990800, 1729994400):  # 01:00 and 02:00 UTC: both 02:00 in Paris
        name = Path(recording.file_name(summer_or_winter)).name
        assert recording.time_of(name) == summer_or_winter
    for other in ("20241131T000000Z.json.gz", "2024111T1000000Z.json.gz", "station_status.json"):
        assert recording.time_of(other) is None


def test_a_folder_that_cannot_be_written_is_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"^Nothing can be recorded in .*folder: Not a directory"):
        Recording(tmp_path / "file" / "folder")
    with pytest.raises(Failure, match=r"^Nothing can be recorded in .*file: File exists"):
        Recording(tmp_path / "file")


def test_a_failure_and_its_end_are_each_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="velib")
    kept = Recording(tmp_path / "history")
    (tmp_path / "history").rmdir()
    kept.keep(snapshot(MORNING - 60))  # a folder that was removed is created again
    day = tmp_path / "history" / "2024-11-20"
    day.write_text("in the way of the folder")
    tomorrow = MORNING + 24 * 3600
    for last_updated in (tomorrow, tomorrow + 60, MORNING - 60, tomorrow + 60):
        kept.keep(snapshot(last_updated))
    assert caplog.messages == [
        f"Snapshots are published, but not recorded in {tmp_path / 'history'}: File exists"
    ]
    day.unlink()
    kept.keep(snapshot(tomorrow + 60))
    kept.keep(snapshot(tomorrow + 120))
    assert caplog.messages[-1] == f"Snapshots are recorded in {tmp_path / 'history'} again"
    assert files(tmp_path / "history") == [
        "2024-11-19/20241119T082118Z.json.gz",
        "2024-11-20/20241120T082318Z.json.gz",
        "2024-11-20/20241120T082418Z.json.gz",
    ]


def test_the_log_says_what_a_day_takes_once_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="velib")
    Recording(tmp_path).keep(snapshot(MORNING))
    kept = Recording(tmp_path)  # the producer was restarted
    for minute in (1, 2, 24 * 60, 3, 24 * 60 + 1):  # the feed may return to an older snapshot
        kept.keep(snapshot(MORNING + 60 * minute))
    size = sum(path.stat().st_size for path in tmp_path.glob("2024-11-19/*"))
    late = (tmp_path / "2024-11-19" / "20241119T082518Z.json.gz").stat().st_size
    assert caplog.messages == [f"Recorded 3 snapshots of 2024-11-19: {(size - late) / 1e6:.1f} MB"]
