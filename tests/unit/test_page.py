"""The texts of the page: both languages say the same, and write numbers and times their own way."""

import re
from datetime import datetime

import pytest

from velib.page.text import TEXTS, Words, preferred_language


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    def values(text: str) -> list[str]:
        return sorted(re.findall(r"{(\w+)}", text))

    english, french = TEXTS["en"], TEXTS["fr"]
    assert english.keys() == french.keys()
    for name in english:
        assert values(english[name]) == values(french[name]), name
        assert french[name].strip()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("fr", "fr"),
        ("fr-CA,en;q=0.5", "fr"),
        ("en-GB,fr;q=0.9", "en"),
        ("de,fr;q=0.8,en;q=0.7", "fr"),
        ("de", "en"),
        ("", "en"),
        ("*, FR-fr;q=0.5", "fr"),
        ("frr, en;q=0.5", "en"),  # Frisian
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str) -> None:
    assert preferred_language(header) == language


def test_numbers_and_times_are_written_as_each_language_does() -> None:
    english, french = Words("en"), Words("fr")
    assert (english.number(28489), french.number(28489)) == ("28,489", "28\u202f489")
    assert (english.percent(0.384), french.percent(None)) == ("38%", "–")
    assert [english.change(n) for n in (1200, 0, -42)] == ["+1,200", "±0", "−42"]
    assert [english.age(s) for s in (-1, 14.4, 119, 7300, 200_000)] == [
        "0 s",
        "14 s",
        "119 s",
        "2 h",
        "2 d",
    ]
    assert english.time(1_732_004_538, 1_732_004_600) == "09:22:18"
    later = 1_732_204_600
    assert english.time(1_732_004_538, later) == "Tuesday 19 November 2024, 09:22:18"
    assert french.time(1_732_004_538, later) == "09:22:18 le mardi 19 novembre 2024"
    recorded_at = datetime.fromisoformat("2024-11-07T08:10:00+00:00")
    assert english.day_and_time(recorded_at) == "Thursday 7 November 2024, 09:10"
    assert french.day_and_time(recorded_at) == "jeudi 7 novembre 2024 à 09:10"
    assert english.date("2024-11-01") == "Friday 1 November 2024"
    assert french.date("2024-11-01") == "vendredi 1er novembre 2024"
    assert english.time(1_792_888_260, 1_792_888_300) == "02:31:00+02:00", "the clocks go back soon"
    assert english.time(1_792_891_860, 1_792_891_900) == "02:31:00+01:00"
