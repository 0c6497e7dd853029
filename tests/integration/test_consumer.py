"""What the consumer reads and when it ends, on a real Kafka."""

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from local.broker import free_port
from tests import PROJECT
from tests.expected import CSV_HEADER, total
from tests.pipeline import Pipeline, wait_until
from velib.kafka import topics
from velib.kafka.reader import Deadline, Reader
from velib.totals import spans

NOW = int(time.time())
WEEK = 7 * 24 * 3600


OLD = [
    total("93200", NOW - WEEK),  # the stations of this postal code are not selected any more
    total("75016", NOW - WEEK),
    total("75016", NOW, bikes=7),
]
RECENT = [total("75011", NOW - spans.RECENT + n, bikes=n) for n in range(spans.RECENT)]
RECENT += [total("75016", NOW - 120, bikes=3)]  # a job that was reset counts old snapshots again


def test_the_end_of_the_topic_is_printed_first_then_older_totals_then_new_ones(
    pipeline: Pipeline,
) -> None:
    pipeline.write_totals(*OLD, *RECENT[:10])
    pipeline.write(pipeline.settings.final_topic, (b"75016", b"not a total"))
    pipeline.write_totals(*RECENT[10:])
    script = pipeline.start("consumer.py", "--json")
    wait_until(lambda: len(script.printed()) >= 4, "the latest totals")
    new = [total("75012", NOW + 60), total("75012", NOW + 60, bikes=6)]
    pipeline.write_totals(new[0], OLD[0], new[0], new[1])  # with two exact repeats
    wait_until(lambda: new[1] in script.printed_totals(), "the new totals")
    expected = [RECENT[-2], RECENT[-1], OLD[2], OLD[0], *new]
    assert script.printed_totals() == expected
    assert script.log().count("Not a total") == 1


def test_all_partitions_of_a_topic_are_read(pipeline: Pipeline) -> None:
    topic = pipeline.settings.final_topic
    with KafkaAdminClient(**pipeline.client) as admin:
        admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1}})
        admin.wait_for_topics([topic])
    latest = [total(f"7501{partition}", NOW + partition) for partition in range(3)]
    new = [total(f"7501{partition}", NOW + 60 + partition) for partition in range(3)]

    def write_to_each_partition(totals: list[dict[str, Any]]) -> None:
        with KafkaProducer(**pipeline.client) as producer:
            for partition, one in enumerate(totals):
                producer.send(topic, partition=partition, value=json.dumps(one).encode())

    write_to_each_partition(latest)
    script = pipeline.start("consumer.py", "--json")
    wait_until(lambda: script.printed_totals() == latest, "the latest totals")
    write_to_each_partition(new)
    wait_until(lambda: len(script.printed()) == 6, "the new totals")
    assert sorted(script.printed_totals()[3:], key=lambda one: one["postal_code"]) == new


def test_a_value_that_is_no_total_is_logged_and_not_printed(pipeline: Pipeline) -> None:
    topics.ensure(pipeline.settings)
    pipeline.write(pipeline.settings.final_topic, (b"75016", b"\x1b[2J"), (b"75016", None))
    pipeline.write_totals(total("75016", NOW))
    script = pipeline.start("consumer.py", "--json", "--from-beginning", "--max-messages", "1")
    assert script.end() == 0
    assert script.printed_totals() == [total("75016", NOW)]
    (line,) = script.log().splitlines()
    assert line.endswith("Not a total, so ignored: b'\\x1b[2J'")


def test_a_dead_letter_is_printed_once(pipeline: Pipeline) -> None:
    topics.ensure(pipeline.settings)
    with KafkaProducer(**pipeline.client) as producer:
        for raw_record, offset in ((b"\x1b[2J", b"7"), (b"\x1b[2J", b"7"), (b"{}", b"8")):
            place = [("topic", b"velib-projet"), ("partition", b"0"), ("offset", offset)]
            headers = [("reason", b"not JSON"), *place]
            topic = pipeline.settings.dead_letter_topic
            producer.send(topic, key=b"16107", value=raw_record, headers=headers)
    options = ("--dead-letters", "--max-messages", "2")
    as_text = pipeline.start("consumer.py", *options)
    as_json = pipeline.start("consumer.py", *options, "--json")
    assert as_text.end() == as_json.end() == 0
    assert as_text.printed() == [
        "velib-projet 0:7  not JSON  key 16107  value \\u001b[2J",
        "velib-projet 0:8  not JSON  key 16107  value {}",
    ]
    first, second = (json.loads(line) for line in as_json.printed())
    assert (first["offset"], first["value"]) == ("7", "\x1b[2J")
    assert (second["offset"], second["value"]) == ("8", "{}")


def test_the_timeout_ends_the_consumer_while_it_waits_for_kafka(pipeline: Pipeline) -> None:
    nothing = f"localhost:{free_port()}"
    started = time.monotonic()
    script = pipeline.start("consumer.py", "--timeout-ms", "3000", KAFKA_BOOTSTRAP_SERVERS=nothing)
    assert script.end() == 0
    assert 2 < time.monotonic() - started < 30
    assert "Waiting for Kafka at localhost:" in script.log()
    assert script.printed() == []


def test_the_timeout_ends_the_consumer_while_the_past_is_being_read(pipeline: Pipeline) -> None:
    pipeline.write_totals(*RECENT)
    never = Deadline(None)
    with Reader(pipeline.settings, pipeline.settings.final_topic, never) as reader:
        records = reader.read(reader.beginnings)
        next(records)
        reader.deadline = Deadline(1)
        wait_until(reader.deadline.has_passed, "the deadline")
        assert len(list(records)) < 5_000 < len(RECENT)  # one poll brings as many at most
        # Record by record it takes longer than this. The latest total of a part is not printed.
        reader.consumer.config["max_poll_records"] = 1
        reader.deadline = Deadline(300)
        assert list(spans.latest_then_new(reader)) == []
    script = pipeline.start("consumer.py", "--timeout-ms", "1")
    assert script.end() == 0
    assert script.printed() == []


def test_the_consumer_goes_on_where_it_was_when_kafka_is_back(pipeline: Pipeline) -> None:
    pipeline.use(f"localhost:{free_port()}")
    broker = pipeline.start_broker()
    pipeline.write_totals(*[total("75016", NOW, bikes) for bikes in range(10)])
    options = ("--json", "--from-beginning")
    endless = pipeline.start("consumer.py", *options)
    ends = pipeline.start("consumer.py", *options, "--timeout-ms", "8000")
    wait_until(lambda: len(endless.printed()) == len(ends.printed()) == 10, "the totals")
    broker.kill()
    killed = time.monotonic()
    assert ends.end() == 0
    assert time.monotonic() - killed < 30
    endless.wait_for("does not answer: waiting for it")
    pipeline.start_broker()
    endless.wait_for("Kafka answers again")
    pipeline.write_totals(total("75016", NOW, 10))
    wait_until(lambda: len(endless.printed()) > 10, "the new total")
    assert endless.printed_totals() == [total("75016", NOW, bikes) for bikes in range(11)]
    assert endless.log().count("does not answer") == 1
    assert endless.log().count("answers again") == 1


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


@pytest.mark.parametrize("form", ["", "--json", "--csv"])
def test_a_reader_of_stdout_may_leave(pipeline: Pipeline, form: str) -> None:
    # More than a pipe holds: the consumer is still printing when `head` has ended.
    pipeline.write_totals(*RECENT)
    done = in_a_shell(pipeline, f"CONSUMER --from-beginning {form} | head -n 3")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == ""


def test_a_reader_that_leaves_is_noticed_while_no_total_comes(pipeline: Pipeline) -> None:
    pipeline.write_totals(total("75016", NOW))
    done = in_a_shell(pipeline, "CONSUMER --csv | head -n 2")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [CSV_HEADER, f"75016,{NOW},1,5,5,0,9"]
    assert done.stderr == ""


def test_all_lines_are_in_a_file_when_the_consumer_is_stopped(pipeline: Pipeline) -> None:
    pipeline.write_totals(*RECENT)
    script = pipeline.start("consumer.py", "--from-beginning", "--csv")
    wait_until(lambda: len(script.printed()) > 1_000, "some lines")
    assert script.stop() == 0
    printed = script.printed()
    assert printed[0] == CSV_HEADER
    as_csv = [",".join(str(one[column]) for column in CSV_HEADER.split(",")) for one in RECENT]
    assert printed[1:] == as_csv[: len(printed) - 1]  # none is cut off or left out
    assert script.out.read_text().endswith("\n")


def test_a_full_disk_is_one_line(pipeline: Pipeline) -> None:
    pipeline.write_totals(*RECENT[:100])
    done = in_a_shell(pipeline, "CONSUMER --from-beginning --timeout-ms 2000 > /dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("The output cannot be written: No space left on device")
