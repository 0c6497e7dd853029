"""What the consumer prints and when it ends, on a real Kafka.

Most tests run it in a thread, because to start a process takes longer than the test.
"""

import json
import os
import signal
import subprocess
import sys
import time
from threading import Event

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from local.broker import free_port
from tests import PROJECT
from tests.expected import CSV_HEADER, total
from tests.in_process import Start, own_messages
from tests.pipeline import Pipeline, wait_until
from velib.kafka.reader import Reader
from velib.totals import spans

NOW = int(time.time())
HOUR = 3600
PAST = NOW - 10 * HOUR
WEEK = 7 * 24 * HOUR


def test_the_end_of_the_topic_is_printed_first_then_older_totals_then_new_ones(
    pipeline: Pipeline,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(spans, "RECENT", 4)
    old = [total("93200", NOW - WEEK), total("75016", NOW - WEEK), total("75016", NOW, bikes=7)]
    recent = [total("75011", NOW - 60), total("75011", NOW, bikes=2)]
    recent += [total("75016", NOW - 120)]  # a job that was reset counts old snapshots again
    pipeline.write_totals(*old, recent[0])
    pipeline.write(pipeline.settings.final_topic, (b"75016", b"\x1b[2J"), (b"75016", None))
    pipeline.write_totals(*recent[1:])
    running = start("--json")
    expected = [recent[1], recent[2], old[2], old[0]]
    wait_until(lambda: running.printed_totals() == expected, "the latest totals")
    new = [total("75012", NOW + 60), total("75012", NOW + 60, bikes=6)]
    pipeline.write_totals(new[0], old[0], new[0], new[1])  # with two exact repeats
    wait_until(lambda: running.printed_totals() == [*expected, *new], "the new totals")
    assert own_messages(caplog) == ["Not a total, so ignored: b'\\x1b[2J'"]
    running.stop.set()
    running.end()


def test_all_partitions_of_a_topic_are_read(pipeline: Pipeline, start: Start) -> None:
    topic = pipeline.settings.final_topic
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1}})
        admin.wait_for_topics([topic])
    totals = [total(f"7501{partition}", NOW + partition) for partition in range(3)]
    with KafkaProducer(**pipeline.client) as producer:
        for partition, value in enumerate(totals):
            producer.send(topic, partition=partition, value=json.dumps(value).encode())
    assert start("--json", "--max-messages", "3").end().printed_totals() == totals


def test_the_options_choose_what_is_printed(pipeline: Pipeline, start: Start) -> None:
    stored = [
        total("75016", NOW - 60, 1),
        total("93200", NOW - 60, 2),
        total("75016", NOW, 3),
        total("75011", NOW, 4),
    ]
    pipeline.write_totals(*stored)

    def printed(*options: str) -> list[str]:
        return start(*options).end().printed()

    by_code = printed("--max-messages", "2", "--postal-code", "93200", "--postal-code", "75011")
    assert [line[:16] for line in by_code] == ["75011  Paris 11e", "93200  Saint-Den"]
    as_stored = printed("--from-beginning", "--json", "--max-messages", "4")
    assert as_stored == [json.dumps(value) for value in stored]
    assert printed("--csv", "--max-messages", "1") == [CSV_HEADER, f"75011,{NOW},1,4,4,0,9"]


def test_a_dead_letter_is_printed_once(pipeline: Pipeline, start: Start) -> None:
    topic = pipeline.settings.dead_letter_topic
    with KafkaAdminClient(**pipeline.client) as admin:  # the final topic is not needed
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
        admin.wait_for_topics([topic])
    with KafkaProducer(**pipeline.client) as producer:
        for raw_record, offset in ((b"\x1b[2J", b"7"), (b"\x1b[2J", b"7"), (b"{}", b"8")):
            place = [("topic", b"velib-projet"), ("partition", b"0"), ("offset", offset)]
            headers = [("reason", b"not JSON"), *place]
            producer.send(topic, key=b"16107", value=raw_record, headers=headers)
    assert start("--dead-letters", "--max-messages", "2").end().printed() == [
        "velib-projet 0:7  not JSON  key 16107  value \\u001b[2J",
        "velib-projet 0:8  not JSON  key 16107  value {}",
    ]
    as_json = start("--dead-letters", "--max-messages", "2", "--json").end().printed_totals()
    assert [(letter["offset"], letter["value"]) for letter in as_json] == [
        ("7", "\x1b[2J"),
        ("8", "{}"),
    ]


def test_the_consumer_waits_for_kafka_and_for_the_topic_and_its_timeout_counts(
    pipeline: Pipeline, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    running = start("--json")
    wait_until(lambda: "Waiting for the topic" in caplog.text, "a log line")
    used = time.process_time()
    assert start("--csv", "--timeout-ms", "3000").end().printed() == [CSV_HEADER]
    assert time.process_time() - used < 2.5  # of both, which wait and do not try all the time
    pipeline.write_totals(total("75016", NOW))
    wait_until(lambda: running.printed_totals() == [total("75016", NOW)], "a total")
    assert caplog.text.count("Waiting for the topic") == 2
    running.stop.set()
    running.end()
    pipeline.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"localhost:{free_port()}"
    waiting = start("--csv")
    wait_until(lambda: "Waiting for Kafka at localhost:" in caplog.text, "a log line")
    waiting.stop.set()
    assert waiting.end().printed() == []


def test_the_latest_totals_are_not_printed_if_the_timeout_passes_before_all_are_read(
    pipeline: Pipeline,
) -> None:
    pipeline.write_totals(*[total("75011", NOW + n) for n in range(20)])
    topic = pipeline.settings.final_topic
    with Reader(pipeline.settings, topic, Event(), timeout_ms=500) as reader:
        reader.consumer.config["max_poll_records"] = 1
        reader.before_poll = lambda: time.sleep(0.1)
        reader.renew()
        assert list(spans.latest_values_then_new(reader)) == []


def in_a_shell(pipeline: Pipeline, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with a pipe, in which CONSUMER stands for consumer.py."""
    consumer = f"{sys.executable} {PROJECT}/consumer.py"
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + command.replace("CONSUMER", consumer)],
        env=os.environ | pipeline.environment | pipeline.user("consumer.py"),
        cwd=pipeline.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_reader_of_stdout_may_leave(pipeline: Pipeline) -> None:
    # More than a pipe has room for: the consumer is still printing when `head` has ended.
    pipeline.write_totals(*[total("75011", NOW + n) for n in range(2_000)])
    done = in_a_shell(pipeline, "CONSUMER --from-beginning | head -n 3")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    done = in_a_shell(pipeline, "CONSUMER --csv | head -n 2")  # it waits for new totals
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [CSV_HEADER, f"75011,{NOW + 1_999},1,5,5,0,9"]


@pytest.mark.parametrize("is_read", [True, False])
def test_no_line_is_cut_off_when_the_consumer_is_stopped(pipeline: Pipeline, is_read: bool) -> None:
    """Whether the reader of the pipe reads on after the signal, or only when the script is gone."""
    totals = [total("75011", NOW + n) for n in range(4_000)]
    pipeline.write_totals(*totals)
    script = subprocess.Popen(
        [sys.executable, str(PROJECT / "consumer.py"), "--from-beginning", "--csv"],
        env=os.environ | pipeline.environment | pipeline.user("consumer.py"),
        cwd=pipeline.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert script.stdout is not None
    lines = [script.stdout.readline()]
    time.sleep(1)  # the pipe is full
    script.send_signal(signal.SIGTERM)
    time.sleep(1)  # the signal has arrived
    if not is_read:
        assert script.wait(20) == 0
    lines += script.stdout.readlines()
    assert script.wait(20) == 0
    as_csv = [",".join(str(value[column]) for column in CSV_HEADER.split(",")) for value in totals]
    whole = "\n".join([CSV_HEADER, *as_csv, ""])
    assert 1_000 < len(lines) < 4_000
    assert whole.startswith("".join(lines))
    assert lines[-1].endswith("\n")


def test_a_full_disk_is_one_line(pipeline: Pipeline) -> None:
    pipeline.write_totals(total("75011", NOW))
    done = in_a_shell(pipeline, "CONSUMER --max-messages 1 > /dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("The output cannot be written: No space left on device")
