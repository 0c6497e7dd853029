"""The text of the note of the last poll, without Kafka."""

import json

import pytest

from config import Settings
from velib.last_poll import LastPoll, from_text, group, to_text, writer

KAFKAS_LIMIT = 4096  # bytes of metadata (offset.metadata.max.bytes)


@pytest.mark.parametrize("error", ["", "The API http://x refuses: 503", "été \n\x00 🚲 \ud800"])
def test_a_note_is_read_as_it_was_written(error: str) -> None:
    last_poll = LastPoll(1732004540.25, 1732004600.25, error)
    text = to_text(last_poll, "me")
    assert from_text(text) == last_poll
    assert writer(text) == "me"


def test_a_note_without_a_poll_is_a_sign_of_life_alone() -> None:
    text = to_text(None, "me")
    assert from_text(text) is None
    assert writer(text) == "me"
    assert to_text(None, "me") != text, "a renewed note is another one"


def test_who_has_written_a_note_is_told_of_every_note() -> None:
    assert writer("") == ""
    assert writer(to_text(None, renewed_by="")) == ""
    of_an_earlier_version = json.dumps({"polled_at": 1, "next_poll_at": 2, "error": ""})
    for text in (of_an_earlier_version, "[]", "null", "[" * 100_000, "x"):
        assert writer(text) == "unknown"


def test_a_long_error_is_shortened_so_that_kafka_takes_it() -> None:
    text = to_text(LastPoll(1732004540.123456, 1732004600.123456, "🚲" * 1000), "f" * 32)
    assert len(text.encode()) < KAFKAS_LIMIT
    note = from_text(text)
    assert note is not None
    assert note.error == "🚲" * 300


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "none",
        "[" * 100_000,
        "null",
        "[]",
        "{}",
        json.dumps({"polled_at": 1, "next_poll_at": 2}),
        json.dumps({"polled_at": "1", "next_poll_at": 2, "error": ""}),
        json.dumps({"polled_at": 1, "next_poll_at": None, "error": ""}),
        json.dumps({"polled_at": True, "next_poll_at": 2, "error": ""}),
        json.dumps({"polled_at": float("nan"), "next_poll_at": 2, "error": ""}),
        json.dumps({"polled_at": 1, "next_poll_at": float("inf"), "error": ""}),
        json.dumps({"polled_at": -1, "next_poll_at": 2, "error": ""}),
        json.dumps({"polled_at": 1, "next_poll_at": 2, "error": None}),
    ],
)
def test_what_is_no_note_is_none(text: str | None) -> None:
    assert from_text(text) is None


def test_the_group_is_named_after_the_raw_topic() -> None:
    assert group(Settings()) == "velib-projet-producer"
