"""The totals of a span of snapshots, `consumer.py --since … --until …`, on a real Kafka."""

import json
import time
from threading import Event

import pytest
from kafka import KafkaProducer

from local.broker import free_port
from tests.expected import CSV_HEADER, Total, total
from tests.in_process import Start, own_messages
from tests.pipeline import Pipeline, wait_until
from velib.errors import Failure
from velib.kafka import topics
from velib.kafka.reader import Reader
from velib.runtime import local_time
from velib.totals import spans

NOW = int(time.time())
HOUR = 3600
PAST = NOW - 10 * HOUR
WEEK = 7 * 24 * HOUR


def write_at(pipeline: Pipeline, written_at: int, *totals: Total) -> None:
    """Put totals into the final topic as if it were written then (epoch seconds)."""
    topics.ensure(pipeline.settings)
    with KafkaProducer(**pipeline.client) as producer:
        for each in totals:
            producer.send(
                pipeline.settings.final_topic,
                key=each["postal_code"].encode(),
                value=json.dumps(each).encode(),
                timestamp_ms=written_at * 1000,
            )


def of_span(since: int, until: int | None = None) -> list[str]:
    """The options for a span."""
    options = ["--since", local_time(since)]
    return options if until is None else [*options, "--until", local_time(until)]


def test_a_span_that_is_over_has_the_latest_value_of_each_total_in_order(
    pipeline: Pipeline, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = [total(code, PAST + 60 * n, bikes=n) for n in range(3) for code in ("75011", "93200")]
    partial = total("93200", PAST + 60, bikes=100)
    write_at(pipeline, PAST - 3 * HOUR, total("75011", PAST + 60, bikes=99))  # written too early
    write_at(pipeline, PAST + 30, *wanted[:2], total("75011", PAST - 1), partial)
    write_at(pipeline, PAST + 200, *reversed(wanted[2:]), total("75011", PAST + 180))
    span = of_span(PAST, PAST + 180)
    assert start("--json", *span).end().printed_totals() == wanted
    chosen = start("--csv", "--postal-code", "93200", *span).end().printed()
    assert chosen == [CSV_HEADER, *[f"93200,{PAST + 60 * n},1,{n},{n},0,9" for n in range(3)]]
    assert own_messages(caplog) == []
    assert start("--csv", *of_span(PAST + 180, PAST + HOUR)).end().printed()[1:] == [
        f"75011,{PAST + 180},1,5,5,0,9"
    ]
    (warning,) = own_messages(caplog)
    assert warning.startswith(f"There are no totals after {local_time(PAST + 180)}: the job may")


def test_what_was_written_before_a_span_is_not_read(pipeline: Pipeline) -> None:
    write_at(pipeline, PAST - 2 * HOUR, *[total("75011", PAST - 2 * HOUR, bikes=n) for n in (1, 2)])
    write_at(pipeline, PAST, total("75011", PAST))
    with Reader(pipeline.settings, pipeline.settings.final_topic, Event()) as reader:
        assert list(reader.offsets_at(PAST - HOUR).values()) == [2]
        assert reader.offsets_at(PAST + 1) == reader.ends


def test_totals_of_a_replay_are_found_by_their_snapshots(pipeline: Pipeline, start: Start) -> None:
    long_ago = 1732004538
    pipeline.write_totals(total("75016", long_ago), total("75016", long_ago + 60))  # written now
    printed = start("--json", *of_span(long_ago, long_ago + 60)).end().printed_totals()
    assert printed == [total("75016", long_ago)]


def test_a_span_that_has_just_ended_waits_for_its_last_totals(
    pipeline: Pipeline, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    topics.ensure(pipeline.settings)
    until = int(time.time()) - spans.GRACE + 10
    span = [total(code, until - 60) for code in ("75011", "93200")]
    pipeline.write_totals(span[1])
    running = start("--json", *of_span(until - 60, until))
    wait_until(lambda: "Waiting until five minutes after" in caplog.text, "a log line")
    pipeline.write_totals(total("75011", until), span[0])
    assert running.end().printed_totals() == span
    assert time.time() >= until + spans.GRACE
    assert "There are no totals" not in caplog.text


def test_a_span_that_is_not_read_to_its_end_has_no_header_and_one_without_totals_has(
    pipeline: Pipeline, start: Start
) -> None:
    pipeline.write_totals(total("75011", PAST + HOUR))
    assert start("--csv", *of_span(PAST, PAST + HOUR)).end().printed() == [CSV_HEADER]
    stopped = start("--csv", *of_span(PAST, NOW + WEEK))
    stopped.stop.set()
    assert stopped.end().printed() == []
    pipeline.environment["KAFKA_BOOTSTRAP_SERVERS"] = f"localhost:{free_port()}"
    unread = start("--csv", "--timeout-ms", "1000", *of_span(PAST, PAST + HOUR))
    with pytest.raises(Failure, match=spans.NOT_WHOLE):
        unread.end()
    assert unread.printed() == []


def test_a_span_without_an_end_continues_with_new_totals(pipeline: Pipeline, start: Start) -> None:
    write_at(pipeline, PAST, total("75011", PAST - 60), total("75011", PAST))
    running = start("--json", *of_span(PAST))
    wait_until(lambda: len(running.printed()) == 1, "the total that is there")
    pipeline.write_totals(total("75011", PAST - 60, bikes=8), total("75011", PAST + 60))
    wait_until(lambda: len(running.printed()) == 2, "the new total")
    assert running.printed_totals() == [total("75011", PAST), total("75011", PAST + 60)]
    running.stop.set()
    running.end()
