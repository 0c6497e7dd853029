"""The totals of a span that the consumer finds by their time, on a real Kafka."""

import json
import time

from kafka import KafkaProducer

from local.broker import free_port
from tests.expected import CSV_HEADER, Total, total
from tests.pipeline import Pipeline, wait_until
from velib.kafka import topics
from velib.kafka.reader import Deadline, Reader
from velib.runtime import local_time
from velib.totals import spans

HOUR = 3600
PAST = int(time.time()) - 10 * HOUR


def write_at(pipeline: Pipeline, written_at: int, *totals: Total) -> None:
    """Put totals into the final topic as if it were written then (epoch seconds)."""
    topics.ensure(pipeline.settings)
    with KafkaProducer(**pipeline.client) as producer:
        for one in totals:
            producer.send(
                pipeline.settings.final_topic,
                key=one["postal_code"].encode(),
                value=json.dumps(one).encode(),
                timestamp_ms=written_at * 1000,
            )


def of_span(since: int, until: int | None = None) -> list[str]:
    """The options for a span."""
    options = ["--since", local_time(since)]
    return options if until is None else [*options, "--until", local_time(until)]


def test_a_span_that_is_over_has_the_last_word_of_each_total_in_order(pipeline: Pipeline) -> None:
    wanted = [total(code, PAST + 60 * n, bikes=n) for n in range(3) for code in ("75011", "93200")]
    partial = total("93200", PAST + 60, bikes=100)
    write_at(pipeline, PAST - 3 * HOUR, total("75011", PAST + 60, bikes=99))  # written too early
    write_at(pipeline, PAST + 30, *wanted[:2], total("75011", PAST - 1), partial)
    write_at(pipeline, PAST + 200, *reversed(wanted[2:]), total("75011", PAST + 180))
    script = pipeline.start("consumer.py", "--json", *of_span(PAST, PAST + 180))
    assert script.end() == 0
    assert script.printed_totals() == wanted
    one = pipeline.start(
        "consumer.py", "--csv", "--postal-code", "93200", *of_span(PAST, PAST + 180)
    )
    assert one.end() == 0
    assert one.printed() == [
        CSV_HEADER,
        *[f"93200,{PAST + 60 * n},1,{n},{n},0,9" for n in range(3)],
    ]


def test_what_was_written_before_a_span_is_not_read(pipeline: Pipeline) -> None:
    topics.ensure(pipeline.settings)
    write_at(pipeline, PAST - 2 * HOUR, *[total("75011", PAST - 2 * HOUR, bikes=n) for n in (1, 2)])
    write_at(pipeline, PAST, total("75011", PAST))
    never = Deadline(None)
    with Reader(pipeline.settings, pipeline.settings.final_topic, never) as reader:
        (offset,) = reader.offsets_at(PAST - HOUR).values()
        assert offset == 2
        assert reader.offsets_at(PAST + 1) == reader.ends


def test_totals_of_a_replay_are_found_by_their_snapshots(pipeline: Pipeline) -> None:
    long_ago = 1732004538
    pipeline.write_totals(total("75016", long_ago), total("75016", long_ago + 60))  # written now
    script = pipeline.start("consumer.py", "--json", *of_span(long_ago, long_ago + 60))
    assert script.end() == 0
    assert script.printed_totals() == [total("75016", long_ago)]


def test_a_span_that_has_just_ended_waits_for_its_last_totals(pipeline: Pipeline) -> None:
    until = int(time.time()) - spans.GRACE + 10
    span = [total(code, until - 60) for code in ("75011", "93200")]
    pipeline.write_totals(span[1])
    script = pipeline.start("consumer.py", "--json", *of_span(until - 60, until))
    script.wait_for("Waiting for the totals before")
    pipeline.write_totals(total("75011", until), span[0])
    assert script.end() == 0
    assert script.printed_totals() == span
    assert time.time() >= until + spans.GRACE
    assert "There are no totals" not in script.log()


def test_a_span_whose_last_totals_are_not_there_is_a_warning(pipeline: Pipeline) -> None:
    write_at(pipeline, PAST, total("75011", PAST))
    script = pipeline.start("consumer.py", "--json", *of_span(PAST, PAST + HOUR))
    assert script.end() == 0
    assert script.printed_totals() == [total("75011", PAST)]
    (line,) = script.log().splitlines()
    assert f"There are no totals after {local_time(PAST)}: the job may lag behind" in line


def test_a_span_that_cannot_be_read_is_an_error_and_one_without_totals_is_a_header(
    pipeline: Pipeline,
) -> None:
    options = ["--csv", "--timeout-ms", "3000", *of_span(PAST, PAST + HOUR)]
    nothing = f"localhost:{free_port()}"
    unread = pipeline.start("consumer.py", *options, KAFKA_BOOTSTRAP_SERVERS=nothing)
    assert unread.end() == 1
    assert unread.printed() == []
    assert unread.log().splitlines()[-1].endswith(spans.NOT_WHOLE)
    pipeline.write_totals(total("75011", PAST + HOUR))
    empty = pipeline.start("consumer.py", *options)
    assert empty.end() == 0
    assert empty.printed() == [CSV_HEADER]


def test_a_span_without_an_end_goes_on_with_new_totals(pipeline: Pipeline) -> None:
    write_at(pipeline, PAST, total("75011", PAST - 60), total("75011", PAST))
    script = pipeline.start("consumer.py", "--json", *of_span(PAST))
    wait_until(lambda: len(script.printed()) == 1, "the total that is there")
    pipeline.write_totals(total("75011", PAST - 60, bikes=8), total("75011", PAST + 60))
    wait_until(lambda: len(script.printed()) == 2, "the new total")
    assert script.printed_totals() == [total("75011", PAST), total("75011", PAST + 60)]
    assert script.stop() == 0
