"""What the consumer makes of a record, without Kafka."""

import json
import time
from threading import Event

import pytest
from kafka.consumer.fetcher import ConsumerRecord

import consumer
from velib.totals import records, spans
from velib.totals.spans import Span

TOTAL = {
    "postal_code": "75016",
    "last_updated": 1732004538,
    "stations": 62,
    "num_bikes_available": 412,
    "mechanical": 240,
    "ebike": 172,
    "num_docks_available": 1391,
}
VALUE = json.dumps(TOTAL).encode()


def record(value: bytes | None, offset: int = 0, **fields: object) -> ConsumerRecord:
    """A record as kafka-python returns it, with these other fields."""
    empty = dict.fromkeys(ConsumerRecord._fields) | {"headers": []}
    return ConsumerRecord(**(empty | {"value": value, "offset": offset} | fields))


@pytest.mark.parametrize(
    ("last_updated", "local_time"),
    [
        (1732004538, "2024-11-19 09:22:18"),
        (1792888260, "2026-10-25 02:31:00+02:00"),  # an hour before the clocks go back
        (1792891860, "2026-10-25 02:31:00+01:00"),
        (1792895460, "2026-10-25 03:31:00"),
    ],
)
@pytest.mark.usefixtures("in_paris")
def test_a_total_is_one_aligned_line_in_local_time(last_updated: int, local_time: str) -> None:
    assert consumer.as_text(TOTAL | {"last_updated": last_updated}) == (
        "75016  Paris 16e                412 bikes ( 240 mechanical +  172 electric)"
        f"   1391 docks   62 stations  {local_time}"
    )


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"not JSON",
        b"\xff",
        b"[" * 100_000,
        b'{"postal_code": "75016"}',
        VALUE.replace(b"412", b'"412"'),
        VALUE.decode().encode("utf-16"),
        VALUE.decode().encode("utf-16-be"),
        VALUE.replace(b"412", b"true"),
        VALUE.replace(b"75016", b"\\u001b[2J"),
        VALUE.replace(b"1732004538", b"99999999999999999999"),
        VALUE.replace(b"1732004538", b"-1"),
        VALUE.replace(b"}", b', "extra": NaN}'),
        VALUE.replace(b"}", b', "extra": [-Infinity]}'),
        VALUE.replace(b"}", b', "extra": 1e999}'),
    ],
)
def test_a_value_that_is_not_a_total_is_one_log_line_that_cannot_move_the_terminal(
    value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert records.parse_total(value) is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].isprintable()


def test_the_memory_for_repeats_is_bounded() -> None:
    repeats = spans.Repeats()
    for number in range(spans.MAX_REMEMBERED + 1):
        repeats.check_and_remember(number, b"1")
    assert len(repeats.hashes) == spans.MAX_REMEMBERED
    assert repeats.check_and_remember(spans.MAX_REMEMBERED, b"1")
    assert not repeats.check_and_remember(0, b"1")


def test_a_total_that_has_its_first_value_again_is_no_repeat() -> None:
    repeats = spans.Repeats()
    values = [b"1", b"1", b"2", b"2", b"1"]
    found = [repeats.check_and_remember(("75016", 100), value) for value in values]
    assert found == [False, True, False, True, False]


def test_the_header_comes_with_the_first_line_or_at_the_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = consumer.Lines("header")
    assert capfd.readouterr().out == ""  # the script may still fail
    lines.add("L’Île \x1b[2J")
    assert capfd.readouterr().out == "header\nL’Île \\u001b[2J\n"
    lines.end()
    assert capfd.readouterr().out == ""
    consumer.Lines("header").end()
    assert capfd.readouterr().out == "header\n"


def test_the_latest_total_has_the_greatest_time_then_the_greatest_offset() -> None:
    def total(postal_code: str, last_updated: int, offset: int) -> ConsumerRecord:
        fields = TOTAL | {"postal_code": postal_code, "last_updated": last_updated}
        return record(json.dumps(fields).encode(), offset)

    latest: dict[str, tuple[int, int]] = {}
    end_of_topic = [
        total("93200", 60, 100),
        total("75016", 180, 101),
        total("75016", 120, 102),  # the job counted an older snapshot again
        total("93200", 60, 103),
        record(b"not a total", 104),
    ]
    later = spans.later_totals(end_of_topic, latest)
    assert [record.offset for record in later] == [101, 103]  # 75016 comes before 93200
    older_records = [
        total("75016", 240, 1),  # later than the one at the end of the topic
        total("93200", 60, 2),  # as late as the one at the end of the topic, which replaced it
        total("94120", 0, 3),
    ]
    later = spans.later_totals(older_records, latest)
    assert [record.offset for record in later] == [1, 3]
    assert spans.later_totals(end_of_topic + older_records, latest) == []


def test_a_dead_letter_is_text_whatever_its_bytes_are() -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("reason", b"not JSON"),
        ("topic", b"velib-projet"),
        ("partition", b"0"),
    ]
    headers += [("offset", b"7"), ("other", b"x"), ("empty", None)]
    dead_letter = records.parse_dead_letter(record(b"\xff\x1b" + b"x" * 99, headers=headers))
    assert dead_letter == {
        "reason": "not JSON",
        "topic": "velib-projet",
        "partition": "0",
        "offset": "7",
        "key": None,
        "value": "\\xff\x1b" + "x" * 99,
    }
    shown = "\\xff\x1b" + "x" * 55 + "…"
    assert consumer.dead_letter_as_text(dead_letter) == (
        f"velib-projet 0:7  not JSON  key None  value {shown}"
    )


def test_a_record_that_is_not_a_dead_letter_is_shown_anyway() -> None:
    written_by_hand = records.parse_dead_letter(record(None, key=b"k"))
    assert written_by_hand == dict.fromkeys(("reason", "topic", "partition", "offset"), "") | {
        "key": "k",
        "value": None,
    }


def test_a_span_is_read_when_its_last_totals_have_had_time_to_be_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    last_totals_written_at = time.time() + 0.5
    Span(until=last_totals_written_at - spans.GRACE).wait_until_written(Event())
    assert time.time() >= last_totals_written_at
    assert len(caplog.messages) == 1
    Span(until=time.time() - spans.GRACE).wait_until_written(Event())
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--table", "--json"],
        ["--table", "--dead-letters"],
        ["--table", "--from-beginning"],
        ["--table", "--sort", "docks"],
        ["--sort", "bikes"],
        ["--postal-code", "7501"],
        ["--max-messages", "0"],
        ["--timeout-ms", "soon"],
        ["--dead-letters", "--postal-code", "75016"],
        ["--csv", "--json"],
        ["--csv", "--table"],
        ["--csv", "--dead-letters"],
        ["--since", "yesterday"],
        ["--since", "2026-11-01", "--table"],
        ["--until", "2026-11-01", "--dead-letters"],
        ["--since", "2026-11-01", "--from-beginning"],
        ["--since", "2026-11-02", "--until", "2026-11-01"],
        ["--since", "2026-11-02", "--until", "2026-11-02"],
    ],
)
def test_a_bad_option_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        consumer.parse_options(arguments)
    assert ended.value.code == 2
    reason = capsys.readouterr().err.splitlines()[-1]
    assert any(argument in reason for argument in arguments)
