"""Which recorded snapshots a replay finds, and in which order and at which pace, without Kafka."""

import bz2
import gzip
import json
import lzma
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest

import kafka_project
from tests import PROJECT
from tests.expected import feed, station
from velib import runtime
from velib.errors import Failure
from velib.feed.snapshot import Snapshot, parse
from velib.producer.documents import CHUNK
from velib.producer.recording import Recording
from velib.producer.replay import Replay

MORNING = 1732004538  # 2024-11-19 08:22:18 UTC


def answer(minute: int, **fields: Any) -> bytes:
    """What the feed sends some minutes after the first snapshot."""
    return json.dumps(feed(MORNING + 60 * minute, station(**fields))).encode()


def published(replay: Replay, newest: int = 0) -> list[list[Snapshot]]:
    """The transactions of a replay into a topic with this newest snapshot."""
    transactions: list[list[Snapshot]] = []

    def publish(snapshots: Sequence[Snapshot]) -> float:
        transactions.append([*snapshots])
        return 0.0

    replay.publish_after(newest, publish, Event())
    return transactions


def minutes(path: Path, start: int | None = None, end: int | None = None) -> list[float]:
    """The snapshots that a replay publishes, in minutes after the first one."""
    transactions = published(Replay(path, start, end, 0))
    return [
        (snapshot.last_updated - MORNING) / 60
        for snapshots in transactions
        for snapshot in snapshots
    ]


def record(folder: Path, *minutes: int) -> None:
    recording = Recording(folder)
    for minute in minutes:
        recording.keep(parse(answer(minute, bikes=minute)))


def test_a_recording_is_replayed_as_it_came_in_the_order_of_its_times(tmp_path: Path) -> None:
    record(tmp_path, 3, 1_440, 1, 2)
    assert published(Replay(tmp_path, None, None, 0)) == [
        [Snapshot(MORNING + 60 * minute, [station(bikes=minute)]) for minute in (1, 2, 3, 1_440)]
    ]


def test_files_of_others_are_ordered_by_the_time_in_them_whatever_their_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(answer(2))
    (tmp_path / "b.gz").write_bytes(gzip.compress(answer(1)))
    (tmp_path / "deep/er/misleading.json").write_bytes(gzip.compress(answer(3)))
    sorted_keys = feed(MORNING, *[station(name="x" * CHUNK)] * 2)
    (tmp_path / "deep/sorted").write_text(json.dumps(sorted_keys, sort_keys=True, indent=2))
    (tmp_path / ".hidden").write_bytes(answer(4))
    (tmp_path / "station_information.json").write_bytes(answer(5))
    assert minutes(tmp_path) == [0, 1, 2, 3]
    assert minutes(tmp_path / "b.gz") == [1]


SORTED = json.dumps(feed(MORNING, station(name="}{ [{")), sort_keys=True).encode()
PRETTY = json.dumps(feed(MORNING, station()), indent=2).encode()
CUT_OFF = answer(9, name="x" * 1_000)[:-900]
PAGE = b"<html><style>b {c: d}</style>502</html>\n"
SEVERAL = {
    "lines": b"\n".join([*map(answer, (1, 2)), SORTED]),
    "with line ends of Windows": b"\r\n\r\n".join(map(answer, range(3))) + b"\r\n",
    "without a line end": b"".join(map(answer, range(3))),
    "with sorted fields": SORTED + SORTED.replace(b"1732004538", b"1732004598") + answer(2),
    "of several lines each": PRETTY + PRETTY.replace(b"1732004538", b"1732004598") + answer(2),
    "a list": b"[" + b",\n".join(map(answer, range(3))) + b"]",
    "among error pages": PAGE + answer(0) + PAGE + PAGE + answer(1) + b"\nno gateway" + answer(2),
    "after some that were cut off": CUT_OFF + answer(1) + CUT_OFF + b"\n" + answer(0) + answer(2),
    "in the order of git log": b"".join(map(answer, reversed(range(3)))),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("content", SEVERAL.values(), ids=SEVERAL)
def test_a_file_may_contain_several_snapshots(
    tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "all").write_bytes(pack(content))
    assert minutes(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_may_have_another_encoding(tmp_path: Path, encoding: str) -> None:
    for name, number in (("first", 0), ("second", 2)):
        answers = answer(number, name="Porte d’Asnières") + b"\n" + answer(number + 1)
        (tmp_path / name).write_bytes(answers.decode().encode(encoding))
    assert minutes(tmp_path) == [0, 1, 2, 3]
    (tmp_path / "both").write_bytes(
        b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    )
    assert minutes(tmp_path / "both") == [0, 1, 2, 3]


def test_snapshots_are_found_wherever_the_chunks_end_that_are_read(tmp_path: Path) -> None:
    for shift in range(-40, 10):
        padding = "x" * (CHUNK - len(answer(0, name="")) + shift)
        (tmp_path / "all").write_bytes(answer(0, name=padding) + b"\n" + answer(1) + answer(2))
        assert minutes(tmp_path) == [0, 1, 2]


def test_a_compressed_file_is_unpacked_once_whatever_the_order_in_it(tmp_path: Path) -> None:
    newest_first = b"\n".join(answer(minute, name="x" * 5_000) for minute in reversed(range(2_000)))
    (tmp_path / "all.xz").write_bytes(lzma.compress(newest_first, preset=0))
    started = time.monotonic()
    assert minutes(tmp_path) == list(range(2_000))
    assert time.monotonic() - started < 10  # a pass for each snapshot takes minutes


def test_what_precedes_damage_is_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [gzip.compress(answer(n, name=os.urandom(30_000).hex())) for n in range(3)]
    (tmp_path / "all.gz").write_bytes(b"".join(parts)[:-30])
    assert minutes(tmp_path) == [0, 1]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}/all.gz is skipped: it is damaged: Compressed file ended")


def test_a_span_begins_with_from_and_ends_before_to(tmp_path: Path) -> None:
    record(tmp_path, 0, 1)
    (tmp_path / "others").write_bytes(answer(2) + answer(3))
    assert minutes(tmp_path, MORNING + 60, MORNING + 180) == [1, 2]
    assert minutes(tmp_path, MORNING + 180) == [3]
    with pytest.raises(Failure, match=r"4 snapshots \(files: 3\), none of them from the chosen"):
        Replay(tmp_path, MORNING + 181, None, 0)


def test_without_a_snapshot_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"Nothing to replay: .* has no snapshots"):
        Replay(tmp_path, None, None, 0)
    with pytest.raises(Failure, match=r"Nothing to replay: there is no .*missing"):
        Replay(tmp_path / "missing", None, None, 0)
    (tmp_path / "half.json").write_bytes(answer(0)[:-10])
    replay = Replay(tmp_path, None, None, 0)
    with pytest.raises(Failure, match="None of the 1 recorded snapshots can be published"):
        published(replay)


BROKEN = {
    "truncated.gz": gzip.compress(answer(1, name="x" * 50_000))[:-30],
    "not-gzip.gz": b"\x1f\x8bnot gzip",
    "page.html": b"<html>502 Bad Gateway</html>",
    "empty": b"",
    "half.json": answer(2)[:-10],
    "list.json": b"[]",
    "no-stations.json": json.dumps(feed(MORNING + 180)).encode(),
    "no-time.json": json.dumps({"data": {"stations": [station()]}}).encode(),
    "other.json": json.dumps(feed(MORNING + 240, {"stationCode": "1", "lat": 48.8})).encode(),
    "in-milliseconds.json": answer(0).replace(b"1732004538", b"1732004538000"),
    "tomorrow.json": json.dumps(feed(int(time.time()) + 86_400, station())).encode(),
    "99991231T235959Z.json.gz": gzip.compress(answer(0)),
    "20241119T082918Z.json.gz": gzip.compress(answer(0)),  # the name says 08:29:18
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    record(tmp_path, 0, 10)
    (tmp_path / name).write_bytes(BROKEN[name])
    assert minutes(tmp_path) == [0, 10]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / name} is skipped: ")


def test_files_that_are_skipped_for_the_same_reason_are_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, 0)
    for number in range(100):
        other_format = {"last_updated": MORNING + number, "data": {"bikes": [{}]}}
        (tmp_path / f"{number:02}.json").write_text(json.dumps(other_format))
        (tmp_path / f"{number:02}.html").write_text(f"<html>{number}")
        (tmp_path / f"{number:02}.half").write_bytes(answer(number)[:-10])
    (tmp_path / "lines").write_bytes((tmp_path / "00.json").read_bytes() * 100)
    assert minutes(tmp_path) == [0]
    found = [line.replace(f"{tmp_path}/", "") for line in caplog.messages]
    assert [re.split(r": | \(", line)[:2] for line in found] == [
        ["100 files or parts are skipped, such as 00.html", "it contains no JSON object"],
        [
            "200 files or parts are skipped, such as 00.json",
            "it has no timestamp, lastUpdatedOther",
        ],
        ["00.half is skipped", "it is not valid JSON"],
        ["100 files or parts are skipped, such as 00.half", "it is not valid JSON"],
    ]


def test_what_is_not_a_regular_file_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "history", 0)
    os.mkfifo(tmp_path / "history" / "pipe")
    record(tmp_path / "elsewhere", 1)
    (tmp_path / "history" / "link").symlink_to(tmp_path / "elsewhere")
    assert minutes(tmp_path / "history") == [0]
    assert {line.split(": ")[0] for line in caplog.messages} == {
        f"{tmp_path}/history/{name} is skipped" for name in ("pipe", "link")
    }
    assert minutes(tmp_path / "history" / "link") == [1]


def test_a_file_that_was_removed_is_skipped_but_without_a_folder_the_replay_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, 0, 1, 1_440)
    replay = Replay(tmp_path, None, None, 0)
    (tmp_path / "2024-11-19" / "20241119T082318Z.json.gz").unlink()
    (tmp_path / "2024-11-20").rename(tmp_path / "elsewhere")
    with pytest.raises(Failure, match=r"20241120T.* cannot be read: No such file or directory\."):
        published(replay)
    (line,) = caplog.messages
    assert line.endswith("20241119T082318Z.json.gz is skipped: it has been removed")


def test_a_copy_of_a_snapshot_is_not_published_twice(tmp_path: Path) -> None:
    record(tmp_path, 0, 1)
    (tmp_path / "1 is broken.json").write_bytes(answer(1)[:-1])
    (tmp_path / "copies").write_bytes(answer(0) * 2)
    assert minutes(tmp_path) == [0, 1]


def test_the_loop_of_the_documentation_finds_every_version_of_a_git_archive(tmp_path: Path) -> None:
    file = tmp_path / "archive" / "paris é" / "station_status.json"

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path / "archive"), *identity, *arguments]
        subprocess.run(command, check=True)

    def commit(minute: int) -> None:
        file.write_bytes(answer(minute))
        git("add", ".")
        git("commit", "-q", "-m", f"{minute}")

    file.parent.mkdir(parents=True)
    git("init", "-q")
    for minute in (2, 0, 1):
        commit(minute)
    git("switch", "-q", "-c", "other")
    git("rm", "-q", str(file))
    git("commit", "-q", "-m", "removed")
    file.parent.mkdir()
    commit(3)
    git("switch", "-q", "-")
    page = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    (loop,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "git" in block]
    done = subprocess.run(["bash", "-ec", loop], cwd=file.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((file.parent / "versions").iterdir())) == 4
    assert minutes(file.parent / "versions") == [0, 1, 2, 3]


def test_a_replay_resumes_after_the_newest_snapshot_of_the_topic(tmp_path: Path) -> None:
    record(tmp_path, 0, 1, 2)
    replay = Replay(tmp_path, None, None, 0)
    assert not replay.is_published("raw", 0)
    assert not replay.is_published("raw", MORNING - 1)
    assert not replay.is_published("raw", MORNING + 60)
    assert published(replay, MORNING + 60) == [[Snapshot(MORNING + 120, [station(bikes=2)])]]
    assert replay.is_published("raw", MORNING + 120)
    assert published(replay, MORNING + 120) == []


def test_a_topic_with_other_snapshots_is_refused_and_the_line_says_what_to_do(
    tmp_path: Path,
) -> None:
    record(tmp_path, 0, 1, 2)
    replay = Replay(tmp_path, None, None, 0)
    with pytest.raises(Failure, match=r"newer than .* ones: replay into other topics") as newer:
        replay.is_published("raw", MORNING + 121)
    assert "--from" not in str(newer.value)
    with pytest.raises(Failure, match="not among the recorded ones: ") as between:
        replay.is_published("raw", MORNING + 61)
    start = runtime.moment(str(between.value).split('--from "')[1].split('"')[0])
    assert not Replay(tmp_path, start, None, 0).is_published("raw", MORNING + 61)
    assert minutes(tmp_path, start) == [2]


def test_a_transaction_has_at_most_20_snapshots_and_about_50000_records(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"\n".join(map(answer, range(45))))
    large = feed(MORNING + 60 * 45, *[{"num_bikes_available": 1}] * 50_000)
    (tmp_path / "large").write_text(json.dumps(large))
    (tmp_path / "last").write_bytes(answer(46))
    transactions = published(Replay(tmp_path, None, None, 0))
    assert [len(snapshots) for snapshots in transactions] == [20, 20, 6, 1]


def test_a_replay_keeps_the_original_pace_and_makes_up_for_delays(tmp_path: Path) -> None:
    for second in (0, 1, 4, 5, 6):
        (tmp_path / f"{second}").write_text(json.dumps(feed(MORNING + second, station())))
    started = time.monotonic()
    seen: list[tuple[float, list[int]]] = []

    def publish(snapshots: Sequence[Snapshot]) -> float:
        times = [snapshot.last_updated - MORNING for snapshot in snapshots]
        seen.append((time.monotonic() - started, times))
        if times == [4]:
            time.sleep(1.2)
        return 0.0

    Replay(tmp_path, None, None, 2).publish_after(0, publish, Event())
    assert [times for _, times in seen] == [[0], [1], [4], [5, 6]]
    for (seconds, _), expected in zip(seen, (0, 0.5, 2, 3.2), strict=True):
        assert expected <= seconds < expected + 0.4


@pytest.mark.parametrize("speed", [0, 0.01])
def test_a_replay_that_is_stopped_returns_at_once(tmp_path: Path, speed: float) -> None:
    (tmp_path / "all").write_bytes(b"\n".join(map(answer, range(60))))
    stop = Event()
    seen: list[int] = []

    def publish(snapshots: Sequence[Snapshot]) -> float:
        seen.append(len(snapshots))
        Timer(0.2 if speed else 0, stop.set).start()
        stop.wait(0 if speed else None)
        return 0.0

    started = time.monotonic()
    Replay(tmp_path, None, None, speed).publish_after(0, publish, stop)
    assert seen == [1 if speed else 20]
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replay", "x", "--record", "y"],
        ["--replay", "x", "--once"],
        ["--speed", "0"],
        ["--to", "2026-11-01 08:00"],
        ["--replay", "x", "--speed", "fast"],
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
