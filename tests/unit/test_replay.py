"""Which recorded snapshots a replay finds, and in which order and at which pace, without Kafka."""

import gzip
import json
import os
import subprocess
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import kafka_project
from tests.expected import feed, station
from velib import runtime
from velib.errors import Failure
from velib.feed.snapshot import Snapshot, parse
from velib.git_history import GitHistory
from velib.producer import recorded
from velib.producer.recording import Recording
from velib.producer.replay import Replay

MORNING = 1732004538  # 2024-11-19 08:22:18 UTC


def answer(last_updated: int, **fields: Any) -> bytes:
    return json.dumps(feed(last_updated, station(**fields))).encode()


def published(replay: Replay, newest: int = 0) -> list[Snapshot]:
    """What a replay publishes into a topic with this newest snapshot."""
    snapshots: list[Snapshot] = []
    replay.publish_after(newest, snapshots.extend, Event())
    return snapshots


def times(path: Path, start: int | None = None, end: int | None = None) -> list[int]:
    """The times of all snapshots that a replay of a span publishes."""
    return [one.last_updated for one in published(Replay(path, start, end, 0))]


def record(folder: Path, *minutes: int) -> None:
    recording = Recording(folder)
    for minute in minutes:
        recording.keep(parse(answer(MORNING + 60 * minute, bikes=minute)))


def test_a_recording_is_replayed_as_it_came_in_the_order_of_its_times(tmp_path: Path) -> None:
    record(tmp_path, 3, 1_440, 1, 2)
    snapshots = published(Replay(tmp_path, None, None, 0))
    assert snapshots == [
        Snapshot(MORNING + 60 * minute, [station(bikes=minute)]) for minute in (1, 2, 3, 1_440)
    ]


def test_files_of_others_are_ordered_by_the_time_in_them_whatever_their_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(answer(MORNING + 120))
    (tmp_path / "b.gz").write_bytes(gzip.compress(answer(MORNING + 60)))
    (tmp_path / "deep/er/misleading.json").write_bytes(gzip.compress(answer(MORNING + 180)))
    sorted_keys = feed(MORNING, *[station(name="x" * 100)] * 100)
    at_the_end = json.dumps(sorted_keys, sort_keys=True, indent=2).encode()
    assert at_the_end.index(b"lastUpdatedOther") > recorded.HEAD
    (tmp_path / "deep/sorted").write_bytes(at_the_end)
    (tmp_path / ".hidden").write_bytes(answer(MORNING + 240))
    (tmp_path / "station_information.json").write_bytes(answer(MORNING + 300))
    assert times(tmp_path) == [MORNING + 60 * minute for minute in range(4)]
    assert times(tmp_path / "b.gz") == [MORNING + 60]


def test_a_span_begins_with_from_and_ends_before_to(tmp_path: Path) -> None:
    record(tmp_path, 0, 1, 2, 3)
    assert times(tmp_path, MORNING + 60, MORNING + 180) == [MORNING + 60, MORNING + 120]
    with pytest.raises(Failure, match="none of the 4 snapshots below"):
        Replay(tmp_path, MORNING + 181, None, 0)
    with pytest.raises(Failure, match="none of the 4 snapshots below"):
        Replay(tmp_path, None, 0, 0)


def test_without_a_snapshot_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no snapshot below"):
        Replay(tmp_path, None, None, 0)
    with pytest.raises(Failure, match=r"Nothing to replay: there is no .*missing"):
        Replay(tmp_path / "missing", None, None, 0)


BROKEN = {
    "truncated.gz": gzip.compress(answer(MORNING + 60, name="x" * 50_000))[:-30],
    "not-gzip.gz": b"\x1f\x8bnot gzip",
    "page.html": b"<html>502 Bad Gateway</html>",
    "empty": b"",
    "half.json": answer(MORNING + 120)[:-10],
    "list.json": b"[]",
    "no-stations.json": json.dumps(feed(MORNING + 180)).encode(),
    "no-time.json": json.dumps({"data": {"stations": [station()]}}).encode(),
    "other.json": json.dumps(feed(MORNING + 240, {"stationCode": "1", "lat": 48.8})).encode(),
    "of-the-year-10000.json": answer(253_402_300_800),
    "in-milliseconds.json": answer(MORNING * 1000),
    "tomorrow.json": answer(int(time.time()) + 86_400),
    "99991231T235959Z.json.gz": gzip.compress(answer(MORNING)),
    "20241119T082918Z.json.gz": gzip.compress(answer(MORNING)),  # the name says 08:29:18
}


def test_a_broken_file_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, 0, 10)
    for name, content in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    assert times(tmp_path) == [MORNING, MORNING + 600]
    named = {line.split(" is skipped: ")[0]: line for line in caplog.messages}
    assert named.keys() == {str(tmp_path / name) for name in BROKEN}
    assert len(caplog.messages) == len(BROKEN)


def test_a_time_that_the_first_bytes_cut_off_is_looked_for_in_the_whole_file(
    tmp_path: Path,
) -> None:
    for cut in range(12):
        body = answer(MORNING + cut)
        digits_end = body.index(b"lastUpdatedOther") + len(b'lastUpdatedOther": 1732004538')
        (tmp_path / f"{cut}").write_bytes(b" " * (recorded.HEAD - digits_end + cut) + body)
    assert times(tmp_path) == [MORNING + cut for cut in range(12)]


def test_what_is_no_regular_file_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "history", 0)
    os.mkfifo(tmp_path / "history" / "pipe")
    (tmp_path / "history" / "dangling").symlink_to(tmp_path / "missing")
    record(tmp_path / "elsewhere", 1)
    (tmp_path / "history" / "link").symlink_to(tmp_path / "elsewhere")
    assert times(tmp_path / "history") == [MORNING]
    assert {line.split(": ")[0] for line in caplog.messages} == {
        f"{tmp_path}/history/{name} is skipped" for name in ("pipe", "dangling", "link")
    }
    assert times(tmp_path / "history" / "link") == [MORNING + 60]


def test_a_file_that_was_removed_meanwhile_is_skipped_and_a_folder_stops_the_replay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, 0, 1, 1_440)
    replay = Replay(tmp_path, None, None, 0)
    (tmp_path / "2024-11-19" / "20241119T082318Z.json.gz").unlink()
    (tmp_path / "2024-11-20").rename(tmp_path / "elsewhere")
    snapshots: list[Snapshot] = []
    with pytest.raises(Failure, match=r"20241120T.* cannot be read: No such file or directory\."):
        replay.publish_after(0, snapshots.extend, Event())
    assert [one.last_updated for one in snapshots] == [MORNING]
    (line,) = caplog.messages
    assert line.endswith("20241119T082318Z.json.gz is skipped: it has been removed")


def test_a_copy_of_a_snapshot_is_not_published_twice(tmp_path: Path) -> None:
    record(tmp_path, 0, 1)
    (tmp_path / "1 is broken.json").write_bytes(answer(MORNING + 60)[:-1])
    (tmp_path / "copy.json").write_bytes(answer(MORNING))
    assert times(tmp_path) == [MORNING, MORNING + 60]


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


def scrape(repository: Path, name: str, minutes: list[int]) -> None:
    """Have each snapshot overwrite a file of a repository, and commit it."""
    repository.mkdir()
    git(repository, "init", "-q")
    (repository / name).parent.mkdir(exist_ok=True)
    for minute in minutes:
        content = answer(MORNING + 60 * minute)
        is_gzipped = name.endswith(".gz")
        (repository / name).write_bytes(gzip.compress(content) if is_gzipped else content)
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", f"{minute}")


@pytest.mark.parametrize("name", ["station_status.json", "paris é/station_status.json.gz"])
def test_each_version_in_the_history_of_a_git_scraped_archive_is_a_snapshot(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    scrape(tmp_path / "archive", name, [2, 0, 1, 3])
    git(tmp_path, "clone", "-q", "--bare", "archive", "bare")
    expected = [MORNING + 60 * minute for minute in range(4)]
    assert times(tmp_path / "archive") == expected
    assert times(tmp_path / "archive" / Path(name).parent) == expected
    assert times(tmp_path / "bare") == expected
    assert caplog.messages == []


def test_a_broken_version_is_named_by_its_commit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scrape(tmp_path / "archive", "station_status.json", [0, 1])
    (tmp_path / "archive" / "station_status.json").write_text("<html>")
    git(tmp_path / "archive", "commit", "-q", "-a", "-m", "502")
    (tmp_path / "archive" / "station_status.json").unlink()
    assert times(tmp_path / "archive") == [MORNING, MORNING + 60]
    (line,) = caplog.messages
    assert line.startswith("station_status.json in ")


def test_a_git_that_ends_on_the_way_stops_the_replay(tmp_path: Path) -> None:
    scrape(tmp_path / "archive", "station_status.json", [0, 1])
    (tmp_path / "archive" / "station_status.json").unlink()
    replay = Replay(tmp_path / "archive", None, None, 0)
    (history,) = {id(one.source): one.source for one in replay.recorded}.values()
    assert isinstance(history, GitHistory) and history.process is not None
    history.process.kill()
    history.process.wait()
    with pytest.raises(Failure, match=r"^station_status.json in .* cannot be read: "):
        published(replay)


def test_a_repository_that_git_cannot_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "HEAD").write_text("nothing")
    with pytest.raises(Failure, match=r"git cannot read .*: fatal: not a git repository"):
        Replay(tmp_path, None, None, 0)


def test_a_repository_with_a_file_for_each_snapshot_is_read_as_files(tmp_path: Path) -> None:
    record(tmp_path / "files", 0, 1)
    git(tmp_path / "files", "init", "-q")
    git(tmp_path / "files", "add", ".")
    git(tmp_path / "files", "commit", "-q", "-m", "all")
    record(tmp_path / "files", 2)
    assert times(tmp_path / "files") == [MORNING, MORNING + 60, MORNING + 120]


def test_without_git_an_archive_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrape(tmp_path / "archive", "station_status.json", [0])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="is a git repository, and git, which reads it, is missing"):
        Replay(tmp_path / "archive", None, None, 0)


def test_a_replay_goes_on_after_the_newest_snapshot_of_the_topic(tmp_path: Path) -> None:
    record(tmp_path, 0, 1, 2)
    replay = Replay(tmp_path, None, None, 0)
    assert not replay.is_complete("raw", 0)
    assert not replay.is_complete("raw", MORNING - 1)
    assert not replay.is_complete("raw", MORNING + 60)
    assert [one.last_updated for one in published(replay, MORNING + 60)] == [MORNING + 120]
    assert replay.is_complete("raw", MORNING + 120)


def test_a_topic_with_other_snapshots_is_refused_and_the_line_says_what_to_do(
    tmp_path: Path,
) -> None:
    record(tmp_path, 0, 1, 2)
    replay = Replay(tmp_path, None, None, 0)
    with pytest.raises(Failure, match=r"newer than .* ones: replay into other topics") as newer:
        replay.is_complete("raw", MORNING + 121)
    assert "--from" not in str(newer.value)
    with pytest.raises(Failure, match="not among the recorded ones: ") as between:
        replay.is_complete("raw", MORNING + 61)
    start = runtime.moment(str(between.value).split('--from "')[1].split('"')[0])
    assert not Replay(tmp_path, start, None, 0).is_complete("raw", MORNING + 61)
    assert times(tmp_path, start) == [MORNING + 120]


def test_the_pace_is_that_of_the_recording_or_faster(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for second in (0, 1, 4):
        recording.keep(parse(answer(MORNING + second)))
    published_at: list[float] = []
    replay = Replay(tmp_path, None, None, 2)
    replay.publish_after(0, lambda snapshots: published_at.append(time.monotonic()), Event())
    at_first, at_second, at_third = published_at
    assert 0.4 < at_second - at_first < 1
    assert 1.9 < at_third - at_first < 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replay", "x", "--record", "y"],
        ["--replay", "x", "--once"],
        ["--speed", "0"],
        ["--from", "2026-11-01"],
        ["--to", "2026-11-01 08:00"],
        ["--replay", "x", "--speed", "fast"],
        ["--replay", "x", "--speed", "-1"],
        ["--replay", "x", "--speed", "0.0000001"],
        ["--replay", "x", "--from", "2026-11-01 08:00", "--to", "2026-11-01 08:00"],
        ["--replay", "x", "--from", "yesterday"],
    ],
)
def test_a_bad_option_ends_with_status_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["kafka_project.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        kafka_project.main(Event())
    assert ended.value.code == 2
