"""What the consumer makes of a record, without Kafka."""

import json
import time

import pytest

import consumer

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


def test_a_total_is_one_aligned_line_in_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        names = {"75016": "Paris 16e", "92130": "Issy-les-Moulineaux"}
        assert consumer.as_text(TOTAL, names) == (
            "75016  Paris 16e              412 bikes ( 240 mechanical +  172 electric)   1391 docks   62 stations"
            "  2024-11-19 09:22:18"
        )
    finally:
        monkeypatch.undo()
        time.tzset()


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
        VALUE.replace(b"75016", b"\\u001b[2J"),
        VALUE.replace(b"1732004538", b"99999999999999999999"),
    ],
)
def test_what_is_no_total_is_not_printed_and_cannot_move_the_terminal(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert consumer.parse(value) is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].isprintable()


def test_an_exact_repeat_is_printed_once_and_a_changed_total_again() -> None:
    changed = VALUE.replace(b"412", b"413")
    printed = [item for item in consumer.wanted(iter([VALUE, VALUE, None, changed, VALUE]), None) if item]
    assert [text for text, _ in printed] == [VALUE.decode(), changed.decode()]


def test_postal_codes_can_be_chosen() -> None:
    other = VALUE.replace(b"75016", b"93200")
    printed = [item for item in consumer.wanted(iter([VALUE, other]), ["93200"]) if item]
    assert [text for text, _ in printed] == [other.decode()]


def test_every_postal_code_of_the_network_has_a_name() -> None:
    names = consumer.place_names()
    assert len(names) == 89
    assert names["93450"] == "L’Île-Saint-Denis"


@pytest.mark.parametrize("arguments", [["--postal-code", "7501"], ["--max-messages", "0"], ["--timeout-ms", "soon"]])
def test_a_bad_option_ends_with_status_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["consumer.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        consumer.main()
    assert ended.value.code == 2
